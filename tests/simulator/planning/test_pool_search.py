"""Which workers of two pools are paired, and how many of each."""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from itertools import product

import numpy as np
import pytest

from budsim.performance.serving.pools.queues import steady_pools
from budsim.simulator.planning.answer import _cluster_search
from budsim.simulator.planning.pool_search import JudgedPools, judge_pools, pair_workers
from budsim.simulator.planning.pool_workers import decode_workers, prefill_workers
from budsim.simulator.planning.question import Question
from budsim.simulator.planning.scoring import Scoring
from tests.simulator.situations import make_cluster, make_question

LINK = 50e9
"""Bytes per second between two workers."""


def asked(**changes: object) -> Question:
    """Return 64 requests of 4000 + 400 tokens on eight H100, with targets on both latencies."""
    values: dict[str, object] = {
        "input_tokens": 4000,
        "output_tokens": 400,
        "concurrency": 64,
        "engines": frozenset({"vllm"}),
        "targets": {"ttft_s": 1.0, "tokens_per_s_per_user": 60.0},
    }
    return make_question(make_cluster((("H100-SXM", 8),)), **(values | changes))


@cache
def judged() -> JudgedPools:
    """Return all deployments that are tried for that question."""
    question = asked()
    options = _cluster_search(question, question.clusters[0]).options
    scoring = Scoring(question, options)
    group = options[0].group
    workers = prefill_workers(scoring, 0), decode_workers(scoring, 0)
    return judge_pools(question, pair_workers(question, *workers, (group, group), LINK))


def test_no_deployment_has_more_devices_than_there_are() -> None:
    """Eight, for both pools together."""
    assert judged().paired.devices.max() <= 8
    assert judged().paired.devices.min() >= 2


def test_a_deployment_costs_what_its_workers_cost() -> None:
    """Devices x the price of one."""
    paired = judged().paired
    price = asked().clusters[0].nodes[0].pools[0].device.price_usd_per_h
    assert paired.usd_per_h == pytest.approx(paired.devices * price)


def test_the_best_of_all_numbers_of_workers_is_found() -> None:
    """Every number of workers of every kept type on eight devices: none is 1 % cheaper."""
    question, found = asked(), judged()
    best = found.ranking()[0]
    paired = found.paired
    every = [
        (row, prefill, decode)
        for row in np.unique(
            np.stack([paired.prefill.choices.tp, paired.decode.choices.tp], axis=1),
            axis=0,
            return_index=True,
        )[1].tolist()
        for prefill, decode in product(range(1, 8), repeat=2)
        if prefill * paired.prefill.choices.tp[row] + decode * paired.decode.choices.tp[row] <= 8
    ]
    rows, prefill, decode = np.array(every).T
    tried = replace(paired.rows(rows), prefill_count=prefill, decode_count=decode)
    by_hand = judge_pools(question, tried)
    row = by_hand.ranking()[0]
    assert found.judged.shortfall[best] <= by_hand.judged.shortfall[row] + 1e-9
    assert found.usd_per_million_tokens[best] <= 1.01 * by_hand.usd_per_million_tokens[row]


def test_tabulated_steps_agree_with_computed_ones() -> None:
    """Within 1 % in TPOT and 2 % in TTFT."""
    question, found = asked(), judged()
    some = found.paired.rows(found.ranking()[:10])
    tabulated = judge_pools(question, some).served
    computed = steady_pools(some.pools(question.concurrency))
    assert tabulated.tpot_s == pytest.approx(computed.tpot_s, rel=0.01)
    assert tabulated.ttft_s == pytest.approx(computed.ttft_s, rel=0.02)


def test_more_prefill_workers_never_answer_later() -> None:
    """With the decode workers of the best deployment."""
    found = judged()
    row = np.repeat(found.ranking()[:1], 4)
    more = replace(found.paired.rows(row), prefill_count=np.array([1, 2, 3, 4]))
    ttft = judge_pools(asked(), more).served.ttft_s
    assert (np.diff(ttft) <= 1e-9).all()
