"""Plumbing that knows nothing of language models: errors, units, number formats, catalogs, settings, database, Dapr."""
