"""The fault bench: a real broker, real services, one fault at a time, and what became of every request."""
