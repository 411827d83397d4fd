"""Errors of ours name the field, and travel between processes with all their parts."""

import pickle

import pytest

from budsim.commons.errors import (
    BudsimError,
    InvalidInput,
    NotFound,
    Unanswerable,
    UnsupportedModel,
)


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (InvalidInput("tp", "is 0", "1 or more"), "tp: is 0; expected 1 or more"),
        (UnsupportedModel("model", "is odd", "another"), "model: is odd; expected another"),
        (Unanswerable("none is left", field="workflow_id"), "none is left"),
        (NotFound("cluster_id", "x"), "cluster_id: 'x' is not known"),
        (NotFound("cluster_id", "x", "ask"), "cluster_id: 'x' is not known; ask"),
    ],
)
def test_an_error_says_what_and_travels(error: BudsimError, message: str):
    """A worker process raises the same class with the same text and field."""
    copy = pickle.loads(pickle.dumps(error))
    assert (type(copy), str(copy)) == (type(error), message)
    assert vars(copy) == vars(error)


def test_a_text_is_read_as_the_error_it_tells() -> None:
    """What a file's problem expects counts, else what the caller expects."""
    own = InvalidInput.read("files", "tp: is 0; expected 1 or more", "a benchmark")
    other = InvalidInput.read("files", "hold no row", "a benchmark")
    assert (own.problem, own.expected) == ("tp: is 0", "1 or more")
    assert (other.problem, other.expected) == ("hold no row", "a benchmark")
