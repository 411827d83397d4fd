"""Every error budsim raises on purpose, in one tree.

::

    BudsimError
    ├── InvalidInput        a value the caller gave is wrong; names the field
    │   └── UnsupportedModel   a config.json whose shape cannot be read without guessing
    ├── NotFound            something the caller named does not exist
    ├── Unanswerable        the request is well-formed, and there is no answer to it
    ├── Conflict            the thing exists, and its state forbids the change
    ├── Busy                too much work is waiting already; trying again later will help
    ├── Unavailable         a dependency (database, sidecar, artefacts) is not there right now
    └── CatalogError        a file shipped with budsim is broken: a bug of ours
"""

from __future__ import annotations


class BudsimError(Exception):
    """Base of every error raised on purpose."""


class InvalidInput(BudsimError):
    """A value the caller gave is wrong.

    Parameters
    ----------
    field : str
        Name of the field as the caller spells it.
    problem : str
        What is wrong with the value.
    expected : str
        What would be right.
    """

    def __init__(self, field: str, problem: str, expected: str) -> None:
        super().__init__(f"{field}: {problem}; expected {expected}")
        self.field = field
        self.problem = problem
        self.expected = expected

    @classmethod
    def read(cls, field: str, told: str, expected: str) -> InvalidInput:
        """Return the error of a text such as ``is blank; expected a number``.

        ``expected`` stands for the second part where the text has none.
        """
        problem, _, own = told.partition("; expected ")
        return cls(field, problem, own or expected)

    def __reduce__(self) -> tuple[type[InvalidInput], tuple[str, str, str]]:
        """Keep all fields when the error is pickled by a worker process."""
        return type(self), (self.field, self.problem, self.expected)


class UnsupportedModel(InvalidInput):
    """A model configuration whose shape cannot be read without guessing."""


class NotFound(BudsimError):
    """Something the caller named does not exist."""

    def __init__(self, field: str, value: str, hint: str = "") -> None:
        super().__init__(f"{field}: {value!r} is not known" + (f"; {hint}" if hint else ""))
        self.field = field
        self.value = value
        self.hint = hint

    def __reduce__(self) -> tuple[type[NotFound], tuple[str, str, str]]:
        """Keep all fields when the error is pickled by a worker process."""
        return type(self), (self.field, self.value, self.hint)


class Unanswerable(BudsimError):
    """The request is well-formed, and there is no answer: no configuration is left, for example.

    ``field`` is the field of the request that there is no answer for, if it is a single one.
    """

    def __init__(self, message: str, *, field: str | None = None) -> None:
        super().__init__(message)
        self.field = field


class Conflict(BudsimError):
    """The thing exists, and its state forbids the change."""


class Busy(BudsimError):
    """Too much work is waiting already; trying again later will help."""


class Unavailable(BudsimError):
    """A dependency is not there right now; trying again later may help."""


class CatalogError(BudsimError):
    """A file shipped with budsim is broken."""
