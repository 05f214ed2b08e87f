"""The parts of the model: tokenizer, text encoder, transformer, picture codec."""
