"""Every error budsim raises on purpose, in one tree.

::

    BudsimError
    ├── InvalidInput        a value the caller gave is wrong; names the field and what would be right
    │   └── UnsupportedModel   a config.json whose shape we cannot read without guessing
    ├── NotFound            something the caller named does not exist
    ├── Unanswerable        the request is well-formed, and nothing that exists answers it
    ├── Conflict            the thing exists, and its state forbids what was asked
    ├── Busy                too much work is waiting already; trying again later will help
    ├── Unavailable         something we depend on (database, sidecar, artefacts) is not there right now
    └── CatalogError        a file shipped with budsim is broken: a bug of ours, found at start or by a test
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

    def __reduce__(self) -> tuple[type[InvalidInput], tuple[str, str, str]]:
        """Travel from worker processes with all parts."""
        return type(self), (self.field, self.problem, self.expected)


class UnsupportedModel(InvalidInput):
    """A model configuration whose shape we cannot read without guessing."""


class NotFound(BudsimError):
    """Something the caller named does not exist."""

    def __init__(self, field: str, value: str, hint: str = "") -> None:
        super().__init__(f"{field}: {value!r} is not known" + (f"; {hint}" if hint else ""))
        self.field = field
        self.value = value
        self.hint = hint

    def __reduce__(self) -> tuple[type[NotFound], tuple[str, str, str]]:
        """Travel from worker processes with all parts."""
        return type(self), (self.field, self.value, self.hint)


class Unanswerable(BudsimError):
    """The request is well-formed, and nothing that exists answers it: no configuration left, no such host in the cluster."""


class Conflict(BudsimError):
    """The thing exists, and its state forbids what was asked."""


class Busy(BudsimError):
    """Too much work is waiting already; trying again later will help."""


class Unavailable(BudsimError):
    """Something we depend on is not there right now; trying again later may help."""


class CatalogError(BudsimError):
    """A file shipped with budsim is broken."""
