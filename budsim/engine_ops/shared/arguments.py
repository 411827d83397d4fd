"""Check what we emit against the engine's own list of arguments: names, types and choices."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any, Final

from budsim.commons.errors import InvalidInput
from budsim.engine_ops.base import ArgumentValue
from budsim.engine_ops.shared.tables import load_table

_INTEGER_TYPES: Final = frozenset({"int", "human_readable_int", "human_readable_int_or_auto"})
# A value Kubernetes fills in when the container starts (``$(LWS_WORKER_INDEX)``). Its type cannot
# be checked before.
_VARIABLE: Final = re.compile(r"\$\([A-Z][A-Z0-9_]*\)")


@dataclass(frozen=True, slots=True, kw_only=True)
class Argument:
    """One argument of an engine's parser, by its flag without dashes.

    ``takes_value`` is false for boolean flags; ``negative`` is the flag that switches one off,
    without dashes, or None where there is none.
    """

    flag: str
    takes_value: bool
    type_name: str | None
    choices: tuple[object, ...]
    negative: str | None
    deprecated: bool
    removed: bool

    def problem(self, value: ArgumentValue) -> str | None:
        """Return what is wrong with ``value`` for this argument, or None."""
        if self.removed or self.deprecated:
            return f"--{self.flag} is {'gone' if self.removed else 'deprecated'}"
        if problem := self._switch_problem(value):
            return problem
        if self.choices and self.takes_value and value not in self.choices:
            return f"--{self.flag} {value!r} is not one of {self.choices}"
        return self._type_problem(value)

    def _switch_problem(self, value: ArgumentValue) -> str | None:
        if self.takes_value == isinstance(value, bool):
            wanted = "a value" if self.takes_value else "no value"
            return f"--{self.flag} takes {wanted}, got {value!r}"
        if value is False and self.negative is None:
            return f"--{self.flag} cannot be switched off; leave it out"
        return None

    def _type_problem(self, value: ArgumentValue) -> str | None:
        if isinstance(value, str) and _VARIABLE.fullmatch(value):
            return None
        if self.type_name in _INTEGER_TYPES and not isinstance(value, int):
            return f"--{self.flag} takes a whole number, got {value!r}"
        if self.type_name == "float" and not isinstance(value, int | float):
            return f"--{self.flag} takes a number, got {value!r}"
        if self.type_name == "str" and not isinstance(value, str):
            return f"--{self.flag} takes text, got {value!r}"
        return None


@cache
def shipped_arguments(engine: str) -> Mapping[str, Argument]:
    """Return the arguments of ``engine`` we may emit, by flag without dashes.

    Those it deprecated or dropped are among them.
    """
    return read_arguments(load_table(engine, "arguments"))


def read_arguments(entries: Iterable[Mapping[str, Any]]) -> Mapping[str, Argument]:
    """Read a parser's list (``flags``, ``type``, ``choices``, ``default``...) by flag.

    Every long spelling is a key. A flag without type is boolean when it has a ``--no-`` form, a
    true or false default, or is called ``enable`` or ``disable`` something.
    """
    return {flag: argument for entry in entries for flag, argument in _spellings(entry)}


def check_arguments(
    engine: str,
    args: Mapping[str, ArgumentValue],
    known: Mapping[str, Argument] | None = None,
) -> None:
    """Check names, types, choices and deprecation of ``args`` against the engine's parser.

    Parameters
    ----------
    engine : str
        Name of a serving engine.
    args : mapping
        Values by flag without dashes.
    known : mapping, optional
        The parser's arguments; those shipped with the package by default.

    Raises
    ------
    InvalidInput
        Naming the flag and what is wrong with it.
    """
    arguments = shipped_arguments(engine) if known is None else known
    for flag, value in args.items():
        argument = arguments.get(flag)
        problem = f"{engine} has no --{flag}" if argument is None else argument.problem(value)
        if problem:
            raise InvalidInput(f"args.{flag}", problem, f"what the {engine} parser accepts")


def command_line(engine: str, args: Mapping[str, ArgumentValue]) -> tuple[str, ...]:
    """Return ``args`` as the engine's command line spells them.

    Boolean flags stand alone, ``--no-flag`` for false.

    Raises
    ------
    InvalidInput
        When the engine's parser would not take one of them.
    """
    check_arguments(engine, args)
    known = shipped_arguments(engine)
    return tuple(word for flag, value in args.items() for word in _words(known[flag], value))


def parse_command_line(
    words: Iterable[str], known: Mapping[str, Argument]
) -> Mapping[str, ArgumentValue]:
    """Read a command line back into arguments: the inverse of `command_line`.

    Raises
    ------
    InvalidInput
        On a word that is no flag of ``known``, or a flag without its value.
    """
    negatives = {argument.negative: argument for argument in known.values() if argument.negative}
    parsed: dict[str, ArgumentValue] = {}
    rest = iter(words)
    for word in rest:
        flag = word.removeprefix("--")
        if flag in negatives and word.startswith("--"):
            parsed[negatives[flag].flag] = False
            continue
        if not word.startswith("--") or flag not in known:
            problem = f"{word!r} is no flag"
            raise InvalidInput("command", problem, "a flag of the engine's parser")
        takes_value = known[flag].takes_value
        parsed[flag] = _typed(known[flag], next(rest, None)) if takes_value else True
    return parsed


def _spellings(entry: Mapping[str, Any]) -> Iterable[tuple[str, Argument]]:
    long = [flag.removeprefix("--") for flag in entry["flags"] if flag.startswith("--")]
    negative = next((flag for flag in long if f"no-{long[0]}" == flag), None)
    takes_value = negative is None and not _is_switch(entry, long)
    for flag in long:
        if flag != negative:
            yield flag, _argument(entry, flag, negative, takes_value=takes_value)


def _is_switch(entry: Mapping[str, Any], long: Sequence[str]) -> bool:
    """Return whether a flag without ``--no-`` form takes no value."""
    if "type" in entry or "choices" in entry:
        return False
    named_so = bool(long) and long[0].startswith(("enable-", "disable-"))
    return isinstance(entry.get("default"), bool) or named_so


def _argument(
    entry: Mapping[str, Any], flag: str, negative: str | None, *, takes_value: bool
) -> Argument:
    return Argument(
        flag=flag,
        takes_value=takes_value,
        type_name=entry.get("type"),
        choices=tuple(entry.get("choices", ())),
        negative=negative,
        deprecated=bool(entry.get("deprecated")),
        removed=bool(entry.get("removed")),
    )


def _words(argument: Argument, value: ArgumentValue) -> tuple[str, ...]:
    if argument.takes_value:
        return (f"--{argument.flag}", str(value))
    return (f"--{argument.flag}" if value else f"--{argument.negative}",)


def _typed(argument: Argument, word: str | None) -> ArgumentValue:
    if word is None:
        raise InvalidInput("command", f"--{argument.flag} ends the line", "its value after it")
    if argument.type_name in _INTEGER_TYPES:
        return int(word)
    return float(word) if argument.type_name == "float" else word
