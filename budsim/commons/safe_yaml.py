"""Reads YAML that a user gives, and refuses documents nested too deep."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

MOST_DEPTH = 100


def load_yaml(text: str) -> Any:
    """Return the content of a YAML document.

    Raises
    ------
    ValueError
        It is not YAML, or nested more than `MOST_DEPTH` deep.
    """
    import yaml  # here, because most commands read none

    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    try:
        _refuse_depth(yaml.parse(text, Loader=loader))
        return yaml.load(text, Loader=loader)
    except (yaml.YAMLError, RecursionError) as error:
        raise ValueError(" ".join(str(error).split())) from error


def _refuse_depth(events: Iterable[object]) -> None:
    """Raise `ValueError` for a document nested deeper than any that people write.

    libyaml's loader recurses in C without a limit, and a deep document ends the process.
    """
    depth = 0
    for event in events:
        name = type(event).__name__
        depth += name.endswith("StartEvent") - name.endswith("EndEvent")
        if depth > MOST_DEPTH:
            raise ValueError(f"nested more than {MOST_DEPTH} deep")
