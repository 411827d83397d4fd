"""Reads YAML that a user gives, and refuses documents nested too deep."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from typing import Any

MOST_DEPTH = 100


def load_yaml(text: str) -> Any:
    """Return the content of a YAML document.

    Raises
    ------
    ValueError
        It is not YAML, nested more than `MOST_DEPTH` deep, or a mapping has a key twice.
    """
    return _loaded(text, "SafeLoader")


def load_yaml_text(text: str) -> Any:
    """Return the content of a YAML document with every value as it is written, as text.

    YAML 1.1 takes ``0x10`` for 16, ``1:30`` for 90 and ``1_000`` for 1000.

    Raises
    ------
    ValueError
        As `load_yaml`.
    """
    return _loaded(text, "BaseLoader")


def _loaded(text: str, name: str) -> Any:
    import yaml  # here, because most commands read none

    loader = getattr(yaml, f"C{name}", getattr(yaml, name))
    try:
        _refuse_depth(yaml.parse(text, Loader=loader))
        _refuse_repeats(yaml.compose(text, Loader=loader))
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


def _refuse_repeats(root: Any) -> None:
    """Raise `ValueError` where a mapping has a key twice: YAML would take the last one."""
    left, seen = [root] if root else [], set()
    while left:
        node = left.pop()
        if id(node) in seen or not isinstance(node.value, list):
            continue
        seen.add(id(node))
        pairs = [each for each in node.value if isinstance(each, tuple)]
        _refuse_repeated(
            [str(key.value) for key, _ in pairs if isinstance(key.value, str)],
            line=node.start_mark.line + 1,
        )
        left.extend(value for _, value in pairs)
        left.extend(each for each in node.value if not isinstance(each, tuple))


def _refuse_repeated(keys: list[str], line: int) -> None:
    if len(set(keys)) < len(keys):
        repeated, _ = Counter(keys).most_common(1)[0]
        raise ValueError(f"the mapping at line {line} has {repeated!r} twice")
