"""Changed knobs of a disaggregated plan: what follows from them, and what is refused."""

from __future__ import annotations

from dataclasses import replace
from functools import cache

import numpy as np
import pytest

from budsim.commons.errors import InvalidInput
from budsim.performance.predictor import AnalyticPredictor
from budsim.performance.speculation import Speculation
from budsim.performance.traffic import Traffic
from budsim.simulator.planning.answer import answer
from budsim.simulator.planning.knob_changes import KnobChange
from budsim.simulator.planning.plans import Plan
from budsim.simulator.planning.question import Disaggregation, Question
from budsim.simulator.planning.whatif import change_plan
from tests.simulator.situations import MODEL, make_cluster, make_question

BIG = "meta-llama/Llama-3.3-70B-Instruct"


def asked(**changes: object) -> Question:
    """Return 64 requests of 4000 + 400 tokens on eight H100, in pools."""
    values: dict[str, object] = {
        "input_tokens": 4000,
        "output_tokens": 400,
        "concurrency": 64,
        "engines": frozenset({"vllm"}),
        "targets": {"ttft_s": 2.0, "tokens_per_s_per_user": 60.0},
        "disaggregation": Disaggregation.ONLY,
        "analytic_only": True,
    }
    return make_question(make_cluster((("H100-SXM", 8),)), **(values | changes))


@cache
def best(rate: float = 0.0) -> tuple[Question, Plan]:
    """Return that question, or one of so many requests per second, with its best plan."""
    question = asked()
    if rate:
        traffic = Traffic.at_rate(requests_per_s=rate, input_tokens=4000, output_tokens=400)
        question = replace(question, traffic=traffic)
    return question, answer(question, AnalyticPredictor()).plans[0]


def change(text: str, rate: float = 0.0) -> KnobChange:
    """Return what a change does to the best plan."""
    question, plan = best(rate)
    changes = dict(part.split("=") for part in text.split(","))
    return change_plan(question, plan, AnalyticPredictor(), changes)


def test_prefill_workers_may_become_pipelines() -> None:
    """Two stages of a device each read more prompts than one device; each takes as long."""
    wide, deep = (
        change("prefill_workers=1,prefill_tp=1"),
        change("prefill_workers=1,prefill_tp=1,prefill_pp=2"),
    )
    assert deep.groups_after[0].config.pp == 2
    assert deep.groups_after[0].config.from_stages
    assert sum(part.devices for part in deep.groups_after[0].placements[0]) == 2
    times = [each.groups_after[0].service.ttft_s.value for each in (wide, deep)]
    assert times[1] < times[0]


@pytest.mark.parametrize("rate", [0.0, 5.0])
def test_a_knob_left_as_it_is_changes_nothing(rate: float) -> None:
    """Workers of the same TP and number are the same workers, to the configurations' ids."""
    groups = best(rate)[1].groups
    found = change(f"decode_tp={groups[1].config.tp},prefill_workers={groups[0].replicas}", rate)
    assert found.groups_before == groups
    assert_same(found)


def assert_same(found: KnobChange) -> None:
    """Assert that a change changed nothing."""
    assert not found.problem
    for before, after in zip(found.groups_before, found.groups_after, strict=True):
        assert after.config_id == before.config_id
        assert after.service.e2e_s.value == pytest.approx(before.service.e2e_s.value, rel=1e-9)
        assert after.memory.kv_cache_bytes == pytest.approx(before.memory.kv_cache_bytes)


@pytest.mark.parametrize("seed", range(4))
def test_what_is_shown_starts_and_is_what_it_is(seed: int) -> None:
    """Of drawn questions, every plan left as it is: its workers hold the longest sequence."""
    draw = np.random.default_rng(seed)
    question = asked(
        model=BIG if seed % 2 else MODEL,
        input_tokens=int(draw.integers(500, 9000)),
        output_tokens=int(draw.integers(100, 900)),
        concurrency=int(draw.integers(4, 300)),
        targets={"ttft_s": float(draw.uniform(0.3, 4.0))},
        analytic_only=bool(seed % 4 > 1),
        speculations=(Speculation(draft_tokens=4, tokens_per_step=2.5),) if seed == 3 else (),
    )
    for plan in answer(question, AnalyticPredictor()).plans:
        prefill, decode = plan.groups
        asks = {"prefill_tp": prefill.config.tp, "decode_workers": decode.replicas}
        changes = {name: str(value) for name, value in asks.items()}
        assert_same(change_plan(question, plan, AnalyticPredictor(), changes))


@pytest.mark.parametrize("tokens", [4000, 4390, 4400])
def test_a_prefill_worker_that_is_shown_holds_a_sequence(tokens: int) -> None:
    """70B parameters and a step of 32,768 tokens leave a cache of 4,866 tokens on two H100.

    Those that are told to run more sequences hold fewer. A cache that is smaller than a step makes
    steps as large as it is: a larger one than usual has room for two.
    """
    cluster = make_cluster(*[(("H100-SXM", 8),)] * 2)
    question = replace(
        asked(model=BIG, concurrency=128, analytic_only=False, input_tokens=tokens),
        clusters=(cluster,),
    )
    plans = answer(question, AnalyticPredictor()).plans
    assert plans
    for plan in plans:
        for group in plan.groups:
            assert group.memory.kv_capacity_tokens >= group.config.context_tokens
        prefill = plan.groups[0]
        step = prefill.config.max_num_batched_tokens
        assert step == 8192 or prefill.memory.kv_capacity_tokens >= 2 * step


def test_one_more_prefill_worker_reads_prompts_sooner() -> None:
    """It takes its share of the prompts, and costs what a worker costs."""
    prefill, decode = best()[1].groups
    found = change(f"prefill_workers={prefill.replicas + 1}")
    more, _ = found.groups_after
    assert more.replicas == len(more.placements) == prefill.replicas + 1
    assert more.service.ttft_s.value < prefill.service.ttft_s.value
    assert more.cost_usd_per_h == pytest.approx(
        prefill.cost_usd_per_h * (1.0 + 1.0 / prefill.replicas)
    )
    used = [
        part.devices for group in found.groups_after for each in group.placements for part in each
    ]
    assert sum(used) == prefill.devices + decode.devices + prefill.config.tp


def test_another_ratio_of_workers_is_told_in_one_change() -> None:
    """Both numbers change at once; the text names both pools."""
    prefill, decode = best()[1].groups
    numbers = decode.replicas + 1, prefill.replicas + 1
    found = change(f"prefill_workers={numbers[0]},decode_workers={numbers[1]}")
    assert tuple(group.replicas for group in found.groups_after) == numbers
    assert f"x H100-SXM tp{prefill.config.tp} prefill + " in repr(found)
    assert found.change == f"prefill_workers={numbers[0]}, decode_workers={numbers[1]}"


def test_more_requests_wait_longer() -> None:
    """Four times the requests in flight on the same workers, with room for them."""
    found = change("concurrency=256")
    assert found.after.service.ttft_s.value > found.before.service.ttft_s.value
    assert found.after.service.tpot_s.value > found.before.service.tpot_s.value
    assert found.after.config.concurrency == -(-256 // found.after.replicas)
    assert found.after.config.max_num_seqs >= found.before.config.max_num_seqs


def test_knobs_of_one_pool_leave_the_other() -> None:
    """Few places in the decode workers; prefill workers are launched as before."""
    found = change("decode_max-num-seqs=4")
    words = found.after.launch.command
    assert words[words.index("--max-num-seqs") + 1] == "4"
    assert found.prefill_after.launch == found.prefill_before.launch
    assert found.after.service.e2e_s.value > found.before.service.e2e_s.value


def test_formats_are_those_of_both_pools() -> None:
    """Quantized weights: about half the memory in each."""
    found = change("weight_precision=fp8")
    for before, after in zip(found.groups_before, found.groups_after, strict=True):
        assert 0.5 <= after.memory.weight_bytes / before.memory.weight_bytes < 0.65


def test_a_rate_beyond_the_pools_is_told() -> None:
    """Queues without an end are no service."""
    found = change("rate=500", 5.0)
    assert found.after is None
    assert "500 requests/s" in found.problem


def test_other_rates_are_replayed() -> None:
    """A smaller rate is finished at that rate."""
    found = change("rate=2.5", 5.0)
    assert found.after.replicas * found.after.service.requests_per_s.value == pytest.approx(2.5)
    assert found.after.replayed.rate * found.after.replicas == pytest.approx(2.5)


@pytest.mark.parametrize(
    ("text", "word"),
    [
        ("tp=2", "prefill_tp or decode_tp"),
        ("replicas=2", "prefill_workers or decode_workers"),
        ("max_num_seqs=8", "prefill_max_num_seqs"),
        ("decode_pp=2", "decode workers are no pipelines"),
        ("prefill_turbo=1", "turbo"),
        ("prefill_tp=3", "one of 1, 2, 4"),
        ("decode_workers=0", "decode_workers=0 is no number from 1"),
        ("prefill_tp=two", "prefill_tp=two is no number from 1"),
        ("foo=1", "'foo' is no knob .*prefill_workers, decode_workers, .*decode_tp, "),
        ("decode_workers=99", "have no place on 8 x H100-SXM"),
        ("decode_concurrency=4", "same in both pools"),
        ("decode_kv_precision=fp8", "same in both pools"),
        ("weight_precision=fp7", "fp7"),
        ("rate=much", "a number"),
    ],
)
def test_changes_that_make_no_sense_are_refused(text: str, word: str) -> None:
    """Each refusal names what is wrong and what would be right."""
    with pytest.raises(InvalidInput, match=word):
        change(text)


def test_a_state_is_handed_over_between_equal_workers() -> None:
    """Models with a recurrent state have workers of equal TP in both pools."""
    question = asked(model="nvidia/NVIDIA-Nemotron-Nano-9B-v2", targets={})
    plan = answer(question, AnalyticPredictor()).plans[0]
    other = 1 if plan.groups[0].config.tp > 1 else 2
    with pytest.raises(InvalidInput, match="equal"):
        change_plan(question, plan, AnalyticPredictor(), {"prefill_tp": str(other)})


def test_workers_that_do_not_fit_tell_their_pool() -> None:
    """70B parameters in 16 bits on one H100."""
    question = asked(model="meta-llama/Llama-3.3-70B-Instruct", targets={})
    plan = answer(question, AnalyticPredictor()).plans[0]
    found = change_plan(question, plan, AnalyticPredictor(), {"decode_tp": "1"})
    assert found.after is None
    assert found.problem.startswith("a decode worker does not fit")
