"""Catalogs shipped inside the package: lists of entries read from YAML or JSON.

Every error names the file and the entry.
"""

from __future__ import annotations

import json
from importlib.resources import files
from typing import Any

from budsim.commons.errors import CatalogError

Entry = dict[str, Any]


def load_catalog(package: str, name: str) -> list[Entry]:
    """Read a catalog file shipped with a package.

    Parameters
    ----------
    package : str
        Importable package the file lies in (``budsim.hardware_ops``).
    name : str
        Path below it; the suffix says how to read it: ``catalog/devices.json``,
        ``catalog/engines.yaml``. JSON is about thirty times faster to read, so long catalogs are
        JSON.

    Returns
    -------
    list of dict
        The entries in file order.

    Raises
    ------
    CatalogError
        The file is missing, does not parse, or is not a list of mappings with text keys.
    """
    where = f"{package}/{name}"
    entries = _parse(_read(package, name, where), name, where)
    if not isinstance(entries, list):
        raise CatalogError(
            f"{where}: the file holds {type(entries).__name__}; a catalog is a list of entries"
        )
    for index, entry in enumerate(entries):
        if not isinstance(entry, dict) or not all(isinstance(key, str) for key in entry):
            raise CatalogError(f"{where}[{index}]: {entry!r:.80} is not a mapping with text keys")
    return entries


def _read(package: str, name: str, where: str) -> str:
    try:
        return files(package).joinpath(name).read_text(encoding="utf-8")
    except (ModuleNotFoundError, OSError, UnicodeDecodeError) as error:
        raise CatalogError(f"{where}: cannot be read ({error})") from error


def _parse(text: str, name: str, where: str) -> object:
    if name.endswith(".json"):
        try:
            return json.loads(text)
        except ValueError as error:
            raise CatalogError(f"{where}: not JSON ({error})") from error
    if name.endswith((".yaml", ".yml")):
        return _parse_yaml(text, where)
    raise CatalogError(f"{where}: a catalog ends in .json or .yaml")


def _parse_yaml(text: str, where: str) -> object:
    import yaml  # here, because JSON catalogs need not pay its 10 ms

    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    try:
        return yaml.load(text, Loader=loader)
    except yaml.YAMLError as error:
        raise CatalogError(f"{where}: not YAML ({error})") from error
