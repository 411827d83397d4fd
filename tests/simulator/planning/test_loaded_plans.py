"""Plans under other loads than their own: what each does there, and many of them at once."""

from dataclasses import replace
from functools import cache

import numpy as np
import pytest

from budsim.performance.predictor import AnalyticPredictor
from budsim.performance.traffic import Traffic
from budsim.simulator.planning.answer import answer
from budsim.simulator.planning.loaded_plans import LoadedPlans
from budsim.simulator.planning.plans import Plan
from budsim.simulator.planning.question import Question
from budsim.simulator.planning.targets import PercentileTarget
from tests.simulator.situations import make_cluster, make_question

PREDICTOR = AnalyticPredictor()
FOUR = make_cluster((("H100-SXM", 4),))


@cache
def asked(rate: float | None = None) -> Question:
    """Return a question about four H100, 32 requests in flight or a rate."""
    targets = {"percentiles": (PercentileTarget.named("ttft_p99_s", 0.5),)}
    question = make_question(
        FOUR, analytic_only=True, engines=frozenset({"vllm"}), targets=targets, chance=0.8
    )
    if rate is None:
        return question
    traffic = Traffic.at_rate(requests_per_s=rate, input_tokens=512, output_tokens=128)
    return replace(question, traffic=traffic)


@cache
def plans(rate: float | None = None) -> tuple[Plan, ...]:
    """Return the plans of that question."""
    return answer(asked(rate), PREDICTOR).plans


@pytest.mark.parametrize("rate", [None, 10.0])
def test_a_plan_under_its_own_load_is_itself(rate):
    """With the same configuration, service and chance."""
    plan, load = plans(rate)[0], 32 if rate is None else 100_000
    moved = LoadedPlans.of(asked(rate), [plan], PREDICTOR).plan(0, load)
    assert moved is not None
    for then, now in zip(moved.groups, plan.groups, strict=True):
        assert (then.config, then.service) == (now.config, now.service)
        assert (then.chance, then.cost_usd_per_h) == (now.chance, now.cost_usd_per_h)


@pytest.mark.parametrize("rate", [None, 10.0])
def test_rooms_tell_which_plans_meet_the_targets(rate):
    """Two plans under three loads at once: a room of 0 or more where each alone meets them."""
    loads = np.array([1, 40, 400] if rate is None else [1_000, 100_000, 10_000_000])
    moved = LoadedPlans.of(asked(rate), plans(rate)[:2], PREDICTOR)
    rooms = moved.rooms(np.arange(2), loads)
    assert rooms.shape == (2, 3)
    for number in range(2):
        alone = [moved.plan(number, int(load)) for load in loads]
        meets = [bool(each and each.meets_targets) for each in alone]
        assert (rooms[number] >= 0.0).tolist() == meets
    assert len(set(meets)) == 2


def test_a_plan_may_take_all_devices_of_its_type():
    """One replica on four devices becomes as many as these hold, and carries far more."""
    plan = min(plans(), key=lambda each: each.devices)
    most = FOUR.free_by_label()["H100-SXM"] // (plan.groups[0].config.tp * plan.groups[0].config.pp)
    spread = LoadedPlans.of(asked(), [plan], PREDICTOR, on_all_devices=True)
    assert spread.plan(0, 32).groups[0].replicas == most > plan.groups[0].replicas
    alone = LoadedPlans.of(asked(), [plan], PREDICTOR)
    load = np.array([most * 24])
    assert spread.rooms(np.zeros(1, dtype=np.int64), load) > alone.rooms(np.zeros(1, int), load)


def test_a_search_is_taken_to_find_again_what_means_let_it():
    """A room is left where means meet the targets; where they miss, there is none."""
    means = make_question(
        FOUR, analytic_only=True, engines=frozenset({"vllm"}), targets={"ttft_s": 0.2}
    )
    plan, first = answer(means, PREDICTOR).plans[0], np.zeros(1, dtype=np.int64)
    moved, loads = LoadedPlans.of(means, [plan], PREDICTOR), np.array([32, 20_000])
    rooms, again = moved.rooms(first, loads)[0], moved.rooms_found_again(first, loads)[0]
    assert rooms[0] >= 0.0 > rooms[1]
    assert (again <= rooms).all()
    assert (again[0] >= 0.0, again[1] < 0.0) == (True, True)
