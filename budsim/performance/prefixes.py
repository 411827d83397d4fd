"""What the prompts of a traffic share, so that caches can find it again."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Final

from budsim.commons.errors import InvalidInput
from budsim.performance.lengths import require
from budsim.performance.limits import MOST_REQUESTS, USUAL_INTERVAL_S

MOST_SET_TOKENS = 1e15
"""Most tokens of all shared prefixes together; more than any store holds."""

MOST_TURNS = 1_000
"""Most requests of a conversation."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PrefixShare:
    """``share`` (0..1) of every prompt's tokens is found in the prefix cache."""

    share: float = 0.0

    def __post_init__(self) -> None:
        require(0.0 <= self.share <= 1.0, "prefix_hits", self.share, "a share from 0 to 1")


@dataclass(frozen=True, slots=True, kw_only=True)
class PrefixSet:
    """``share`` (0..1) of every prompt's tokens is one of many prefixes, picked at random.

    All prefixes together have ``tokens`` tokens, and have been served for long. The caches hold as
    many of them as there is room for. With ``by_prefix`` a router sends each request to the replica
    that has its prefix, so that replicas divide the set; else each of them meets all of it.
    """

    share: float
    tokens: float
    by_prefix: bool = False

    def __post_init__(self) -> None:
        require(0.0 < self.share <= 1.0, "prefix_hits", self.share, "above 0, at most 1")
        fine = 1.0 <= self.tokens <= MOST_SET_TOKENS
        require(fine, "prefix_set_tokens", self.tokens, f"1 to {MOST_SET_TOKENS:g} tokens")


@dataclass(frozen=True, slots=True, kw_only=True)
class SharedPrefixes:
    """Every prompt starts with one of ``groups`` prefixes of ``tokens`` tokens, picked at random.

    A prefix is computed by the first request that has it, and again when the cache dropped it.
    """

    groups: int
    tokens: int

    def __post_init__(self) -> None:
        require(1 <= self.groups <= MOST_REQUESTS, "groups", self.groups, "1 prefix or more")
        require(self.tokens >= 0, "tokens", self.tokens, "0 tokens or more")


@dataclass(frozen=True, slots=True, kw_only=True)
class Sessions:
    """Conversations of ``turns`` requests, sent every ``interval_s`` seconds in an open loop.

    The law of prompts then gives the *new* tokens of a turn. A turn's prompt also holds what was
    said before, which is found in the cache while there is room for it. In a closed loop each
    client holds one conversation after the other, and ``interval_s`` is not read.
    """

    turns: int
    interval_s: float = USUAL_INTERVAL_S

    def __post_init__(self) -> None:
        expected = f"1 to {MOST_TURNS} requests"
        require(1 <= self.turns <= MOST_TURNS, "turns", self.turns, expected)
        require(0.0 < self.interval_s < math.inf, "interval_s", self.interval_s, "above 0 s")


Prefix = PrefixShare | PrefixSet | SharedPrefixes | Sessions

# Prompts that have nothing in common.
NOTHING_SHARED: Final = PrefixShare()


def prefix_of(
    share: float,
    set_tokens: float | None = None,
    *,
    by_prefix: bool = False,
    turns: int | None = None,
    interval_s: float | None = None,
) -> Prefix:
    """Return what prompts share: a part found always, one of a set of prefixes, or conversations.

    Raises
    ------
    InvalidInput
        A number is out of range, conversations are given beside a share, seconds between turns
        without conversations, or a router by prefix without a set.
    """
    if turns is not None:
        if share or set_tokens is not None:
            problem = "is given beside `turns`, which say what is shared"
            raise InvalidInput("prefix_hits", problem, "one of both")
        return Sessions(
            turns=turns, interval_s=USUAL_INTERVAL_S if interval_s is None else interval_s
        )
    if interval_s is not None:
        problem = "is given without conversations"
        raise InvalidInput("turn_interval_s", problem, "`turns` beside it")
    if set_tokens is not None:
        return PrefixSet(share=share, tokens=set_tokens, by_prefix=by_prefix)
    if by_prefix:
        problem = "is asked for without the tokens of all prefixes"
        raise InvalidInput("route_by_prefix", problem, "prefix_set_tokens beside it")
    return PrefixShare(share=share)


def part_of(prefix: PrefixSet, replicas: float) -> PrefixSet:
    """Return the set of one replica: its part where a router knows prefixes, else all of it."""
    if not prefix.by_prefix:
        return prefix
    return replace(prefix, tokens=max(prefix.tokens / replicas, 1.0))
