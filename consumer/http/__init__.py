"""The HTTP face: health and metrics, served by a thread with an event loop of its own."""
