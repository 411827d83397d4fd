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
