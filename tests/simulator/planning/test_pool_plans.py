"""Disaggregated plans: when they are shown, where they lie, and why pools are refused."""

from __future__ import annotations

import re
from dataclasses import replace
from functools import cache

import numpy as np
import pytest

from budsim.commons.errors import InvalidInput
from budsim.engine_ops.base import PoolRole
from budsim.hardware_ops.cluster import Cluster, HardwareMode
from budsim.hardware_ops.device_names import find_device
from budsim.performance.predictor import AnalyticPredictor
from budsim.performance.speculation import Method, Speculation
from budsim.performance.traffic import Traffic
from budsim.simulator.planning.answer import answer, partitions_of
from budsim.simulator.planning.device_sets import cheapest_devices
from budsim.simulator.planning.hardware_groups import usable
from budsim.simulator.planning.plans import Outcome, Plan
from budsim.simulator.planning.pool_plans import SUBJECT, link_between
from budsim.simulator.planning.question import (
    Disaggregation,
    FixedKnobs,
    ParallelLayout,
    Question,
    disaggregation_of,
)
from budsim.simulator.planning.replay_curves import replay_plan
from budsim.simulator.planning.targets import PercentileTarget
from budsim.simulator.planning.taste import effort_factor, without_repeats
from budsim.simulator.planning.whatif import change_plan
from tests.simulator.situations import devices_used, make_cluster, make_question, time_sliced

BIG = "meta-llama/Llama-3.3-70B-Instruct"
TIGHT = {"ttft_s": 2.0, "tokens_per_s_per_user": 40.0}


def asked(*clusters: Cluster, pools: str = "only", **changes: object) -> Question:
    """Return 128 requests of 4000 + 500 tokens to Llama 70B, on the grid of layouts."""
    values: dict[str, object] = {
        "model": BIG,
        "input_tokens": 4000,
        "output_tokens": 500,
        "concurrency": 128,
        "targets": TIGHT,
        "analytic_only": True,
    }
    return make_question(*clusters, disaggregation=Disaggregation(pools), **(values | changes))


@cache
def answered(pools: str) -> Outcome:
    """Return the answer on four nodes of eight H100."""
    return answer(asked(make_cluster(*[(("H100-SXM", 8),)] * 4), pools=pools), AnalyticPredictor())


def reasons(question: Question) -> str:
    """Return what an answer says of everything that is not in it."""
    told = answer(question, AnalyticPredictor()).rejections
    return "\n".join(f"{each.subject}: {each.reason}" for each in told)


def best() -> Plan:
    """Return the best disaggregated plan there."""
    return answered("only").plans[0]


def test_a_plan_has_prefill_workers_and_decode_workers() -> None:
    """Each group states its part, and both the service of whole requests."""
    prefill, decode = best().groups
    assert (prefill.role, decode.role) == (PoolRole.PREFILL, PoolRole.DECODE)
    assert prefill.service.ttft_s == decode.service.ttft_s
    assert prefill.engine == decode.engine


def test_no_device_is_in_both_pools() -> None:
    """Devices in use add up to those of the plan, and no node has more than its eight."""
    used = devices_used(best())
    assert sum(used.values()) == best().devices
    assert max(used.values()) <= 8


def test_requests_are_counted_once() -> None:
    """Every request goes through both pools: Little's law with the latency of the whole."""
    assert best().requests_per_s == pytest.approx(128 / best().e2e_s)


def test_cost_is_that_of_both_pools() -> None:
    """USD of an hour over the tokens of an hour."""
    tokens_per_h = best().requests_per_s * 500 * 3600
    told = best().cost_usd_per_h / tokens_per_h * 1e6
    assert best().cost_per_million_tokens_usd == pytest.approx(told)
    parts = sum(group.cost_per_million_tokens_usd for group in best().groups)
    assert parts == pytest.approx(told)


def test_time_to_first_token_is_unsure() -> None:
    """The 90 % range reaches several times the value, as residuals of measured pools do."""
    ttft = best().groups[0].service.ttft_s
    assert ttft.high90 > 2.0 * ttft.value


def test_pools_are_shown_where_they_are_better_than_plain_plans() -> None:
    """Tight targets on both latencies: pools first, and plain plans behind them."""
    plans = answered("also").plans
    assert plans[0].is_disaggregated
    assert any(not plan.is_disaggregated for plan in plans)


def test_pools_that_are_no_better_are_left_out_and_named() -> None:
    """Without targets the cheapest plain plan wins; the reason names the nearest pools."""
    question = asked(make_cluster((("H100-SXM", 8),)), pools="also", targets={}, concurrency=16)
    outcome = answer(question, AnalyticPredictor())
    assert not any(plan.is_disaggregated for plan in outcome.plans)
    assert [each for each in outcome.rejections if each.subject == SUBJECT]


def test_pools_that_miss_by_more_are_told_by_how_much() -> None:
    """Neither kind answers within a millisecond: the cost is not the reason."""
    cluster, targets = make_cluster((("H100-SXM", 8),)), {"ttft_s": 0.001}
    told = reasons(asked(cluster, pools="also", targets=targets, concurrency=16))
    assert re.search(r"they miss the targets by \d+%, a plain plan by \d+%; nearest", told)


def test_nothing_changes_where_pools_are_not_asked_for() -> None:
    """Plans of "also" without pools are those of "off"."""
    plain = [plan for plan in answered("also").plans if not plan.is_disaggregated]
    ids = [plan.groups[0].config_id for plan in answered("off").plans]
    assert sorted(plan.groups[0].config_id for plan in plain) == sorted(ids)


def test_no_two_plans_differ_in_flags_only() -> None:
    """A table would show them as equal rows."""
    cluster = make_cluster(*[(("H100-SXM", 8),)] * 2)
    targets = {"ttft_s": 4.0, "tokens_per_s_per_user": 15.0}
    question = asked(cluster, targets=targets, analytic_only=False, engines=frozenset({"vllm"}))
    plans = list(answer(question, AnalyticPredictor()).plans)
    assert without_repeats(plans) == plans


def test_two_pools_have_to_be_worth_their_router() -> None:
    """A disaggregated plan for 1.00 USD counts as 1.15 USD at least."""
    assert effort_factor(best()) >= 1.15


def test_only_pools_leave_nothing_to_search_by_itself() -> None:
    """No partition of whole replicas."""
    assert partitions_of(asked(make_cluster((("H100-SXM", 8),)))) == ()


def test_pools_may_be_on_two_types_of_device() -> None:
    """H100 and A100, whose caches are laid out alike."""
    cluster = make_cluster((("H100-SXM", 2),), (("A100-SXM4-80GB", 2),))
    question = asked(cluster, concurrency=32, targets={}, model="meta-llama/Llama-3.1-8B-Instruct")
    plans = answer(question, AnalyticPredictor()).plans
    pairs = {tuple(group.label.name for group in plan.groups) for plan in plans}
    assert pairs & {("H100-SXM", "A100-SXM4-80GB"), ("A100-SXM4-80GB", "H100-SXM")}


@pytest.mark.parametrize("seed", [1, 5, 11])
def test_pools_on_two_types_lie_on_what_is_free(seed: int) -> None:
    """Nodes of eight with three to seven free: two workers of four need four on one node each."""
    draw = np.random.default_rng(seed)
    cluster = make_cluster(*[(("H100-SXM", 8),)] * 2, *[(("A100-SXM4-80GB", 8),)] * 2)
    nodes = tuple(
        replace(
            node,
            pools=tuple(replace(each, available=int(draw.integers(3, 8))) for each in node.pools),
        )
        for node in cluster.nodes
    )
    question = asked(
        replace(cluster, nodes=nodes),
        input_tokens=int(draw.integers(2000, 9000)),
        output_tokens=int(draw.integers(50, 400)),
        concurrency=int(draw.integers(16, 400)),
        targets={"ttft_s": float(draw.uniform(0.5, 6.0))},
        analytic_only=False,
    )
    plans = answer(question, AnalyticPredictor()).plans
    assert plans
    for plan in plans:
        assert [len(group.placements) for group in plan.groups] == [
            group.replicas for group in plan.groups
        ]


def test_one_device_is_not_enough() -> None:
    """A prefill worker and a decode worker need one each."""
    told = reasons(
        asked(make_cluster((("H200-SXM", 1),)), model="meta-llama/Llama-3.1-8B-Instruct")
    )
    assert "takes 1 devices at least and a decode worker 1, and there are 1" in told


def test_more_requests_than_places_wait() -> None:
    """32 H100 hold one worker of each pool: 512 requests in flight queue before them."""
    cluster, model = make_cluster(*[(("H100-SXM", 8),)] * 4), "deepseek-ai/DeepSeek-R1"
    question = asked(cluster, model=model, output_tokens=200, targets={}, concurrency=512)
    plan = answer(question, AnalyticPredictor()).plans[0]
    assert [group.replicas for group in plan.groups] == [1, 1]
    assert plan.requests_per_s == pytest.approx(512 / plan.e2e_s)


def test_a_model_that_only_pipelines_hold_is_told_so() -> None:
    """Llama 405B in 16 bit fits no node of eight H100, of which a pipeline may take two.

    Experts of DeepSeek-R1 would be spread over nodes; one node is too small for a prefill worker.
    """
    one, three = (make_cluster(*[(("H100-SXM", 8),)] * nodes) for nodes in (1, 3))
    told = reasons(asked(three, model="meta-llama/Llama-3.1-405B-Instruct"))
    assert "no decode worker of up to 8 devices holds the weights" in told
    assert "decode workers are no pipelines" in told
    told = reasons(asked(one, model="deepseek-ai/DeepSeek-R1"))
    assert "no prefill worker of up to 8 devices holds the weights and one sequence\n" in told


def on_l40s(**changes: object) -> Question:
    """Return a question to 32 L40S, whose PCIe is slow for tensor parallelism."""
    targets = {"ttft_s": 4.0, "tokens_per_s_per_user": 15.0}
    cluster = make_cluster(*[(("L40S", 8),)] * 4)
    values: dict[str, object] = {"targets": targets, "concurrency": 64}
    return asked(cluster, **(values | changes))


@pytest.mark.parametrize(
    ("engine", "told"), [("vllm", "MooncakeConnector"), ("sglang", "--pp-size 4")]
)
def test_prefill_workers_are_pipelines_where_links_are_slow(engine: str, told: str) -> None:
    """Sums over PCIe take longer than prompts: stages pass on what they computed.

    vLLM's pipelines need another connector, and both pools are told so.
    """
    plan = answer(on_l40s(engines=frozenset({engine})), AnalyticPredictor()).plans[0]
    prefill, decode = plan.groups
    assert (prefill.config.tp, prefill.config.pp, decode.config.pp) == (1, 4, 1)
    assert sum(devices_used(plan).values()) == plan.devices
    pushes = [told in " ".join(each.launch.command) for each in plan.groups]
    assert pushes == [True, engine == "vllm"]


def test_pipelines_beside_what_is_not_modelled_are_left_out() -> None:
    """Sliding windows; guessed tokens, whose reason is told where only pipelines would do."""
    windows = on_l40s(model="google/gemma-3-27b-it", engines=frozenset({"vllm"}))
    assert all(each.groups[0].config.pp == 1 for each in answer(windows, AnalyticPredictor()).plans)
    lookup = Speculation(method=Method.NGRAM, draft_tokens=3, tokens_per_step=2.0)
    big = asked(
        make_cluster(*[(("H100-SXM", 8),)] * 2),
        model="meta-llama/Llama-3.1-405B-Instruct",
        speculations=(lookup,),
    )
    assert "pipelines of prefill workers beside guessed tokens are not modelled" in reasons(big)


def test_decode_workers_as_pipelines_are_refused() -> None:
    """A layout that is asked for is that of both pools."""
    question = asked(make_cluster((("H100-SXM", 8),)), layout=ParallelLayout(tp=2, pp=2))
    assert "decode workers are no pipelines: ask for pp 1" in reasons(question)


def test_one_output_token_needs_no_decode_worker() -> None:
    """Prefill makes the first token."""
    told = reasons(asked(make_cluster((("H100-SXM", 8),)), output_tokens=1))
    assert "nothing is left to decode" in told


def test_a_deployer_starts_pools_without_adapters() -> None:
    """It adds five LoRA slots to replicas of vLLM, and none to workers of pools."""
    knobs = FixedKnobs(memory_fraction=0.9, engines=frozenset({"vllm"}), max_loras=5)
    question = make_question(
        make_cluster((("H100-SXM", 4),)),
        engines=frozenset({"vllm"}),
        disaggregation=Disaggregation.ONLY,
        analytic_only=True,
        fixed_knobs=knobs,
    )
    for group in answer(question, AnalyticPredictor()).plans[0].groups:
        assert group.config.max_loras == 0
        assert "lora" not in " ".join(group.launch.args)


def test_devices_that_transfer_no_caches_are_named() -> None:
    """Gaudi serves whole requests only."""
    assert "not Gaudi3" in reasons(asked(make_cluster((("Gaudi3", 8),))))


def test_encoders_have_nothing_to_decode() -> None:
    """An embedding model generates no tokens."""
    cluster, model = make_cluster((("H100-SXM", 2),)), "BAAI/bge-large-en-v1.5"
    question = asked(cluster, model=model, input_tokens=256, output_tokens=0, targets={})
    assert "nothing to decode" in reasons(question)


def test_pools_without_a_link_are_refused() -> None:
    """Two nodes of devices without a network."""
    cluster = make_cluster((("H100-SXM", 4),), (("H100-SXM", 4),))
    alone = replace(
        cluster.nodes[0].pools[0].device,
        scale_out=replace(cluster.nodes[0].pools[0].device.scale_out, bandwidth_bytes_per_s=0.0),
    )
    nodes = tuple(
        replace(node, pools=tuple(replace(pool, device=alone) for pool in node.pools))
        for node in cluster.nodes
    )
    assert "no link joins" in reasons(asked(replace(cluster, nodes=nodes)))


def test_shared_devices_hold_no_pools() -> None:
    """Time-sliced devices are refused by name; plain plans are still answered."""
    question = asked(
        time_sliced(),
        pools="also",
        model="meta-llama/Llama-3.1-8B-Instruct",
        mode=HardwareMode.SHARED,
    )
    outcome = answer(question, AnalyticPredictor())
    assert "shares of devices are asked for" in str(outcome.rejections)
    assert outcome.plans


def test_a_rate_is_carried_and_told_in_percentiles() -> None:
    """Five requests a second on two nodes: the plan carries more, and states the p99 of TTFT."""
    question = replace(
        asked(make_cluster(*[(("H100-SXM", 8),)] * 2)),
        traffic=Traffic.at_rate(requests_per_s=5.0, input_tokens=4000, output_tokens=500),
    )
    plan = answer(question, AnalyticPredictor()).plans[0]
    for group in plan.groups:
        seen = group.replayed
        assert seen is not None
        assert group.replicas * seen.largest_stable_rate > 5.0
        assert seen.ttft_s.p50 <= seen.ttft_s.p99
    assert plan.requests_per_s == pytest.approx(5.0)


def test_a_rate_is_carried_slower_than_the_targets() -> None:
    """No L40S sends 70 tokens/s: more requests are in flight than targets allow, none is lost."""
    question = replace(
        asked(make_cluster(*[(("L40S", 8),)] * 2), targets={"tokens_per_s_per_user": 70.0}),
        traffic=Traffic.at_rate(requests_per_s=0.5, input_tokens=3400, output_tokens=430),
    )
    plan = answer(question, AnalyticPredictor()).plans[0]
    assert plan.requests_per_s == pytest.approx(0.5)
    assert plan.error_rate > 0.0


def test_a_rate_beyond_all_devices_is_refused() -> None:
    """The reason names the rate, and the most that eight devices carry."""
    question = replace(
        asked(make_cluster((("H100-SXM", 8),))),
        traffic=Traffic.at_rate(requests_per_s=500.0, input_tokens=4000, output_tokens=500),
    )
    told = reasons(question)
    assert "500 requests/s come" in told
    most = float(told.rpartition("devices carry ")[2].split()[0])
    assert 1.0 < most < 50.0


def test_percentiles_ask_for_more_than_means() -> None:
    """A p99 of 2 s is met by the requests that were replayed."""
    targets = {"percentiles": (PercentileTarget.named("ttft_p99_s", 2.0),)}
    question = asked(make_cluster((("H100-SXM", 8),)), concurrency=24, targets=targets)
    seen = answer(question, AnalyticPredictor()).plans[0].groups[1].replayed
    assert seen is not None
    assert seen.ttft_s.p99 <= 2.0


@pytest.mark.parametrize("rate", [0.0, 3.0])
def test_a_load_curve_is_that_of_both_pools(rate: float) -> None:
    """It passes through what the plan shows at the load that was asked for, and rises."""
    question = asked(make_cluster(*[(("H100-SXM", 8),)] * 2), concurrency=64)
    if rate:
        traffic = Traffic.at_rate(requests_per_s=rate, input_tokens=4000, output_tokens=500)
        question = replace(question, traffic=traffic)
    plan = answer(question, AnalyticPredictor()).plans[0]
    curve = replay_plan(question, plan, AnalyticPredictor()).curve
    assert curve.is_rate == bool(rate)
    assert curve.asked == (rate or 64)
    assert curve.load[0] < curve.asked < curve.load[-1]
    assert curve.ttft_p99_s[-1] > 2.0 * curve.ttft_p99_s[0]
    assert curve.load[0] <= curve.knee <= curve.load[-1]
    near = np.interp(curve.asked, curve.load, curve.ttft_p50_s)
    assert near == pytest.approx(plan.ttft_s, rel=0.5)


def test_the_cheapest_devices_may_be_pools() -> None:
    """Sets of both device types have workers of both pools, cheapest first."""
    named = [find_device(name) for name in ("H100-SXM", "H200-SXM")]
    question = asked(concurrency=32, engines=frozenset({"vllm"}))
    found = cheapest_devices(question, AnalyticPredictor(), [each for each in named if each])
    assert {each.device.name for each in found.sets} == {"H100-SXM", "H200-SXM"}
    costs = [each.compared_usd_per_h for each in found.sets]
    assert costs == sorted(costs)
    for each in found.sets:
        assert each.plan.is_disaggregated
        assert each.plan.devices == sum(devices_used(each.plan).values())


def test_an_unknown_wish_is_refused() -> None:
    """Only off, also and only are known."""
    with pytest.raises(InvalidInput, match="disaggregated"):
        disaggregation_of("maybe")
    assert disaggregation_of(None) is Disaggregation.OFF


def test_within_a_node_the_own_link_transfers() -> None:
    """NVLink in one node, the network between two."""
    h100 = make_cluster((("H100-SXM", 8),)).nodes[0].pools[0].device
    assert h100.scale_up.bandwidth_bytes_per_s > h100.scale_out.bandwidth_bytes_per_s
    for nodes, told in ((1, h100.scale_up), (2, h100.scale_out)):
        question = asked(make_cluster(*[(("H100-SXM", 8),)] * nodes))
        group = usable(question.clusters[0], question.mode, skip_master_cpus=True).groups[0]
        assert link_between(group, group) == told.bandwidth_bytes_per_s


@pytest.mark.parametrize(("nodes", "link"), [(18, "scale_up"), (19, "scale_out")])
def test_within_an_nvl72_the_own_link_transfers(nodes: int, link: str) -> None:
    """Eighteen nodes of four GB200 share NVLink; the nineteenth stands in another rack."""
    question = asked(make_cluster(*[(("GB200", 4),)] * nodes))
    group = usable(question.clusters[0], question.mode, skip_master_cpus=True).groups[0]
    wanted = getattr(group.device, link).bandwidth_bytes_per_s
    assert link_between(group, group) == wanted


def test_pools_within_one_rack_are_linked_and_others_are_not() -> None:
    """Of 36 nodes of four GB200 half are one NVL72; caches of its pools go over NVLink.

    A cache takes longer from rack to rack, which the search compares.
    """
    cluster = make_cluster(*[(("GB200", 4),)] * 36)
    group = usable(cluster, HardwareMode.DEDICATED, skip_master_cpus=True).groups[0]
    rack = group.largest_domain
    assert [each.node.node_id for each in rack.nodes] == [f"n{k}" for k in range(18)]
    assert rack.largest_domain is rack
    assert link_between(rack, rack) > link_between(group, group)
    question = asked(cluster, concurrency=32, targets={}, engines=frozenset({"vllm"}))
    best = answer(question, AnalyticPredictor()).plans[0]
    nodes = {node for node, _ in devices_used(best)}
    assert nodes <= {f"n{k}" for k in range(18)}
    same = change_plan(question, best, AnalyticPredictor(), {"concurrency": "32"})
    assert same.after.service.ttft_s.value == pytest.approx(best.ttft_s, rel=1e-3)


def test_a_rack_with_more_free_devices_is_taken() -> None:
    """The first rack has one node free: pools lie in the second."""
    cluster = make_cluster(*[(("GB200", 4),)] * 36)
    used = replace(cluster.nodes[0].pools[0], available=0)
    taken = tuple(
        replace(node, pools=(used,)) if number < 17 else node
        for number, node in enumerate(cluster.nodes)
    )
    found = usable(replace(cluster, nodes=taken), HardwareMode.DEDICATED, skip_master_cpus=True)
    rack = found.groups[0].largest_domain
    assert rack.devices == 72
