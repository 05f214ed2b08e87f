"""The model's files: fetched ahead of the first start, and proved to be whole."""
