"""Values of an inventory are read with checks, and errors name the path of the bad one."""

from __future__ import annotations

import math

import pytest

from budsim.commons.errors import InvalidInput
from budsim.hardware_ops.inventory_reader import InventoryReader


def entry(**values: object) -> InventoryReader:
    """Return the entry of a device."""
    return InventoryReader(path="clusters[0].nodes[2].devices[1]", values=values)


@pytest.mark.parametrize("wrong", [True, "80", math.nan, math.inf, -1, 1e6])
def test_a_bad_number_is_named_by_its_path(wrong: object) -> None:
    """Booleans, texts, what is no number and what is out of range."""
    with pytest.raises(InvalidInput) as refused:
        entry(memory_gb=wrong).number("memory_gb", most=1e5, unit="GB")
    assert refused.value.field == "clusters[0].nodes[2].devices[1].memory_gb"


@pytest.mark.parametrize("wrong", [True, "8", 1.5, -1, 100, math.inf])
def test_a_bad_count_is_refused(wrong: object) -> None:
    """A count is a whole number within its bounds; 8.0 is one."""
    assert entry(count=8.0).count("count", most=64) == 8
    with pytest.raises(InvalidInput, match="count"):
        entry(count=wrong).count("count", most=64)


def test_missing_and_null_are_the_same() -> None:
    """Neither is stated; numbers are None, texts empty, flags their default."""
    for reader in (entry(), entry(x=None)):
        assert not reader.has("x")
        assert reader.number("x", most=1, unit="GB") is None
        assert reader.text("x") == ""
        assert reader.flag("x", default=True)


def test_lists_give_their_entries_with_their_index() -> None:
    """The second entry is no mapping: the error names it by its index."""
    reader = InventoryReader(path="", values={"nodes": [{}, 7]})
    with pytest.raises(InvalidInput) as refused:
        list(reader.each("nodes", "a node"))
    assert refused.value.field == "nodes[1]"
    with pytest.raises(InvalidInput, match="empty"):
        list(InventoryReader(path="", values={"nodes": []}).each("nodes", "a node"))


def test_a_misspelt_key_is_no_silent_default() -> None:
    """``cuont`` is refused, and the error lists the keys that are right."""
    with pytest.raises(InvalidInput, match="count"):
        entry(cuont=8).refuse_others(frozenset({"count"}))


def test_an_error_does_not_repeat_a_large_value() -> None:
    """A number of a thousand digits is described, not printed."""
    with pytest.raises(InvalidInput, match="more than 15 digits"):
        entry(name=10**1000).text("name")
