"""Reads inventories and cluster files with checks; an error names the path of the bad value."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from budsim.commons.errors import InvalidInput


@dataclass(frozen=True, slots=True, kw_only=True)
class InventoryReader:
    """One mapping with the path it was found at (``clusters[0].nodes[2]``).

    A missing key and a null are the same.
    """

    path: str
    values: Mapping[str, Any]

    @classmethod
    def of(cls, value: object, path: str, meaning: str) -> InventoryReader:
        """Wrap ``value``; ``meaning`` says what the mapping describes (``a node``)."""
        if not isinstance(value, Mapping):
            raise InvalidInput(path, f"is {_shown(value)}", f"a mapping that describes {meaning}")
        return cls(path=path, values=value)

    def at(self, key: str) -> str:
        """Return the path of one field."""
        return f"{self.path}.{key}" if self.path else key

    def has(self, *keys: str) -> bool:
        """Return whether any of the fields is stated."""
        return any(self.values.get(key) is not None for key in keys)

    def text(self, key: str, *, expected: str = "text") -> str:
        """Return a text without blanks around it; empty when missing."""
        value = self.values.get(key)
        if value is None:
            return ""
        if not isinstance(value, str):
            raise InvalidInput(self.at(key), f"is {_shown(value)}", expected)
        return value.strip()

    def required_text(self, key: str, expected: str) -> str:
        """Return a text that must be stated; ``expected`` says what it is."""
        if not (value := self.text(key, expected=expected)):
            raise InvalidInput(self.at(key), "is missing", expected)
        return value

    def flag(self, key: str, *, default: bool) -> bool:
        """Return a boolean; ``default`` when missing."""
        value = self.values.get(key)
        if value is None:
            return default
        if not isinstance(value, bool):
            raise InvalidInput(self.at(key), f"is {_shown(value)}", "true or false")
        return value

    def number(self, key: str, *, most: float, unit: str) -> float | None:
        """Return a number from 0 to ``most``; None when missing."""
        value = self.values.get(key)
        if value is None:
            return None
        expected = f"a number from 0 to {most:g} ({unit})"
        if (
            isinstance(value, bool)
            or not isinstance(value, int | float)
            or (isinstance(value, float) and not math.isfinite(value))
        ):
            raise InvalidInput(self.at(key), f"is {_shown(value)}", expected)
        if not 0 <= value <= most:
            raise InvalidInput(self.at(key), f"is {_shown(value)}", expected)
        return float(value)

    def count(self, key: str, *, most: int, least: int = 0) -> int | None:
        """Return a whole number from ``least`` to ``most``; None when missing."""
        value = self.values.get(key)
        if value is None:
            return None
        expected = f"a whole number from {least} to {most}"
        # JSON writers of some languages know only floats: 8.0 is a count.
        whole = isinstance(value, int) or (isinstance(value, float) and value.is_integer())
        if isinstance(value, bool) or not whole or not least <= value <= most:
            raise InvalidInput(self.at(key), f"is {_shown(value)}", expected)
        return int(value)

    def each(self, key: str, meaning: str) -> Iterator[InventoryReader]:
        """Yield the mappings of a list with at least one; ``meaning`` says what one describes."""
        entries = self.list(key, meaning)
        if not entries:
            raise InvalidInput(
                self.at(key), "is an empty list", f"at least one entry, each {meaning}"
            )
        for index, entry in enumerate(entries):
            yield InventoryReader.of(entry, f"{self.at(key)}[{index}]", meaning)

    def list(self, key: str, meaning: str) -> Sequence[object]:
        """Return a list whose entries are not read yet; ``meaning`` says what one describes."""
        return listed(self.values.get(key), self.at(key), meaning)

    def refuse_others(self, known: frozenset[str]) -> None:
        """Raise if a key is not among ``known``, so that a misspelt key is no silent default."""
        for key in self.values:
            if key not in known:
                raise InvalidInput(
                    self.at(str(key)),
                    "is not a field of the short form",
                    f"one of {', '.join(sorted(known))}",
                )


def listed(value: object, path: str, meaning: str) -> Sequence[object]:
    """Return a list found at ``path``."""
    if not isinstance(value, list):
        raise InvalidInput(
            path,
            "is missing" if value is None else f"is {_shown(value)}",
            f"a list, each entry {meaning}",
        )
    return value


def _shown(value: object) -> str:
    """Return a short text for a wrong value: never its whole content, which may be large."""
    if isinstance(value, Mapping):
        return "a mapping"
    if isinstance(value, list):
        return "a list"
    if isinstance(value, int) and abs(value) > 10**15:
        return "an integer of more than 15 digits"
    return f"{value!r:.60}"
