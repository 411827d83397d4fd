"""Questions and their answers on real catalog devices, models and engines."""

import math
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from multiprocessing import get_context

import numpy as np
import pytest

from budsim.commons.errors import InvalidInput, NotFound
from budsim.commons.precision import Precision
from budsim.commons.units import GIB
from budsim.hardware_ops.cluster import HardwareMode
from budsim.hardware_ops.inventory import read_inventory
from budsim.performance.predictor import AnalyticPredictor
from budsim.simulator.planning.answer import answer
from budsim.simulator.planning.question import Question
from budsim.simulator.planning.targets import Targets
from budsim.simulator.planning.taste import counted_cost, effort_factor
from tests.simulator.situations import (
    CountingPredictor,
    ask,
    devices_used,
    make_cluster,
    make_pool,
    make_question,
    time_sliced,
)

MIXED = make_cluster(
    (("H100-SXM", 4), ("T4", 2)), (("L40S", 4),), (("Frobnicator-9000", 3),), (("Xeon 6972P", 2),)
)


def test_plans_are_ready_to_launch():
    """The best plan names its command, image, nodes, intervals around every figure.

    Memory within the budget.
    """
    group = ask(make_question(make_cluster((("H100-SXM", 8),)))).plans[0].groups[0]
    assert group.launch.command[:2] in {("vllm", "serve"), ("python3", "-m"), ("python", "-m")}
    assert group.launch.image
    assert group.metadata.architecture_family
    for figure in (
        group.service.ttft_s,
        group.service.tpot_s,
        group.service.e2e_s,
        group.service.tokens_per_s_per_user,
    ):
        assert figure.low90 <= figure.low80 <= figure.value <= figure.high80 <= figure.high90
    used = (
        group.memory.weight_bytes
        + group.memory.kv_cache_bytes
        + group.memory.activation_bytes
        + group.memory.reserved_bytes
    )
    assert used <= group.memory.budget_bytes * (1 + 1e-9)
    assert group.memory.kv_capacity_tokens >= group.config.context_tokens


def test_the_cache_of_a_processor_follows_its_memory():
    """A few chats do not fill half of the memory left, but prefixes stay; the command says so.

    2 x 8592+ with 4 chats: the weights, and of what is left at least half in whole GiB.
    """
    question = make_question(
        make_cluster((("Xeon Platinum 8592+", 2),)), concurrency=4, engines=frozenset({"vllm"})
    )
    for plan in ask(question).plans:
        memory, launch = plan.groups[0].memory, plan.groups[0].launch
        used = memory.weight_bytes + memory.activation_bytes + memory.reserved_bytes
        left = memory.budget_bytes - used
        assert left / 2 - GIB < memory.kv_cache_bytes <= left
        assert launch.envs["VLLM_CPU_KVCACHE_SPACE"] == str(round(memory.kv_cache_bytes / GIB))


def test_plans_come_best_first():
    """Plans that meet every target come first and cheapest first.

    The others by how much they miss, but for toss-ups; that counts more for a pipeline.
    """
    question = make_question(MIXED, targets={"ttft_s": 0.2, "tokens_per_s_per_user": 60.0})
    plans = ask(question).plans
    misses = np.array([plan.error_rate * effort_factor(plan) for plan in plans])
    assert (misses[1:] >= 0.97 * misses[:-1]).all()
    costs = [counted_cost(plan) for plan in plans if plan.meets_targets]
    assert costs == sorted(costs)
    assert plans[0].meets_targets
    assert not plans[-1].meets_targets


def test_every_device_type_keeps_its_best_plan():
    """A caller sees what each kind of device that can serve the model would do.

    Not only the cheapest.
    """
    found = {
        group.config.device.name
        for plan in ask(make_question(MIXED)).plans
        for group in plan.groups
    }
    assert {"H100-SXM", "L40S", "T4"} <= found


def test_replicas_share_the_requests():
    """Each of R replicas serves ceil(concurrency / R) requests.

    All their devices are paid once.
    """
    for plan in ask(make_question(make_cluster((("L40S", 4),)), concurrency=30)).plans:
        group = plan.groups[0]
        assert group.config.concurrency == math.ceil(30 / group.replicas)
        per_h = (
            group.replicas * group.config.tp * group.config.pp * group.config.device.price_usd_per_h
        )
        tokens_per_h = 30 * 128 / plan.e2e_s * 3600
        assert plan.cost_usd_per_h == pytest.approx(per_h)
        assert plan.cost_per_million_tokens_usd == pytest.approx(per_h / tokens_per_h * 1e6)


def test_pipelines_cross_nodes_and_are_paid_in_full():
    """405B in 16 bit takes a pipeline over two nodes of eight H100.

    Sixteen devices in place, sixteen paid.
    """
    nodes = ((("H100-SXM", 8),), (("H100-SXM", 8),))
    plan = ask(
        make_question(make_cluster(*nodes), model="meta-llama/Llama-3.1-405B-Instruct")
    ).plans[0]
    group = plan.groups[0]
    assert group.config.tp * group.config.pp == plan.devices == devices_used(plan).total() == 16
    assert {part.node_id for part in group.placements[0]} == {"n0", "n1"}
    assert plan.cost_usd_per_h == pytest.approx(16 * group.config.device.price_usd_per_h)


def test_error_rate_is_the_mean_relative_miss():
    """Targets of half the predicted TTFT and the predicted end-to-end latency itself.

    Misses of 1 and 0, 0.5 on average.
    """
    small = make_question(
        make_cluster((("L4", 1),)),
        model="meta-llama/Llama-3.2-1B-Instruct",
        engines=frozenset({"vllm"}),
        concurrency=1,
    )
    plan = ask(replace(small, analytic_only=True)).plans[0]
    targets = replace(small.targets, ttft_s=plan.ttft_s / 2, e2e_s=plan.e2e_s)
    again = ask(replace(small, analytic_only=True, targets=targets)).plans
    same = next(each for each in again if each.groups[0].config == plan.groups[0].config)
    assert same.error_rate == pytest.approx(0.5, rel=1e-6)


def test_too_large_a_model_is_rejected_with_figures():
    """405B parameters in 16 bit on one 24 GiB card.

    No plan, and a reason with the gigabytes needed and there.
    """
    outcome = ask(
        make_question(make_cluster((("L4", 1),)), model="meta-llama/Llama-3.1-405B-Instruct")
    )
    assert not outcome.plans
    assert [rejection.devices for rejection in outcome.rejections if rejection.devices] == [1]
    reason = next(rejection.reason for rejection in outcome.rejections if rejection.devices)
    assert "weights need 7" in reason
    assert "per device at tp=1" in reason
    assert "a device has 2" in reason


def test_targets_nothing_meets_are_answered_with_the_nearest():
    """A TTFT of a microsecond.

    Best-effort plans with an error rate, and a reason that names the target and the miss.
    """
    outcome = ask(
        make_question(make_cluster((("H100-SXM", 8),)), targets={"ttft_s": 1e-6, "e2e_s": 100.0})
    )
    assert outcome.plans
    assert outcome.plans[0].error_rate > 0
    assert any(
        "TTFT" in rejection.reason and "factor" in rejection.reason
        for rejection in outcome.rejections
    )


def test_unknown_devices_are_called_unknown():
    """A cluster of unknown devices has no plan and one reason: unknown device."""
    outcome = ask(make_question(make_cluster((("Frobnicator-9000", 2),))))
    assert not outcome.plans
    assert [(each.devices, "unknown device" in each.reason) for each in outcome.rejections] == [
        (2, True)
    ]


def test_sequences_beyond_the_context_are_refused_by_name():
    """Prompts longer than the model's context are the caller's mistake, in input_tokens."""
    with pytest.raises(InvalidInput) as caught:
        ask(make_question(MIXED, input_tokens=10**7))
    assert caught.value.field == "input_tokens"


def test_unknown_engines_are_refused_by_name():
    """An engine nobody knows is an error, not an empty answer."""
    with pytest.raises(NotFound):
        ask(make_question(MIXED, engines=frozenset({"nobody"})))


def test_engines_can_be_restricted():
    """Only the engine asked for is in the plans."""
    plans = ask(make_question(MIXED, engines=frozenset({"sglang"}))).plans
    assert {group.engine for plan in plans for group in plan.groups} == {"sglang"}


def test_quantized_weights_are_a_wish():
    """16 bit unless asked; with INT4 asked for, every plan has it."""
    cluster = make_cluster((("H100-SXM", 2),))
    plain = ask(make_question(cluster)).plans
    asked = ask(make_question(cluster, may_quantize=True, weight_precision=Precision.INT4)).plans
    assert {group.config.weight_precision for plan in plain for group in plan.groups} == {
        Precision.BF16
    }
    assert {group.config.weight_precision for plan in asked for group in plan.groups} == {
        Precision.INT4
    }


def test_shared_mode_pays_for_its_slice():
    """A replica on the part of a GPU others left pays that part of its price."""
    plans = ask(
        make_question(
            time_sliced(), model="meta-llama/Llama-3.2-1B-Instruct", mode=HardwareMode.SHARED
        )
    ).plans
    assert plans
    whole = {
        (
            p.groups[0].devices,
            round(p.cost_usd_per_h / p.groups[0].config.device.price_usd_per_h, 6),
        )
        for p in plans
    }
    assert all(paid <= devices for devices, paid in whole)


def test_a_generation_is_one_prediction():
    """The search predicts whole generations at a time, and counts every candidate once.

    Plans and what follows them are few.
    """
    predictor = CountingPredictor()
    outcome = answer(
        make_question(make_cluster((("H100-SXM", 8),), (("L40S", 8),)), concurrency=300), predictor
    )
    assert len(predictor.calls) <= 60
    assert sum(predictor.calls) <= outcome.evaluations + 60


def test_same_question_same_answer_in_another_process():
    """L5: same input and seed, same answer, also in parallel."""
    question = make_question(MIXED, targets={"ttft_s": 0.5}, seed=7, may_quantize=True)
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        elsewhere = pool.submit(ask, question)
        assert ask(question) == elsewhere.result()


def listed(name: str, **changes: object) -> dict[str, object]:
    """Return one device entry of an inventory."""
    return {"name": name, "type": "cuda", "available_count": 2, "total_count": 2} | changes


def test_bad_entries_are_named_and_the_good_one_is_answered():
    """One good H100 node among every kind of bad entry.

    A plan on it, and a reason for each of the others that names it.
    """
    sliced = listed(
        "A100-SXM4-40GB",
        hardware_mode="shared",
        device_uuid="GPU-0",
        available_count=1,
        total_count=1,
    )
    entries = {
        "none": listed("L40S", available_count=0, total_count=0),
        "negative": listed("L4", available_count=-1),
        "unknown": listed("Frobnicator-9000"),
        "quantum": listed("A30", type="quantum"),
        "sliced": sliced,
        "half-known": {
            "name": "Xeon Platinum 8480+",
            "type": "cpu",
            "available_count": 1,
            "cores": 112,
        },
    }
    nodes = [{"name": name, "devices": [entry]} for name, entry in entries.items()]
    nodes += [
        {"name": "good", "devices": [listed("H100-SXM")]},
        {"name": "good", "devices": [listed("H100-SXM")]},
        {"name": "down", "status": False, "devices": [listed("T4")]},
    ]
    outcome = ask(make_question(*read_inventory([{"id": "lab", "nodes": nodes}])))
    assert {group.config.device.name for plan in outcome.plans for group in plan.groups} == {
        "H100-SXM"
    }
    assert max(plan.devices for plan in outcome.plans) <= 2
    reasons = {rejection.subject: rejection.reason for rejection in outcome.rejections}
    for subject, words in {
        "L40S": "counts none",
        "L4": "nodes[1].devices[0].available_count: is -1; expected a whole number",
        "Frobnicator-9000": "unknown device",
        "A30": "type 'quantum' is none of cuda",
        "A100-SXM4-40GB": "without memory_allocated_gb",
        "Xeon Platinum 8480+": "memory is not stated",
        "H100-SXM": "each node once",
        "T4": "down",
    }.items():
        assert words in reasons[subject]


def test_an_engine_that_cannot_run_is_named_and_other_devices_are_answered():
    """SGLang on H100 and Gaudi 3: plans on the H100, and for Gaudi 3 a reason that names SGLang."""
    cluster = make_cluster((("H100-SXM", 2),), (("Gaudi3", 2),))
    outcome = ask(make_question(cluster, engines=frozenset({"sglang"})))
    assert {group.config.device.name for plan in outcome.plans for group in plan.groups} == {
        "H100-SXM"
    }
    assert [
        (each.devices, "sglang" in each.reason)
        for each in outcome.rejections
        if each.subject == "Gaudi3"
    ] == [(2, True)]


def test_a_quantization_a_device_lacks_is_named_and_others_are_answered():
    """FP8 weights asked for on H100 and T4, which has no such kernels.

    Plans on the H100, and what the T4 offers instead.
    """
    cluster = make_cluster((("H100-SXM", 2), ("T4", 2)))
    outcome = ask(make_question(cluster, weight_precision=Precision.FP8, may_quantize=True))
    assert {group.config.device.name for plan in outcome.plans for group in plan.groups} == {
        "H100-SXM"
    }
    reasons = [each for each in outcome.rejections if each.subject == "T4"]
    assert sum(each.devices for each in reasons) == 2
    assert all("fp8" in each.reason and "offers" in each.reason for each in reasons)


def test_an_empty_inventory_is_answered_with_a_reason():
    """No clusters, or a cluster without devices: no plan, one reason."""
    assert [r.reason for r in ask(make_question()).rejections] == ["it has no clusters"]
    assert [r.reason for r in ask(make_question(make_cluster())).rejections] == [
        "it has no devices"
    ]


def test_busy_devices_are_counted_as_in_use():
    """Five of eight devices busy: three are searched over, five are rejected."""
    cluster = make_cluster((("H100-SXM", 8),))
    node = replace(cluster.nodes[0], pools=(make_pool("H100-SXM", 8, available=3),))
    outcome = ask(make_question(replace(cluster, nodes=(node,))))
    assert max(plan.devices for plan in outcome.plans) <= 3
    assert sum(rejection.devices for rejection in outcome.rejections) == 5


def test_plans_of_a_cluster_differ_in_layout():
    """No two plans are the same devices, engine, parallelism, formats and replicas.

    Knobs alone do not make another plan.
    """
    cluster = make_cluster((("H100-SXM", 8),), (("H100-SXM", 8),), (("Gaudi3", 8),))
    question = make_question(cluster, model="meta-llama/Llama-3.1-70B-Instruct", concurrency=64)
    plans = answer(question, AnalyticPredictor()).plans
    layouts = [
        (
            g.config.device.name,
            g.engine,
            g.config.tp,
            g.config.pp,
            g.config.ep,
            g.config.kv_precision,
            g.replicas,
        )
        for plan in plans
        for g in plan.groups
    ]
    assert len(layouts) > 2
    assert len(set(layouts)) == len(layouts)


def test_adapters_take_memory_and_are_launched():
    """Eight adapters of rank 64 on every replica.

    Their weights come out of the cache, and each engine is told of them.
    """
    question = make_question(make_cluster((("L40S", 2),)), analytic_only=True)
    plain, adapted = (
        ask(each).plans for each in (question, replace(question, max_loras=8, max_lora_rank=64))
    )
    assert {group.engine for plan in adapted for group in plan.groups} == {"vllm", "sglang"}
    for group in (group for plan in adapted for group in plan.groups):
        assert group.launch.args["enable-lora"] is True
        assert {"max-loras", "max-loras-per-batch"} & set(group.launch.args)
        assert group.launch.args["max-lora-rank"] == 64
    assert adapted[0].groups[0].memory.weight_bytes > plain[0].groups[0].memory.weight_bytes * 1.05


def test_engines_without_adapters_for_a_family_say_so():
    """SGLang serves none of DeepSeek's; vLLM is still answered."""
    question = make_question(
        make_cluster((("L40S", 1),)), model="deepseek-ai/DeepSeek-V2-Lite-Chat", max_loras=1
    )
    outcome = ask(replace(question, analytic_only=True))
    assert {group.engine for plan in outcome.plans for group in plan.groups} == {"vllm"}
    assert "sglang serves no LoRA adapters of DeepseekV2ForCausalLM" in [
        rejection.reason for rejection in outcome.rejections
    ]


def test_parsers_follow_the_hub_id_where_the_models_own_name_says_nothing():
    """A model kept under a name of one's own gets the parsers of the hub id given beside it.

    A nonsense id changes nothing.
    """
    question = make_question(make_cluster((("H100-SXM", 1),)), analytic_only=True)
    renamed = replace(
        question, architecture=replace(question.architecture, model_id="our/assistant")
    )

    def parser(asked: Question) -> str | None:
        return ask(asked).plans[0].groups[0].metadata.tool_calling_parser_type

    assert parser(question)
    assert parser(renamed) is None
    assert parser(replace(renamed, parsed_as=question.architecture.model_id)) == parser(question)
    assert parser(replace(question, parsed_as="nobody/knows-this")) == parser(question)


def test_the_cautious_judge_targets_by_the_worse_end():
    """A TTFT between what is expected and the worse end of its range is met for one.

    Missed for the other.
    """
    question = make_question(make_cluster((("H100-SXM", 1),)), concurrency=1)
    found = ask(question).plans[0].groups[0].service.ttft_s
    between = Targets(ttft_s=(found.value + found.high90) / 2.0)
    assert ask(replace(question, targets=between)).plans[0].meets_targets
    cautious = ask(replace(question, targets=between, chance=0.95))
    assert not any(plan.meets_targets for plan in cautious.plans)
    assert "with a chance of" in cautious.rejections[0].reason
