"""The scripts that make the generated files."""
