"""Readers of config.json: one function for each family of architectures returns a TextModel."""
