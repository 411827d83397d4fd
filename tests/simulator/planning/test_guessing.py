"""Which candidates guess tokens ahead."""

from __future__ import annotations

import numpy as np

from budsim.model_ops.registry import resolve_model
from budsim.performance.candidates import Candidates
from budsim.performance.predictor import AnalyticPredictor
from budsim.performance.speculation import Method, Speculation
from budsim.simulator.planning.guessing import guessing_where_it_gains
from budsim.simulator.planning.targets import Targets
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


def guesses(table: Candidates, *ways: Speculation) -> list[float]:
    """Return how many tokens each row guesses."""
    return guessing_where_it_gains(table, ways).draft_tokens.tolist()


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


def test_few_requests_guess_more_tokens_than_many() -> None:
    """Of one, three and seven guesses the long draft wins while weights bind, the short one later.

    Beyond, no guess is worth its arithmetic.
    """
    table = population(concurrency=[1.0, 64.0, 4000.0], max_num_seqs=4000, input_tokens=64.0)
    lookups = [
        Speculation(method=Method.NGRAM, draft_tokens=count, tokens_per_step=tokens)
        for count, tokens in ((1, 1.5), (3, 2.0), (7, 2.5))
    ]
    alone, some, many = guesses(table, *lookups)
    assert alone == 7.0
    assert 0.0 < some < 7.0
    assert many == 0.0


def test_guesses_that_miss_a_target_are_not_made() -> None:
    """The drafter reads each prompt too: a first token that is due without it comes too late."""
    table = population(concurrency=1.0, input_tokens=8000.0)
    plain, guessed = (
        float(AnalyticPredictor().predict(each)[1].service.ttft_s[0])
        for each in (table, guessing_where_it_gains(table, [DRAFT]))
    )
    assert plain < guessed
    due = Targets(ttft_s=(plain + guessed) / 2.0)
    assert guessing_where_it_gains(table, [DRAFT], due).draft_tokens.tolist() == [0.0]
