"""The contract's list of the predecessor's mistakes, each with the tests that prevent it."""

import re
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from budsim.hardware_ops.cluster import Cluster
from budsim.performance.predictor import AnalyticPredictor
from budsim.simulator.planning.plans import Outcome, Plan
from budsim.simulator.questions import ModelSource, question_of
from budsim.simulator.schemas import RunRequest
from budsim.simulator.searching import simulate
from tests.simulator.situations import MODEL, make_cluster

TESTS = Path(__file__).parent
MISTAKES: dict[str, tuple[str, ...]] = {
    "1. a TTFT target in ms was compared with seconds": (
        "test_contract.py::test_a_ttft_target_is_in_milliseconds_and_enforced",
        "simulator/wire/test_traffic.py::test_targets_become_seconds_once",
    ),
    "2. the cheapest were kept instead of those that meet the targets": (
        "simulator/planning/test_answer.py::test_plans_come_best_first",
        "simulator/planning/test_answer.py::"
        "test_targets_nothing_meets_are_answered_with_the_nearest",
    ),
    "3. per-user throughput counted prompt tokens": (
        "test_contract.py::test_longer_prompts_never_look_like_more_throughput",
        "performance/test_laws.py::test_latency_is_ttft_and_the_remaining_tokens",
    ),
    "4. all prompts were prefilled as one static batch": (
        "test_contract.py::test_nobody_waits_for_everybodys_prompt",
        "performance/test_laws.py::test_more_concurrency_never_shortens_tpot",
    ),
    "5. minimum TP was never computed, PP and LoRA offered where they do not work": (
        "simulator/planning/test_answer.py::test_too_large_a_model_is_rejected_with_figures",
        "test_engine_vllm.py::test_tensor_parallel_sizes_divide_heads_and_key_value_heads",
        "test_engine_vllm.py::test_pipelines_only_where_the_family_has_them",
        "test_engine_vllm.py::test_metadata_follows_the_model_not_only_its_family",
    ),
    "6. quantization was a factor applied twice, and memory stayed at bf16": (
        "performance/test_laws.py::test_quantized_weights_never_need_more_memory",
        "engine_ops/llmc/test_compressor.py::test_a_quantized_checkpoint_is_not_quantized_again",
    ),
    "7. one row per cluster survived, replicas on one node only, time-sliced GPUs without TP": (
        "simulator/test_routes.py::test_recommendations_keep_several_plans_per_cluster",
        "simulator/planning/test_placement.py::test_replicas_fill_nodes_without_crossing_them",
        "simulator/planning/test_hardware_groups.py::"
        "test_time_sliced_devices_form_tensor_parallel_groups",
    ),
    "8. cost was multiplied by replicas, ignored PP, and was random for clouds": (
        "simulator/planning/test_cost.py::test_replicas_do_not_change_the_price_of_a_token",
        "simulator/planning/test_answer.py::test_pipelines_cross_nodes_and_are_paid_in_full",
        "simulator/test_routes.py::test_cloud_model_is_priced_and_its_latency_left_unknown",
    ),
    "9. debug lost engine metadata and merged clusters": (
        "simulator/test_routes.py::test_debug_run_is_answered_with_the_recommendation",
        "simulator/test_routes.py::test_debug_and_asynchronous_runs_agree",
    ),
    "10. crossover never fired, errors scored as ideal, memory was ignored, no seed": (
        "simulator/test_evolution.py::test_the_search_finds_the_true_best",
        "simulator/test_evolution.py::test_what_does_not_fit_never_wins",
        "simulator/test_evolution.py::test_the_same_seed_looks_at_the_same_genomes",
    ),
    "11. blocking calls, remote code, pickles, no authentication, exception text to clients": (
        "test_contract.py::test_no_code_is_fetched",
        "commons/test_dapr.py::test_an_absent_sidecar_never_blocks",
        "simulator/test_refusals.py::test_token_is_demanded_everywhere_but_on_health",
        "simulator/test_refusals.py::test_unexpected_errors_say_nothing",
    ),
    "12. a target of 0 divided by zero and dropped everything": (
        "simulator/wire/test_traffic.py::test_null_and_zero_mean_no_target",
        "test_contract.py::test_targets_of_zero_are_no_targets",
    ),
    "13. mixed GPU types in a node were timed and priced as the first": (
        "simulator/planning/test_hardware_groups.py::"
        "test_different_devices_of_one_node_are_never_mixed",
        "test_contract.py::test_each_device_of_a_mixed_node_has_its_own_price",
    ),
    "14. an unreachable registry looked like an incompatible model": (
        "model_ops/test_registry.py::test_silent_hub_is_unavailable",
        "simulator/test_refusals.py::test_missing_inventory_is_503_and_accepted_later",
    ),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_every_mistake_has_tests_that_exist(mistake: str):
    """The table above names tests; renaming or deleting one of them is noticed here."""
    for test in MISTAKES[mistake]:
        file, name = test.split("::")
        assert name in _tests_in(TESTS / file), test


def test_all_mistakes_of_the_contract_are_listed():
    """There are fourteen."""
    assert [int(mistake.split(".")[0]) for mistake in MISTAKES] == list(range(1, 15))


def test_a_ttft_target_is_in_milliseconds_and_enforced(body: dict[str, Any]):
    """5,000 ms are met by what takes half a second; 0.5 ms by nothing, and the plans say so."""
    assert ask(body, target_ttft=5000).plans[0].error_rate == 0
    missed = ask(body, target_ttft=0.5).plans
    assert all(plan.error_rate > 1 for plan in missed)
    assert all(plan.ttft_s is not None and plan.ttft_s > 0.0005 for plan in missed)


def test_longer_prompts_never_look_like_more_throughput(body: dict[str, Any]):
    """Eight times the prompt length gives no user more output tokens per second."""
    short, long = (fastest(ask(body, input_tokens=tokens)) for tokens in (1024, 8192))
    assert long <= short


def test_nobody_waits_for_everybodys_prompt(body: dict[str, Any]):
    """The mean TTFT of 64 users stays well below the time of their prompts one after another."""
    alone, together = (quickest(ask(body, concurrency=users)) for users in (1, 64))
    assert alone <= together < 32 * alone


def test_targets_of_zero_are_no_targets(body: dict[str, Any]):
    """Every target 0: plans all the same, and every one meets what nobody asked for."""
    plans = ask(body, target_ttft=0, target_throughput_per_user=0, target_e2e_latency=0).plans
    assert plans
    assert {plan.error_rate for plan in plans} == {0.0}


def test_each_device_of_a_mixed_node_has_its_own_price(body: dict[str, Any]):
    """An H100 beside a T4 costs and takes what an H100 does, whichever is listed first."""
    first, second = (
        cheapest(ask(body, make_cluster(pools)), "H100-SXM")
        for pools in ((("H100-SXM", 1), ("T4", 4)), (("T4", 4), ("H100-SXM", 1)))
    )
    assert (first.cost_usd_per_h, first.ttft_s) == (second.cost_usd_per_h, second.ttft_s)


def test_no_code_is_fetched():
    """Nothing in the package trusts remote code; import-linter forbids what unpickles."""
    for file in (TESTS.parent / "budsim").rglob("*.py"):
        text = file.read_text(encoding="utf-8")
        assert not re.search(r"\btrust_remote_code\s*=(?!=|\s*False\b)", text), file


@pytest.fixture
def body() -> dict[str, Any]:
    """Return a request without targets."""
    return {
        "pretrained_model_uri": MODEL,
        "is_proprietary_model": False,
        "input_tokens": 1024,
        "output_tokens": 128,
        "concurrency": 16,
        "target_ttft": None,
        "target_throughput_per_user": None,
        "target_e2e_latency": None,
    }


def ask(body: dict[str, Any], cluster: Cluster | None = None, **changes: object) -> Outcome:
    """Answer a wire request with the analytic model, on one H100 unless told otherwise."""
    clusters = (cluster or make_cluster((("H100-SXM", 1),)),)
    return simulate(
        question_of(RunRequest.model_validate(body | changes), clusters, ModelSource()),
        AnalyticPredictor(),
    )


def fastest(outcome: Outcome) -> float:
    """Return the most output tokens per second any plan gives a user."""
    return max(plan.tokens_per_s_per_user or 0.0 for plan in outcome.plans)


def quickest(outcome: Outcome) -> float:
    """Return the shortest TTFT of any plan, s."""
    return min(plan.ttft_s or 0.0 for plan in outcome.plans)


def cheapest(outcome: Outcome, device: str) -> Plan:
    """Return the cheapest plan on one kind of device alone."""
    alone: Callable[[Plan], bool] = lambda plan: (  # noqa: E731
        {group.config.device.name for group in plan.groups} == {device}
    )
    return min(filter(alone, outcome.plans), key=lambda plan: plan.cost_usd_per_h)


@cache
def _tests_in(file: Path) -> frozenset[str]:
    text = file.read_text(encoding="utf-8")
    return frozenset(re.findall(r"^(?:async )?def (\w+)", text, flags=re.M))
