"""Bytes and seconds of one engine step: what a model needs, what a device reaches."""
