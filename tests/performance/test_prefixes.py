"""What prompts share: named, divided among replicas, or refused."""

from __future__ import annotations

import pytest

from budsim.commons.errors import InvalidInput
from budsim.performance.prefixes import (
    NOTHING_SHARED,
    PrefixSet,
    PrefixShare,
    Sessions,
    part_of,
    prefix_of,
)


def test_options_name_what_is_shared() -> None:
    """A share, a set of prefixes, or conversations."""
    assert prefix_of(0.0) == NOTHING_SHARED
    assert prefix_of(0.5) == PrefixShare(share=0.5)
    assert prefix_of(0.5, 1e6, by_prefix=True) == PrefixSet(share=0.5, tokens=1e6, by_prefix=True)
    assert prefix_of(0.0, turns=3, interval_s=9.0) == Sessions(turns=3, interval_s=9.0)


@pytest.mark.parametrize(
    ("options", "field"),
    [
        ({"share": 2.0}, "prefix_hits"),
        ({"share": 0.0, "set_tokens": 1e6}, "prefix_hits"),
        ({"share": 0.5, "set_tokens": 0.0}, "prefix_set_tokens"),
        ({"share": 0.5, "turns": 3}, "prefix_hits"),
        ({"share": 0.0, "turns": 0}, "turns"),
        ({"share": 0.5, "by_prefix": True}, "route_by_prefix"),
        ({"share": 0.0, "interval_s": 9.0}, "turn_interval_s"),
        ({"share": 0.5, "set_tokens": 1e6, "interval_s": -1.0}, "turn_interval_s"),
        ({"share": 0.0, "turns": 2, "interval_s": float("nan")}, "interval_s"),
    ],
)
def test_what_contradicts_itself_is_refused_by_name(options: dict[str, float], field: str) -> None:
    """The error names the option."""
    with pytest.raises(InvalidInput) as error:
        prefix_of(**options)  # type: ignore[arg-type]
    assert error.value.field == field


def test_replicas_divide_a_set_only_where_a_router_knows_it() -> None:
    """A quarter of a million each, or all of it."""
    routed = PrefixSet(share=0.5, tokens=1e6, by_prefix=True)
    assert part_of(routed, 4).tokens == 2.5e5
    assert part_of(PrefixSet(share=0.5, tokens=1e6), 4).tokens == 1e6
