"""The scaling: what more consumers on one queue bring, and what they cost broker and store."""
