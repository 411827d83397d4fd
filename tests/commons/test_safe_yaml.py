"""YAML of users: read safely, or refused in words."""

import pytest

from budsim.commons.safe_yaml import load_yaml


def test_plain_documents_are_read() -> None:
    """Lists and mappings come out as Python's own."""
    assert load_yaml("a: [1, two]") == {"a": [1, "two"]}


@pytest.mark.parametrize("text", ["[" * 50_000, "a: [", "!!python/object:os.x {}"])
def test_deep_broken_and_harmful_documents_are_refused(text: str) -> None:
    """The error is one line, and the process lives."""
    with pytest.raises(ValueError, match=r"\w"):
        load_yaml(text)


@pytest.mark.parametrize(
    "text",
    ["a: 1\na: 2", "- {b: {a: 1, a: 2}}", '{"a": 1, "a": 2}'],
)
def test_a_key_given_twice_is_refused(text: str) -> None:
    """YAML would take the last value and forget the first; the error names the key."""
    with pytest.raises(ValueError, match="'a' twice"):
        load_yaml(text)


def test_shared_and_merged_parts_are_no_repeats() -> None:
    """Anchors are read, those within themselves too, and a merged key may be given again."""
    assert load_yaml("a: &x {k: 1}\nb: {<<: *x, k: 2}\nc: *x") == {
        "a": {"k": 1},
        "b": {"k": 2},
        "c": {"k": 1},
    }
    assert len(load_yaml("&x [*x]")) == 1
