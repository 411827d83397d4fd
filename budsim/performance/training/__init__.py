"""Fits the models, tunes and scores them, writes reports and holds the accuracy."""
