"""Toss-ups are decided by what is simpler to run, and never by the noise of a prediction."""

from dataclasses import replace
from functools import cache

import pytest

from budsim.performance.predictor import load_predictor
from budsim.simulator.planning.answer import answer
from budsim.simulator.planning.plans import Outcome, Plan
from budsim.simulator.planning.taste import (
    effort_factor,
    in_order,
    is_toss_up,
    toss_ups,
    with_knee,
    without_filler_pipelines,
)
from tests.simulator.situations import make_cluster, make_question

SEVENTY = "meta-llama/Llama-3.1-70B-Instruct"


@cache
def found(concurrency: int = 64) -> Outcome:
    """Return the answer for a 70B model on sixteen H100 of two nodes."""
    cluster = make_cluster((("H100-SXM", 8),), (("H100-SXM", 8),))
    targets = {"ttft_s": 2.0, "tokens_per_s_per_user": 20.0}
    question = make_question(
        cluster,
        model=SEVENTY,
        input_tokens=2048,
        output_tokens=512,
        concurrency=concurrency,
        targets=targets,
    )
    return answer(replace(question, chance=0.8), load_predictor())


def costing(cost: float, *, devices: int = 1, pp: int = 1, met: bool = True) -> Plan:
    """Return a plan of that cost, devices and pipeline."""
    plan = found().plans[0]
    group = plan.groups[0]
    config = replace(group.config, tp=devices, pp=pp)
    changed = replace(
        group,
        config=config,
        placements=group.placements[:1],
        shortfall=0.0 if met else 0.5,
        config_id=f"{cost}/{devices}/{pp}",
    )
    return replace(
        plan,
        groups=(changed,),
        cost_per_million_tokens_usd=cost,
        cost_usd_per_h=cost,
        is_knee=False,
    )


def test_within_the_noise_fewer_devices_come_first():
    """1.004 USD on two devices comes before 1.000 USD on four, and 1.02 USD on one after both."""
    four, two, one = costing(1.0, devices=4), costing(1.004, devices=2), costing(1.02)
    assert in_order([one, four, two]) == [two, four, one]
    assert is_toss_up(four, two)
    assert not is_toss_up(four, one)
    assert toss_ups([two, four, one]) == [four]


def test_a_plan_that_meets_the_targets_is_no_toss_up_with_one_that_misses():
    """However cheap a plan is that misses, it comes after those that do not."""
    met, missed = costing(2.0), costing(1.0, met=False)
    assert in_order([missed, met]) == [met, missed]
    assert not is_toss_up(met, missed)


def test_a_filler_pipeline_goes_and_a_cheaper_one_stays():
    """Beside a plain plan for 1 USD.

    A pipeline for 1.2 USD or one that misses goes, one for 0.8 stays.
    """
    plain = costing(1.0)
    dear, missing = costing(1.2, pp=3), costing(0.5, pp=2, met=False)
    cheap = costing(0.8, pp=2)
    assert without_filler_pipelines([plain, dear, missing]) == [plain]
    assert without_filler_pipelines([cheap, plain, dear]) == [cheap, plain]


def test_where_nothing_plain_meets_the_targets_pipelines_stay():
    """A model too large for a node is served in a pipeline."""
    plans = [costing(1.0, pp=2), costing(1.5, met=False)]
    assert without_filler_pipelines(plans) == plans


def test_flags_are_the_engines_defaults_where_they_do_not_matter():
    """The best plan keeps the engine's own share of memory.

    Leaves a quarter of room for bursts.
    """
    best = found().plans[0].groups[0]
    assert best.config.memory_fraction == pytest.approx(0.92)
    assert best.config.max_num_seqs >= 1.25 * best.config.concurrency


def test_no_plan_of_a_plain_model_is_a_pipeline_of_filler():
    """A 70B model that fits a node in TP is not shown in `tp1 pp3`, unless that is the knee."""
    pipelines = [p for p in found().plans if p.groups[0].config.pp > 1]
    plain = min(p.cost_per_million_tokens_usd for p in found().plans if p.groups[0].config.pp == 1)
    assert all(p.cost_per_million_tokens_usd < plain for p in pipelines)


def test_one_more_replica_is_what_asking_for_it_gives():
    """The figures of one more replica are those of a plan with that many replicas.

    The same knobs.
    """
    checked = 0
    plain = [plan for plan in found(96).plans if len(plan.groups) == 1]
    for plan in plain:
        group, after = plan.groups[0], plan.groups[0].explanation.next_replica
        for other in plain:
            same = replace(other.groups[0].config, concurrency=0, max_num_seqs=0)
            if (
                after
                and other.groups[0].engine == group.engine
                and other.groups[0].replicas == group.replicas + 1
                and same == replace(group.config, concurrency=0, max_num_seqs=0)
            ):
                checked += 1
                assert after.ttft_s == pytest.approx(other.ttft_s, rel=0.02)
                assert after.e2e_s == pytest.approx(other.e2e_s, rel=0.02)
    assert checked


def test_the_knee_is_the_best_compromise_of_those_that_miss_least():
    """Of (cost, devices, latency) at the extremes and one in the middle, the middle is marked."""
    cheap, middle, fast = (
        replace(costing(cost, devices=devices), e2e_s=e2e_s)
        for cost, devices, e2e_s in ((1.0, 1, 9.0), (1.5, 2, 4.0), (4.0, 8, 3.0))
    )
    marked = with_knee([cheap, middle, fast])
    assert [plan.is_knee for plan in marked] == [False, True, False]
    assert with_knee([]) == []


def test_of_a_toss_up_the_plan_without_a_queue_comes_first():
    """At equal cost, users of the plan on more devices do not wait, so it comes first."""
    served = costing(1.0, devices=4)
    group = costing(1.0, devices=2).groups[0]
    waiting = replace(group.explanation, time_shares={"queue": 0.5, "compute": 0.5})
    queued = replace(costing(1.0, devices=2), groups=(replace(group, explanation=waiting),))
    assert in_order([queued, served])[0] is served


def test_a_deeper_pipeline_has_to_save_more():
    """Two stages count as 15 % more than none, four as 30 %, twelve as 54 %."""
    more = [effort_factor(costing(1.0, pp=pp)) - effort_factor(costing(1.0)) for pp in (2, 4, 12)]
    assert more == pytest.approx([0.15, 0.30, 0.54], abs=0.005)
