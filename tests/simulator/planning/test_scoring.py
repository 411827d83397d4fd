"""Which candidates guess tokens ahead."""

from __future__ import annotations

import numpy as np

from budsim.model_ops.registry import resolve_model
from budsim.performance.candidates import Candidates
from budsim.performance.speculation import Method, Speculation
from budsim.simulator.planning.scoring import guessing_where_it_gains
from tests.performance.populations import population

DRAFT = Speculation(
    method=Method.DRAFT_MODEL,
    draft_tokens=3,
    tokens_per_step=2.8,
    drafter=resolve_model("meta-llama/Llama-3.2-1B-Instruct"),
)
"""A small model whose guesses are often right."""
WRONG = Speculation(method=Method.NGRAM, draft_tokens=7, tokens_per_step=1.05)
"""Prompt lookup that finds next to nothing."""


def guesses(table: Candidates, way: Speculation) -> list[float]:
    """Return how many tokens each row guesses."""
    return guessing_where_it_gains(table, way).draft_tokens.tolist()


def test_a_few_requests_of_a_large_model_guess() -> None:
    """Weights are read once for several tokens."""
    assert guesses(population(concurrency=4.0), DRAFT) == [3.0]


def test_wrong_guesses_are_not_made() -> None:
    """One token in twenty is worth less than the host's time for it."""
    assert guesses(population(concurrency=4.0), WRONG) == [0.0]


def test_each_row_decides_for_itself() -> None:
    """A load that fills the arithmetic gains nothing, one request does."""
    table = population(concurrency=[2.0, 4000.0], max_num_seqs=4000, input_tokens=64.0)
    seven = Speculation(method=Method.NGRAM, draft_tokens=7, tokens_per_step=1.6)
    assert guesses(table, seven) == [7.0, 0.0]


def test_pipelines_and_processors_do_not_guess() -> None:
    """Engines refuse it there."""
    assert guesses(population(concurrency=4.0, pp=2, tp=4), DRAFT) == [0.0]
    processor = population(device="Xeon Platinum 8480+", engine="vllm-cpu", tp=1)
    assert guesses(processor, DRAFT) == [0.0]


def test_a_drafter_that_does_not_fit_is_left_out() -> None:
    """A second 70B model beside the first on two H100s leaves no cache."""
    large = Speculation(
        method=Method.DRAFT_MODEL,
        draft_tokens=3,
        tokens_per_step=4.0,
        drafter=resolve_model("meta-llama/Llama-3.1-70B-Instruct"),
    )
    assert np.all(np.array(guesses(population(tp=2), large)) == 0.0)
