"""Towers of families: their sizes, and how they cut what they read."""
