"""Finds a model by name: in the catalog, in a folder of checkpoints, or on the hub if asked to."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Final

from budsim.commons.errors import InvalidInput, NotFound
from budsim.model_ops.architecture import Architecture
from budsim.model_ops.catalog import CatalogEntry, catalog_entries
from budsim.model_ops.config import architecture_from_config
from budsim.model_ops.model_names import close_names, find_by_name, find_entry

FIELD: Final = "pretrained_model_uri"
MAX_CONFIG_BYTES: Final = 4_000_000
# Returns a model's config.json on the hub; ``None`` if the hub has no such model.
HubLookup = Callable[[str], bytes | None]


def resolve_model(
    uri: str,
    *,
    config: Mapping[str, object] | None = None,
    registry_dir: Path | None = None,
    hub: HubLookup | None = None,
) -> Architecture:
    """Return the architecture a name stands for.

    The places are asked in this order: ``config``, the catalog by exact name, ``registry_dir``, the
    catalog by spelling or path, the hub. A folder of the user's own wins over a mere likeness.

    Parameters
    ----------
    uri : str
        A catalog id or alias in any case, or a path below ``registry_dir``.
    config : mapping, optional
        Contents of a config.json, which then decides alone.
    registry_dir : Path, optional
        Folder of checkpoints; nothing outside it is read, whatever ``uri`` says.
    hub : callable, optional
        Asked for the config.json of a name found nowhere else (`budsim.commons.hub.fetch_config`).

    Raises
    ------
    NotFound
        Nobody knows the name; the hint lists close ones.
    InvalidInput, UnsupportedModel
        The config.json cannot be read.
    Unavailable
        The hub was to be asked and does not answer.
    """
    name = _cleaned(uri)
    # The caller's own config.json decides: a fine-tune may keep a catalog name and change shape.
    if config is not None:
        return architecture_from_config(name, config)
    if (entry := find_by_name(name)) is not None:
        return _architecture(entry)
    stored = _stored_config(name, registry_dir) if registry_dir is not None else None
    if stored is None and (entry := find_entry(name)) is not None:
        return _architecture(entry)
    if stored is None and hub is not None:
        stored = _hub_config(name, hub)
    if stored is not None:
        return architecture_from_config(name, stored)
    raise NotFound(FIELD, uri, _hint(name))


def _hub_config(name: str, hub: HubLookup) -> Mapping[str, object] | None:
    """Return the config.json the hub has for a name, None where it has none."""
    content = hub(name)
    return None if content is None else _parsed(name, content)


def known_models() -> tuple[str, ...]:
    """Return the ids of all catalog models, sorted, without aliases."""
    return tuple(sorted({entry.model_id for entry in catalog_entries().values()}, key=str.lower))


def published_parameters(model_id: str) -> tuple[float, str] | None:
    """Return the number of parameters the publisher states, and where.

    ``None`` if the catalog holds no such figure.
    """
    entry = find_entry(_cleaned(model_id))
    if entry is None or entry.parameters is None:
        return None
    return entry.parameters, entry.parameters_source


def _cleaned(uri: str) -> str:
    # YAML lists are pasted with their dash.
    name = uri.strip().lstrip("- ").strip()
    # No id or path is longer, and control characters would end up in logs.
    if not name or len(name) > 512 or not name.isprintable():
        expected = "a Hugging Face id such as 'meta-llama/Llama-3.1-8B-Instruct', or a path"
        raise InvalidInput(FIELD, repr(uri)[:60], expected)
    return name


def _architecture(entry: CatalogEntry) -> Architecture:
    is_in_catalog = catalog_entries().get(entry.model_id.lower()) is entry
    return _catalog_architecture(entry.model_id) if is_in_catalog else _read(entry)


# Architectures are frozen: one of each is read in a process, and equal ones are the same object.
@cache
def _catalog_architecture(model_id: str) -> Architecture:
    return _read(catalog_entries()[model_id.lower()])


def _read(entry: CatalogEntry) -> Architecture:
    # Embedding models often keep a generating class; the catalog marks them.
    architecture = architecture_from_config(entry.model_id, entry.config)
    return replace(architecture, is_embedding=True) if entry.is_embedding else architecture


def _hint(name: str) -> str:
    if names := close_names(name):
        return f"close to it: {', '.join(names)}"
    return "budsim models lists the known ones; a config.json may be given instead"


def _stored_config(name: str, registry_dir: Path) -> Mapping[str, object] | None:
    """Return the config.json below ``registry_dir``.

    ``None`` if there is none, or if the path leads outside.
    """
    root = registry_dir.resolve()
    relative = Path(name)
    if relative.is_absolute() or ".." in relative.parts:
        return None
    candidate = (root / relative).resolve()
    path = candidate if candidate.name == "config.json" else candidate / "config.json"
    # A config.json that is itself a link may lead outside: resolve once more.
    if not path.resolve().is_relative_to(root) or not path.is_file():
        return None
    # The size is asked first: a checkpoint by mistake would be read into memory.
    if path.stat().st_size > MAX_CONFIG_BYTES:
        problem = f"{name}: config.json is larger than {MAX_CONFIG_BYTES} bytes"
        raise InvalidInput(FIELD, problem, "a config.json")
    return _parsed(name, path.read_bytes())


def _parsed(name: str, content: bytes) -> Mapping[str, object]:
    try:
        config = json.loads(content)
    except (ValueError, RecursionError) as error:  # not JSON, or nested 1,000 deep
        problem = f"{name}: config.json is not JSON ({error})"
        raise InvalidInput(FIELD, problem, "a valid config.json") from error
    if not isinstance(config, dict):
        raise InvalidInput(FIELD, f"{name}: config.json holds no object", "a valid config.json")
    return config
