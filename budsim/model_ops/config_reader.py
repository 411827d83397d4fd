"""Reads the values of a config.json; an error names the field that is missing, wrong or absurd."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

from budsim.commons.errors import InvalidInput, UnsupportedModel

MAX_HIDDEN: Final = 131_072
MAX_LAYERS: Final = 2_000
MAX_HEADS: Final = 8_192
MAX_WIDTH: Final = 4_194_304
MAX_EXPERTS: Final = 16_384
MAX_VOCABULARY: Final = 10_000_000
MAX_CONTEXT: Final = 1_000_000_000


@dataclass(frozen=True, slots=True)
class ConfigReader:
    """A config.json, or one of its nested objects, read with checks.

    Several names for one field are tried in order, as families name the same thing differently.
    ``null`` counts as absent. The upper bounds above are about ten times those of the largest
    published model; a larger value is a mistake.
    """

    values: Mapping[str, object]
    prefix: str = field(default="")

    def path(self, name: str) -> str:
        """Return ``name`` as the caller spells it, with the objects it is nested in."""
        return self.prefix + name

    def with_values(self, values: Mapping[str, object]) -> ConfigReader:
        """Return the config with values added or replaced, under the same path."""
        return ConfigReader({**self.values, **values}, self.prefix)

    def raw(self, *names: str) -> tuple[str, object]:
        """Return the first of ``names`` that is present, and its value.

        The first name and ``None`` if none is present.
        """
        for name in names:
            if self.values.get(name) is not None:
                return name, self.values[name]
        return names[0], None

    def has(self, *names: str) -> bool:
        """Return whether any of ``names`` is present."""
        return self.raw(*names)[1] is not None

    def integer(self, *names: str, high: int, low: int = 1, default: int | None = None) -> int:
        """Return a whole number within ``low`` and ``high``.

        Raises
        ------
        InvalidInput
            Absent without a default, not a whole number, or out of bounds.
        """
        name, value = self.raw(*names)
        expected = f"a whole number from {low} to {high}"
        if value is None:
            if default is None:
                raise InvalidInput(self.path(name), "missing", expected)
            return default
        if isinstance(value, float) and value.is_integer():
            value = int(value)
        if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
            raise InvalidInput(
                self.path(name), f"{_shown(value)} is out of range or no whole number", expected
            )
        return value

    def integers(self, name: str, *, count: int, high: int) -> tuple[int, ...] | None:
        """Return a list of ``count`` whole numbers from 0 to ``high``, ``None`` if absent."""
        value = self.values.get(name)
        if value is None:
            return None
        if (
            not isinstance(value, list | tuple)
            or len(value) != count
            or not all(isinstance(item, int) and 0 <= item <= high for item in value)
        ):
            raise InvalidInput(
                self.path(name), _shown(value), f"a list of {count} whole numbers from 0 to {high}"
            )
        return tuple(int(item) for item in value)

    def number(self, name: str, *, default: float, high: float) -> float:
        """Return a number above 0 and at most ``high``."""
        value = self.values.get(name)
        if value is None:
            return default
        if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value <= high:
            raise InvalidInput(
                self.path(name), _shown(value), f"a number above 0 and at most {high}"
            )
        return float(value)

    def flag(self, *names: str, default: bool) -> bool:
        """Return true or false."""
        name, value = self.raw(*names)
        if value is None:
            return default
        if not isinstance(value, bool):
            raise InvalidInput(self.path(name), _shown(value), "true or false")
        return value

    def text(self, name: str, *, default: str = "") -> str:
        """Return a string."""
        value = self.values.get(name)
        if value is None:
            return default
        if not isinstance(value, str):
            raise InvalidInput(self.path(name), _shown(value), "a text")
        return value

    def texts(self, name: str, *, count: int | None = None) -> tuple[str, ...]:
        """Return a list of strings, of length ``count`` if given; empty if absent."""
        value = self.values.get(name)
        if value is None:
            return ()
        if not isinstance(value, list | tuple) or not all(isinstance(item, str) for item in value):
            raise InvalidInput(self.path(name), _shown(value), "a list of texts")
        if count is not None and len(value) != count:
            raise InvalidInput(
                self.path(name), f"{len(value)} entries", f"{count}, one for each layer"
            )
        return tuple(str(item) for item in value)

    def nested(self, name: str) -> ConfigReader | None:
        """Return the object called ``name``, ``None`` if absent."""
        value = self.values.get(name)
        if value is None:
            return None
        if not isinstance(value, Mapping):
            raise InvalidInput(self.path(name), _shown(value), "an object")
        return ConfigReader(value, f"{self.path(name)}.")

    def objects(self, name: str, *, count: int) -> tuple[ConfigReader, ...]:
        """Return a list of ``count`` objects."""
        value = self.values.get(name)
        if (
            not isinstance(value, list)
            or len(value) != count
            or not all(isinstance(item, Mapping) for item in value)
        ):
            raise InvalidInput(
                self.path(name), _shown(value), f"a list of {count} objects, one for each layer"
            )
        return tuple(
            ConfigReader(item, f"{self.path(name)}[{index}].") for index, item in enumerate(value)
        )

    def unsupported(self, name: str, problem: str, expected: str) -> UnsupportedModel:
        """Return the error that says this model's shape cannot be read without guessing."""
        return UnsupportedModel(self.path(name), problem, expected)


def _shown(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 40 else text[:37] + "..."
