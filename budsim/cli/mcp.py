"""`budsim mcp`: the questions as tools for agents."""

from __future__ import annotations

from budsim.commons.errors import BudsimError


def mcp() -> None:
    """Serve the questions as tools of the Model Context Protocol, on stdin and stdout."""
    try:
        from budsim.agents.server import server
    except ModuleNotFoundError as error:
        if error.name is None or not error.name.startswith("mcp"):
            raise
        raise BudsimError("the tools for agents need `pip install 'budsim[mcp]'`") from error
    server().run()
