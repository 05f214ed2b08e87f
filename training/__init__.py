"""What trains the built-in model: painter, captions, phases, evaluation. Not installed."""
