"""One function per family of architectures: the fields of a config.json become a Body."""
