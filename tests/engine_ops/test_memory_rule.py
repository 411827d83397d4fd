"""Memory rules are found by version."""

from __future__ import annotations

import pytest

from budsim.commons.errors import NotFound
from budsim.engine_ops.memory_rule import CACHE_GROWS, WINDOWS_ALONE, rule_of

RULES = (((0, 21), "new"), ((0, 17), "old"))


@pytest.mark.parametrize(
    ("version", "found"),
    [(None, "new"), ("0.32.0", "new"), ("0.21", "new"), ("0.20.5", "old"), ("1.0", "new")],
)
def test_the_newest_rule_that_is_not_newer_holds(version: str | None, found: str) -> None:
    """Of rules from 0.21 and 0.17 on, 0.20.5 has the second."""
    assert rule_of("vllm", RULES, version) == found  # type: ignore[arg-type]


def test_older_versions_than_any_rule_are_refused() -> None:
    """The message says from which version on rules were read."""
    with pytest.raises(NotFound, match=r"vllm from 0\.17 on"):
        rule_of("vllm", RULES, "0.16.0")  # type: ignore[arg-type]


def test_a_cache_that_grows_counts_windows_alone() -> None:
    """Engines that reserve nothing at start admit requests as they come."""
    assert CACHE_GROWS.in_flight_steps == WINDOWS_ALONE
