"""Read an engine's tables: the JSON files that lie in its folder."""

from __future__ import annotations

from budsim.commons.catalog import Entry, load_catalog


def load_table(engine: str, table: str) -> list[Entry]:
    """Return the entries of ``budsim/engine_ops/ENGINE/TABLE.json`` in file order.

    Raises
    ------
    CatalogError
        When the file is missing or is not a list of mappings.
    """
    return load_catalog(f"budsim.engine_ops.{engine}", f"{table}.json")
