"""What an answer shows of a deployment is what `budsim predict` says of the same machine."""

import random
from dataclasses import replace
from functools import cache
from math import inf

import pandas as pd
import pytest

from budsim.performance.lengths import LognormalLength
from budsim.performance.predictor import load_predictor
from budsim.performance.training.score import predict_table
from budsim.simulator.planning.answer import answer
from budsim.simulator.planning.plans import Plan
from budsim.simulator.planning.question import Disaggregation, Question
from budsim.simulator.planning.whatif import change_plan
from tests.simulator.situations import make_cluster, make_question

PREDICTOR = load_predictor()
MODELS = (
    "meta-llama/Llama-3.1-8B-Instruct",
    "meta-llama/Llama-3.1-70B-Instruct",
    "Qwen/Qwen3-235B-A22B",
    "openai/gpt-oss-120b",
)
DEVICES = ("H100-SXM", "A100-80GB", "B200-SXM", "L4", "MI300X")


def drawn_question(seed: int) -> Question:
    """Return a plain question: a closed loop of equal requests, some with targets."""
    draw = random.Random(seed)
    targets = {"ttft_s": draw.choice([None, 0.5, 2.0])}
    return make_question(
        make_cluster(*[((draw.choice(DEVICES), 8),)] * draw.choice([1, 2])),
        model=draw.choice(MODELS),
        input_tokens=draw.choice([128, 1024, 4096, 16384]),
        output_tokens=draw.choice([1, 16, 128, 1024]),
        concurrency=draw.choice([1, 4, 32, 128, 500]),
        targets=targets,
    )


@cache
def shown_plans(seed: int) -> list[Plan]:
    """Return the plans of a drawn question that are not mixed."""
    return [each for each in answer(drawn_question(seed), PREDICTOR).plans if len(each.groups) == 1]


def as_row(question: Question, plan: Plan) -> dict[str, object]:
    """Return one replica of a plan in the columns of the measurements, its command in the notes."""
    group, traffic = plan.groups[0], question.traffic
    config = group.config
    return {
        "source": "here",
        "device_name": config.device.name,
        "device_type": str(config.device.kind),
        "engine": group.engine,
        "model_hf": question.architecture.model_id,
        "n_devices": config.tp * config.pp,
        **{name: getattr(config, name) for name in ("tp", "pp", "ep", "dp")},
        "precision": config.weight_precision,
        "kv_cache_dtype": config.kv_precision,
        "input_tokens": traffic.input_tokens,
        "output_tokens": traffic.output_tokens,
        "concurrency": config.concurrency,
        "mode": "serving",
        "arrival": "steady",
        "notes": f"args: {' '.join(group.launch.command)}",
    }


def predicted(question: Question, plans: list[Plan]) -> pd.DataFrame:
    """Return what `budsim predict` says of one replica of each plan."""
    rows = pd.DataFrame([as_row(question, plan) for plan in plans]).astype(str)
    found = predict_table(rows, PREDICTOR)
    assert not found.pred_error.any(), found.pred_error.tolist()
    return found


def assert_alike(plans: list[Plan], rows: pd.DataFrame) -> None:
    """Check the figures of plans: within 2 % of TTFT and 1 % of TPOT and latency."""
    for name, within in (("ttft", 0.02), ("tpot", 0.01), ("e2e", 0.01)):
        shown = [getattr(plan.groups[0].service, f"{name}_s").value * 1e3 for plan in plans]
        stated = rows[f"pred_{name}_ms"].astype(float).tolist()
        assert shown == pytest.approx(stated, rel=within), name


def as_pool_row(question: Question, plan: Plan) -> dict[str, object]:
    """Return both pools of a plan in the columns of the measurements, their commands in notes."""
    pools = dict(zip(("prefill", "decode"), plan.groups, strict=True))
    sizes = {
        f"{role}_{name}": getattr(group.config, name)
        for role, group in pools.items()
        for name in ("tp", "dp", "ep")
    }
    commands = (f"{role} args: {' '.join(each.launch.command)}" for role, each in pools.items())
    return as_row(question, replace(plan, groups=plan.groups[1:])) | {
        "mode": "serving_disagg",
        "n_devices": plan.devices,
        "concurrency": question.concurrency,
        **sizes,
        **{f"{role}_workers": each.replicas for role, each in pools.items()},
        "prefill_pp": pools["prefill"].config.pp,
        "notes": " ".join(commands),
    }


@pytest.mark.parametrize("seed", range(1, 8))
def test_plans_show_what_predict_says_of_the_same_machine(seed: int):
    """Every plan of a drawn question, put as a row into `predict`, has the same figures."""
    plans = shown_plans(seed)
    assert plans
    assert_alike(plans, predicted(drawn_question(seed), plans))


def test_changed_plans_show_what_predict_says_too():
    """So does a plan that runs no more than 8 sequences."""
    question, plan = drawn_question(3), shown_plans(3)[0]
    changed = change_plan(question, plan, PREDICTOR, {"max_num_seqs": "8"})
    assert changed.after
    after = replace(plan, groups=(changed.after,))
    assert_alike([after], predicted(question, [after]))


@pytest.mark.parametrize(
    ("seed", "device"),
    [(5, "MI300X"), (10, "A100-80GB"), (13, "L40S"), (18, "H100-SXM")],
)
def test_pools_show_what_predict_says_of_the_same_machines(seed: int, device: str):
    """A closed loop over two pools is replayed in both, on nodes that a network joins.

    Prefill workers on L40S are pipelines.
    """
    cluster = make_cluster(((device, 8),), ((device, 8),))
    question = replace(
        drawn_question(seed), clusters=(cluster,), disaggregation=Disaggregation.ONLY
    )
    plans = list(answer(question, PREDICTOR).plans)
    assert plans
    assert device != "L40S" or all(plan.groups[0].config.pp > 1 for plan in plans)
    rows = pd.DataFrame([as_pool_row(question, plan) for plan in plans]).astype(str)
    found = predict_table(rows, PREDICTOR)
    assert not found.pred_error.any(), found.pred_error.tolist()
    assert_alike(plans, found)


def test_adapters_take_the_same_memory_in_both():
    """Eight slots of rank 64 fill a 70B model's two devices: plan and row wait alike."""
    question = make_question(
        make_cluster((("H100-SXM", 2),)),
        model="meta-llama/Llama-3.1-70B-Instruct",
        input_tokens=2048,
        output_tokens=256,
        concurrency=16,
        max_loras=8,
        max_lora_rank=64,
    )
    plans = answer(question, PREDICTOR).plans
    assert plans
    assert_alike(plans, predicted(question, plans))


def test_long_prompts_fill_pipelines_alike_in_both():
    """The longest of lognormal prompts takes more of the cache than one of eight lanes has."""
    question = make_question(
        make_cluster((("L40S", 8),)),
        model="meta-llama/Llama-3.1-70B-Instruct",
        input_tokens=9_000,
        output_tokens=50,
        concurrency=100,
    )
    prompt, output = (LognormalLength(mean_tokens=each, variation=1.0) for each in (9_000, 50))
    traffic = replace(question.traffic, prompt=prompt, output=output)
    question = replace(question, traffic=traffic)
    plans = list(answer(question, PREDICTOR).plans)[:2]
    assert all(plan.groups[0].config.pp == 8 for plan in plans)
    rows = pd.DataFrame([as_row(question, plan) for plan in plans]).assign(length_law="lognormal")
    assert_alike(plans, predict_table(rows.astype(str), PREDICTOR))


@pytest.mark.parametrize("seed", range(1, 8))
def test_the_order_of_plans_follows_the_figures_they_show(seed: int):
    """A plan whose shown TTFT meets the target never comes after one whose does not."""
    limit = drawn_question(seed).targets.ttft_s or inf
    meets = [plan.ttft_s <= limit for plan in shown_plans(seed)]
    assert meets == [plan.meets_targets for plan in shown_plans(seed)]
    assert meets == sorted(meets, reverse=True)
