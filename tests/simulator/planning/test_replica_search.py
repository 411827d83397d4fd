"""Traffic that is replayed is answered with the fewest replicas that carry it."""

from dataclasses import replace
from functools import cache

import numpy as np
import pytest

from budsim.commons.precision import Precision
from budsim.engine_ops import serving_engines
from budsim.performance.predictor import AnalyticPredictor, load_predictor
from budsim.performance.traffic import Traffic
from budsim.simulator.planning.answer import answer
from budsim.simulator.planning.choices import make_option
from budsim.simulator.planning.genome import SearchSpace
from budsim.simulator.planning.hardware_groups import usable
from budsim.simulator.planning.plans import Plan
from budsim.simulator.planning.replica_search import first_that_meets, replayed_rows
from budsim.simulator.planning.targets import PercentileTarget, Targets
from tests.simulator.situations import make_cluster, make_question


@cache
def plans_on(devices: int) -> tuple[Plan, ...]:
    """Return the plans for 5 requests/s of an 8B model within 1 s at p99 on some L40S."""
    question = make_question(
        make_cluster((("L40S", devices),)),
        targets={"percentiles": (PercentileTarget.named("ttft_p99_s", 1.0),)},
        chance=0.8,
    )
    traffic = Traffic.at_rate(requests_per_s=5, input_tokens=1024, output_tokens=256)
    return answer(replace(question, traffic=traffic), load_predictor()).plans


def test_the_first_place_that_meets_is_found_however_long_the_list():
    """Met from place 4 on: found in a list of 8 and in one of 100, not in one of 3."""
    asked = []

    def meets(rows: np.ndarray, places: np.ndarray) -> np.ndarray:
        asked.append(len(rows))
        return places >= 4

    found = first_that_meets(np.array([8, 100, 3]), np.zeros(3, dtype=np.int64), meets)
    assert found.tolist() == [4, 4, -1]
    assert len(asked) <= 6


def test_a_start_above_the_first_place_is_not_searched_below():
    """Places below the start are known to fail and are not asked for."""

    def meets(rows: np.ndarray, places: np.ndarray) -> np.ndarray:
        assert (places >= 6).all()
        return places >= 6

    assert first_that_meets(np.array([50]), np.array([6]), meets).tolist() == [6]


@pytest.mark.parametrize("devices", [3, 8])
def test_a_larger_cluster_never_needs_more_devices(devices):
    """L9: what two L40S carry is answered with two L40S where there are more of them."""
    assert plans_on(2)[0].devices == 2
    assert plans_on(devices)[0].devices == 2


def test_more_replicas_are_never_less_sure():
    """Of one engine and layout, the chance grows with the number of replicas."""
    several = []
    for engine in ("vllm", "sglang"):
        same = sorted(
            (plan.groups[0].replicas, plan.chance)
            for plan in plans_on(8)
            if len(plan.groups) == 1
            and plan.groups[0].engine == engine
            and plan.groups[0].config.tp == 1
        )
        chances = [chance for _, chance in same]
        assert chances == sorted(chances)
        several.append(len(chances) > 1)
    assert any(several)


def test_rows_of_an_answer_differ_in_more_than_hidden_flags():
    """No two plans are equal in engine, device, layout, formats and number of replicas."""
    looks = [
        tuple(
            (g.engine, g.label.name, g.replicas, g.config.tp, g.config.pp, g.config.dp, g.config.ep)
            for g in plan.groups
        )
        for plan in plans_on(8)
    ]
    assert len(set(looks)) == len(looks)


def test_a_tight_gap_between_tokens_is_met_by_smaller_steps():
    """A step of 8,192 prompt tokens takes an H100 longer than the 50 ms a token may wait.

    Fewer tokens a step keep within them on two devices; with the default it takes four.
    """
    question = make_question(
        make_cluster((("H100-SXM", 8),)),
        targets={"percentiles": (PercentileTarget.named("itl_p99_s", 0.05),)},
        input_tokens=2048,
        output_tokens=256,
        concurrency=64,
        engines=frozenset({"vllm"}),
        chance=0.8,
    )
    best = answer(question, load_predictor()).plans[0]
    assert best.meets_targets
    assert best.devices == 2
    assert best.groups[0].config.pp == 1
    assert best.groups[0].config.max_num_batched_tokens < 8192


def test_gaps_are_bounded_by_percentiles_of_their_own():
    """TTFT alone bounds no gap; the gaps of tokens and their mean of a request do."""
    bounded = [
        Targets(percentiles=(PercentileTarget.named(name, 0.5),)).bound_gaps
        for name in ("ttft_p99_s", "itl_p99_s", "tpot_p95_s", "e2e_p99_s")
    ]
    assert bounded == [False, True, True, False]


def test_spare_layouts_are_replayed_where_no_other_meets_the_targets():
    """One L40S alone is too slow for 14 ms a token; four together are not."""
    question = make_question(
        make_cluster((("L40S", 4),)),
        targets={"percentiles": (PercentileTarget.named("tpot_p99_s", 0.014),)},
        concurrency=4,
        engines=frozenset({"vllm"}),
    )
    group = usable(question.clusters[0], question.mode, skip_master_cpus=True).groups[0]
    option = make_option(question, group, serving_engines["vllm"], (Precision.BF16,))
    space = SearchSpace([option], question)
    genomes = space.first_genomes(1)
    one, four = (
        genomes[(space.decode(genomes).tp == tp) & (space.decode(genomes).pp == 1)][:1]
        for tp in (1, 4)
    )
    alone, both = (
        replayed_rows(space, one, spare, AnalyticPredictor()).choices.tp for spare in (one, four)
    )
    assert set(alone.tolist()) == {1}
    assert set(both.tolist()) == {1, 4}
