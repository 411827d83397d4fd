"""Errors in the words of the terminal: the options of a command in place of fields."""

from __future__ import annotations

import re
from collections.abc import Collection
from typing import Final

# Fields that have another name than their option. All others have the same: `draft_tokens` is
# --draft-tokens, and `draft_tokens` in a command without that option is no option.
RENAMED: Final = {
    "pretrained_model_uri": "--model",
    "engines": "--engine",
    "ttft_s": "--ttft-ms",
    "target_throughput_per_user": "--tokens-per-s-per-user",
    "ttft_p95_s": "--ttft-p95-ms",
    "ttft_p99_s": "--ttft-p99-ms",
    "itl_p99_s": "--itl-p99-ms",
    "interval_s": "--turn-interval-s",
    "variation": "--lengths",
    "longest": "--max-input-tokens",
    "speculative_method": "--speculative",
    "price_basis": "--basis",
    "price_term": "--term",
    "price_provider": "--provider",
    "ownership": "--own",
}
# Options whose values have names of their own, as columns of a file or settings of an engine.
OF_OTHER_NAMES: Final = frozenset({"--trace", "--cluster", "--prices", "--what-if", "--own"})
# Also the name of a method to guess tokens: an option only where it stands in backticks.
METHODS: Final = frozenset({"draft_model"})
# Quoted input of the user, a name in backticks, or a name of several words.
NAMES: Final = re.compile(
    r"(?<!\w)'[^']*'|`(?P<marked>[a-z][a-z0-9_]*)`|\b[a-z][a-z0-9]*_[a-z0-9_]+\b"
)


def option_of(field: str, options: Collection[str]) -> str:
    """Return the option of ``options`` that sets a field, or "" where none does."""
    option = RENAMED.get(field, f"--{field.replace('_', '-')}")
    return option if option in options else ""


def assumption_of(field: str, options: Collection[str]) -> str:
    """Return the option that sets an assumption about owned devices, or "" where none does."""
    from budsim.hardware_ops.ownership import LIMITS

    return f"--own {field}" if field in LIMITS and "--own" in options else ""


def in_options(message: str, option: str, options: Collection[str]) -> str:
    """Return the message about ``option`` with every field called by its option.

    "is given without a method; expected `speculative` beside it" becomes "is given without a
    method; expected --speculative beside it". What the user typed, in quotes, stays.
    """
    if not option or option in OF_OTHER_NAMES:
        return message

    def named(found: re.Match[str]) -> str:
        marked, text = found["marked"], found[0]
        if text.startswith("'") or text in METHODS:
            return text
        return option_of(marked or text, options) or text

    return NAMES.sub(named, message)
