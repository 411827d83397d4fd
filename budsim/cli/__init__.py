"""The terminal: `budsim COMMAND`; each command asks the same functions as the HTTP service."""

from budsim.cli.commands import app, main

__all__ = ["app", "main"]
