"""The model catalog: checkpoints whose config.json and published size ship with budsim."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cache
from importlib.resources import files
from typing import Final

from budsim.commons.errors import CatalogError

QUANTIZATIONS: Final = "quantizations.json"


@dataclass(frozen=True, slots=True, kw_only=True)
class CatalogEntry:
    """One checkpoint of the catalog.

    Attributes
    ----------
    model_id : str
        Hugging Face id.
    config : mapping
        The fields of its config.json that decide its shape.
    source : str
        Where the config was read.
    parameters, parameters_source : float or None, str
        Number of parameters the publisher states, and where.
    is_embedding : bool
        Whether it is published to answer with vectors or scores.
    """

    model_id: str
    config: Mapping[str, object]
    parameters: float | None
    source: str
    parameters_source: str
    is_embedding: bool


@cache
def catalog_entries() -> Mapping[str, CatalogEntry]:
    """Return the entries by lower-case id and alias.

    Raises
    ------
    CatalogError
        A file of the catalog cannot be read.
    """
    found: dict[str, CatalogEntry] = {}
    for path in sorted((files(__package__) / "catalog").iterdir(), key=lambda item: item.name):
        if path.name.endswith(".json") and path.name != QUANTIZATIONS:
            for key, entry in _entries_of_file(path.name, path.read_bytes()):
                found.setdefault(key, entry)
    return found


def requantized(config: Mapping[str, object], name: str) -> Mapping[str, object]:
    """Return ``config`` with the quantization called ``name`` in the catalog instead of its own."""
    plain = {key: value for key, value in config.items() if key != "quantization_config"}
    text = plain.get("text_config")
    if isinstance(text, Mapping):
        plain["text_config"] = {
            key: value for key, value in text.items() if key != "quantization_config"
        }
    quantization = _quantizations()[name]
    return {**plain, "quantization_config": quantization} if quantization else plain


@cache
def _quantizations() -> Mapping[str, Mapping[str, object]]:
    content = (files(__package__) / "catalog" / QUANTIZATIONS).read_bytes()
    loaded: dict[str, dict[str, object]] = json.loads(content)
    return loaded


def _entries_of_file(file: str, content: bytes) -> Iterator[tuple[str, CatalogEntry]]:
    try:
        for entry in json.loads(content):
            yield from _named_entries(entry)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise CatalogError(f"model_ops/catalog/{file}: {error!r}") from error


def _named_entries(raw: Mapping[str, object]) -> Iterator[tuple[str, CatalogEntry]]:
    """Yield a raw entry under each of its ids and aliases, and its quantized re-releases."""
    ids, aliases, quantized = raw["ids"], raw.get("aliases", []), raw.get("quantized", {})
    config = raw["config"]
    if not (
        isinstance(ids, list)
        and isinstance(aliases, list)
        and isinstance(config, dict)
        and isinstance(quantized, dict)
    ):
        raise TypeError(f"entry {ids!r}: ids and aliases are lists, config and quantized objects")
    first = _entry(raw, ids[0], config)
    for name in ids:
        yield name.lower(), first if name == ids[0] else replace(first, model_id=name)
    for name, quantization in quantized.items():
        config_of_name = requantized(config, quantization)
        yield name.lower(), replace(first, model_id=name, config=config_of_name)
    for alias in aliases:
        yield str(alias).lower(), first


def _entry(raw: Mapping[str, object], model_id: str, config: Mapping[str, object]) -> CatalogEntry:
    parameters = raw.get("parameters")
    return CatalogEntry(
        model_id=model_id,
        config=config,
        parameters=float(str(parameters)) if parameters else None,
        source=str(raw["source"]),
        parameters_source=str(raw.get("parameters_source", "")),
        is_embedding=bool(raw.get("embedding")),
    )
