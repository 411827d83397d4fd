"""Models that answer with vectors or scores.

Every step is full of prompts, and nothing is decoded.
"""

from dataclasses import replace

import numpy as np

from budsim.performance.predictor import AnalyticPredictor
from tests.performance.populations import population

TOGETHER = [1, 8, 16, 32]
PREDICTED = AnalyticPredictor().predict(
    population(
        model="BAAI/bge-m3",
        tp=1,
        input_tokens=512,
        output_tokens=0,
        concurrency=TOGETHER,
        token_budget=4096,
    )
)[1]


def test_a_request_ends_with_its_prompt() -> None:
    """End to end is the time to the first and only answer, with the same range.

    No token takes time, none comes.
    """
    service = PREDICTED.service
    assert np.array_equal(service.e2e_s, service.ttft_s)
    assert np.array_equal(PREDICTED.e2e_s[0.9].high, PREDICTED.ttft_s[0.9].high)
    assert not service.tpot_s.any()
    assert not service.tokens_per_s_per_user.any()
    assert not PREDICTED.tokens_per_s_per_user[0.9].high.any()


def test_prompts_beyond_a_step_wait_for_those_before_them() -> None:
    """Eight prompts of 512 fill a step of 4,096.

    Sixteen take two such steps, the first is waiting; one alone takes less.
    """
    one, full, two, four = PREDICTED.service.ttft_s
    assert one < full
    np.testing.assert_allclose(four - two, 2 * (two - full))
    np.testing.assert_allclose(
        PREDICTED.time_s[-1], np.array([0, 0, 1, 3]) * (two - full), atol=1e-12
    )


def test_encoders_look_both_ways() -> None:
    """Attention of an encoder's long prompt costs more than looking back only.

    Of the same layers.
    """
    table = population(
        model="BAAI/bge-m3",
        tp=1,
        input_tokens=8000,
        output_tokens=0,
        concurrency=1,
        token_budget=8192,
    )
    causal = replace(
        table, architectures=(replace(table.architectures[0], is_bidirectional=False),)
    )
    both, back = (
        AnalyticPredictor().predict(each)[1].service.ttft_s[0] for each in (table, causal)
    )
    assert both > 1.1 * back


def test_rows_that_generate_are_not_touched() -> None:
    """A table may hold both: the generating rows are predicted as they are alone."""
    mixed = AnalyticPredictor().predict(population(tp=8, output_tokens=[0, 256], concurrency=16))[1]
    alone = AnalyticPredictor().predict(population(tp=8, output_tokens=256, concurrency=16))[1]
    np.testing.assert_allclose(mixed.service.e2e_s[1], alone.service.e2e_s[0])
    np.testing.assert_allclose(mixed.time_s[:, 1], alone.time_s[:, 0])
