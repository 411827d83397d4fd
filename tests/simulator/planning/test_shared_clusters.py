"""Several models on one inventory: no device twice, as many models as possible, then cheapest."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import pytest

from budsim.commons.errors import InvalidInput
from budsim.engine_ops.base import PoolRole
from budsim.hardware_ops.cluster import HardwareMode
from budsim.performance.predictor import AnalyticPredictor
from budsim.simulator.planning.question import Disaggregation, Question
from budsim.simulator.planning.shared_clusters import SharedOutcome, answer_together
from tests.simulator.situations import make_cluster, make_question

SMALL = "meta-llama/Llama-3.1-8B-Instruct"
LARGE = "meta-llama/Llama-3.1-70B-Instruct"
PREDICTOR = AnalyticPredictor()


def asked(*models: str, nodes: tuple, concurrency: int = 8) -> list[Question]:
    """Return one easy question for each model, all about one cluster of these nodes."""
    cluster = make_cluster(*nodes)
    return [
        make_question(
            cluster,
            model=model,
            concurrency=concurrency,
            targets={"tokens_per_s_per_user": 15},
            engines=frozenset({"vllm"}),
        )
        for model in models
    ]


def used(found: SharedOutcome) -> Counter:
    """Return how many devices of each pool all plans use together."""
    counts = Counter()
    for plan in filter(None, found.plans):
        for group in plan.groups:
            for replica in group.placements:
                for part in replica:
                    counts[part.node_id, part.pool] += part.devices
    return counts


def test_no_device_is_used_twice():
    """Two models on four devices use each device once at most."""
    questions = asked(SMALL, SMALL, nodes=((("H100-SXM", 2),), (("H100-SXM", 2),)))
    found = answer_together(questions, PREDICTOR, one_more_node=False)
    assert found.served == 2
    assert max(used(found).values()) <= 2
    assert sum(used(found).values()) == sum(plan.devices for plan in found.plans)


def test_the_share_done_grows_to_the_whole():
    """Every search counts: those of each model, and those of one more node."""
    told: list[float] = []
    questions = asked(SMALL, nodes=((("H100-SXM", 2),),))
    answer_together(questions, PREDICTOR, progress=told.append)
    assert told == sorted(told)
    assert 0.0 < told[0] < 0.5
    assert told[-1] == 1.0


def test_a_model_alone_gets_its_own_best_plan():
    """With room for all, each plan costs what it costs alone."""
    questions = asked(SMALL, LARGE, nodes=((("H100-SXM", 8),), (("H100-SXM", 8),)))
    found = answer_together(questions, PREDICTOR, one_more_node=False)
    alone = [min(p.cost_usd_per_h for p in each.plans if p.meets_targets) for each in found.alone]
    assert [plan.cost_usd_per_h for plan in found.plans] == pytest.approx(alone)
    assert found.contentions == ()


def test_the_larger_number_of_models_is_served():
    """Where one model fits beside the others and another does not, the others are served."""
    questions = asked(LARGE, SMALL, SMALL, nodes=((("H100-SXM", 2),),))
    found = answer_together(questions, PREDICTOR, one_more_node=False)
    assert [plan is not None for plan in found.plans] == [False, True, True]
    assert "used by the other models" in found.reasons[0]


def test_who_holds_the_devices_is_named():
    """An unserved model says which device it lacks, and which models use how many of them."""
    questions = asked(LARGE, SMALL, SMALL, nodes=((("H100-SXM", 2),),))
    found = answer_together(questions, PREDICTOR, one_more_node=False)
    (lack,) = found.contentions
    assert (lack.model, lack.wanted, lack.left) == (0, 2, 0)
    assert dict(lack.held_by) == {1: 1, 2: 1}


def test_one_more_node_serves_the_model_that_was_left_out():
    """A second node of the kind has room for the third model."""
    questions = asked(LARGE, SMALL, SMALL, nodes=((("H100-SXM", 2),),))
    found = answer_together(questions, PREDICTOR)
    (more,) = found.more
    assert (found.served, more.served) == (2, 3)


def test_what_is_left_is_asked_again():
    """A model whose shown plans are taken is served by what the others leave, where that does."""
    nodes = ((("H100-SXM", 1),), (("L40S", 1),))
    found = answer_together(asked(SMALL, SMALL, nodes=nodes), PREDICTOR, one_more_node=False)
    assert found.served == 2
    assert len({plan.groups[0].config.device.name for plan in found.plans}) == 2


def test_no_plan_alone_is_a_reason():
    """A model that fits nowhere says so, and takes nothing from the other."""
    found = answer_together(
        asked(LARGE, SMALL, nodes=((("L4", 1),), (("H100-SXM", 1),))),
        PREDICTOR,
        one_more_node=False,
    )
    assert found.plans[0] is None
    assert found.plans[1] is not None
    assert found.reasons[0]
    assert found.contentions == ()


def test_three_models_one_of_them_in_pools_share_two_nodes():
    """Prefill and decode workers beside plain replicas; the pools are told who holds devices."""
    nodes = ((("H100-SXM", 4),), (("H100-SXM", 4),))
    large, *small = asked(LARGE, SMALL, SMALL, nodes=nodes)
    pools = replace(large, disaggregation=Disaggregation.ONLY)
    found = answer_together([pools, *small], PREDICTOR)
    assert found.served == 3
    first = found.plans[0]
    assert [group.role for group in first.groups] == [PoolRole.PREFILL, PoolRole.DECODE]
    assert max(used(found).values()) <= 4
    assert sum(used(found).values()) == sum(plan.devices for plan in found.plans)
    (more,) = found.more
    assert more.served == 3
    assert more.cost_usd_per_h <= found.cost_usd_per_h


def test_pools_that_have_no_room_are_told_who_binds():
    """Two workers of two devices each, and three devices are left: one more node serves all."""
    large, *small = asked(LARGE, SMALL, SMALL, nodes=((("H100-SXM", 5),),))
    pools = replace(large, disaggregation=Disaggregation.ONLY)
    found = answer_together([pools, *small], PREDICTOR)
    assert found.served == 2
    assert found.plans[0] is None
    (lack,) = found.contentions
    assert (lack.model, lack.device, lack.wanted, lack.left) == (0, "H100-SXM", 4, 3)
    assert dict(lack.held_by) == {1: 1, 2: 1}
    assert found.more[0].served == 3


def test_pools_stay_in_the_rack_that_links_them():
    """Both models would take the same devices of an NVL72: the second gets others of one rack."""
    questions = [
        replace(each, disaggregation=Disaggregation.ONLY, analytic_only=True)
        for each in asked(SMALL, SMALL, nodes=((("GB200", 4),),) * 36)
    ]
    found = answer_together(questions, PREDICTOR, one_more_node=False)
    assert found.served == 2
    assert max(used(found).values()) <= 4
    assert sum(used(found).values()) == sum(plan.devices for plan in found.plans)
    for plan in found.plans:
        nodes = {
            int(part.node_id[1:])
            for group in plan.groups
            for replica in group.placements
            for part in replica
        }
        assert len({node // 18 for node in nodes}) == 1


def test_questions_about_other_clusters_or_shared_devices_are_refused():
    """All questions are about one inventory of whole devices."""
    one = asked(SMALL, nodes=((("H100-SXM", 1),),))
    with pytest.raises(InvalidInput, match="other clusters"):
        answer_together([*one, *asked(SMALL, nodes=((("L4", 1),),))], PREDICTOR)
    with pytest.raises(InvalidInput, match="time-sliced"):
        answer_together([replace(one[0], mode=HardwareMode.SHARED)], PREDICTOR)
    with pytest.raises(InvalidInput, match="at least one"):
        answer_together([], PREDICTOR)
