"""Plumbing that knows nothing of language models.

Errors, units, number formats, catalogs, settings, database, Dapr, log and metrics.
"""
