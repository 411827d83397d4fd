"""`budsim serve`: the HTTP service."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

import typer

from budsim.cli.files import read_clusters

Host = Annotated[str, typer.Option(help="Address to listen on.")]
Port = Annotated[
    int | None, typer.Option(min=1, max=65535, help="Port to listen on; APP_PORT by default.")
]
Inventory = Annotated[
    Path | None,
    typer.Option(help="Inventory in JSON or the short YAML form. Sets INVENTORY_FILE."),
]


def serve(*, host: Host = "127.0.0.1", port: Port = None, inventory: Inventory = None) -> None:
    """Serve the HTTP API (ASGI app budsim.main:app)."""
    from budsim.commons.placeholder_secrets import load_settings
    from budsim.simulator.http.server import run_server

    if inventory:
        read_clusters(inventory, option="--inventory")
        os.environ["INVENTORY_FILE"] = str(inventory.resolve())
    run_server("budsim.main:app", load_settings(), host=host, port=port)
