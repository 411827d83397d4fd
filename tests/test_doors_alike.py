"""One question is answered alike by every door: Python, the terminal, HTTP and tools for agents."""

from __future__ import annotations

import random
from dataclasses import replace
from typing import Any

import pytest

import budsim
from budsim.agents import questions, server
from budsim.cli import run
from budsim.commons.errors import InvalidInput
from budsim.hardware_ops.cluster import Cluster
from budsim.performance.lengths import lengths_of_mean
from budsim.performance.predictor import AnalyticPredictor
from budsim.performance.traffic import ClosedLoop, OpenLoop
from budsim.simulator.planning import answer
from budsim.simulator.planning.question import Question
from budsim.simulator.questions import DEPLOYER, ModelSource, question_of
from budsim.simulator.schemas import RunRequest

MODEL = "meta-llama/Llama-3.1-8B-Instruct"
NODES = [{"name": "gpu", "devices": [{"device": "H100-SXM", "count": 4}]}]
LAWS = ("fixed", "uniform", "lognormal", "lognormal:0.4")
LOADS: tuple[dict[str, Any], ...] = (
    {"concurrency": 48},
    *(
        {"request_rate": 12.0, "arrival": arrival}
        for arrival in ("poisson", "constant", "gamma:2", "burst:4")
    ),
)


def drawn(load: dict[str, Any]) -> dict[str, Any]:
    """Return a load with lengths, prefixes and targets drawn for it, in the words of HTTP."""
    draw = random.Random(str(load))
    prefix = draw.choice([{}, {"turns": 4}, {"prefix_hit_share": 0.5}])
    return {
        **load,
        **prefix,
        "input_tokens": draw.randrange(300, 2_000),
        "output_tokens": draw.randrange(50, 300),
        **dict.fromkeys(("input_lengths", "output_lengths"), draw.choice(LAWS)),
        "target_ttft": draw.randrange(100, 2_000),
        "target_ttft_p95": draw.choice([None, 3_000]),
    }


@pytest.fixture
def machines() -> Cluster:
    """Return four H100 of one node."""
    (found,) = questions.clusters_of(NODES)
    return found


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[Question]:
    """Return where each question is written down; nothing is searched."""
    found: list[Question] = []

    def written(question: Question, *_: object, **__: object) -> None:
        found.append(question)
        raise InvalidInput("question", "is not searched here", "nothing")

    monkeypatch.setattr(answer, "answer", written)
    return found


def by_python(load: dict[str, Any], machines: Cluster) -> None:
    """Ask in Python."""
    rate = load.get("request_rate")
    arrivals = (
        OpenLoop.named(load["arrival"], rate)
        if rate
        else ClosedLoop(concurrency=load["concurrency"])
    )
    prefix: dict[str, Any] = {}
    if "turns" in load:
        prefix = {"prefix": budsim.Sessions(turns=load["turns"])}
    if "prefix_hit_share" in load:
        prefix = {"prefix": budsim.PrefixShare(share=load["prefix_hit_share"])}
    at_p95 = load["target_ttft_p95"]
    budsim.simulate(
        model=MODEL,
        cluster=machines,
        traffic=budsim.Traffic(
            arrivals=arrivals,
            prompt=lengths_of_mean(load["input_lengths"], load["input_tokens"]),
            output=lengths_of_mean(load["output_lengths"], load["output_tokens"]),
            **prefix,
        ),
        targets=budsim.Targets(
            ttft_s=load["target_ttft"] / 1e3,
            percentiles=(budsim.PercentileTarget.named("ttft_p95_s", at_p95 / 1e3),)
            if at_p95
            else (),
        ),
    )


def by_terminal(load: dict[str, Any], cluster_file: str) -> None:
    """Ask in the terminal."""
    names = {
        "request_rate": "--rate",
        "input_lengths": "--lengths",
        "prefix_hit_share": "--prefix-hits",
        "target_ttft": "--ttft-ms",
        "target_ttft_p95": "--ttft-p95-ms",
    }
    options = {
        names.get(name, "--" + name.replace("_", "-")): str(value)
        for name, value in load.items()
        if value is not None and name != "output_lengths"
    }
    line = [word for option in options.items() for word in option]
    assert run(["simulate", "--model", MODEL, "--cluster", cluster_file, *line]) == 2


def by_http(load: dict[str, Any], machines: Cluster) -> Question:
    """Return the question of a request, without what its deployer fixes."""
    body = {"pretrained_model_uri": MODEL, "is_proprietary_model": False, "allow_mixed": True}
    targets = dict.fromkeys(("target_throughput_per_user", "target_e2e_latency"))
    request = RunRequest.model_validate({**body, **targets, **load})
    return replace(question_of(request, (machines,), ModelSource()), fixed_knobs=None)


@pytest.mark.parametrize("load", LOADS, ids=str)
def test_doors_ask_the_same(
    load: dict[str, Any], machines: Cluster, asked: list[Question], tmp_path: Any
) -> None:
    """Whatever arrives, every door makes the same question of it."""
    load, file = drawn(load), tmp_path / "machines.yaml"
    file.write_text(f"clusters: [{{name: machines, nodes: {NODES}}}]")
    with pytest.raises(InvalidInput, match="not searched"):
        by_python(load, machines)
    by_terminal(load, str(file))
    agents = questions.Question.model_validate({"model": MODEL, "nodes": NODES, **load})
    with pytest.raises(InvalidInput, match="not searched"):
        server.simulate(agents)
    python, terminal, tool = asked
    http = by_http(load, machines)
    assert python == terminal == tool == http


BURSTS = {
    "input_tokens": 1_000,
    "output_tokens": 200,
    "request_rate": 30.0,
    "arrival": "gamma:2",
    "input_lengths": "lognormal",
    "output_lengths": "lognormal",
    "target_ttft": 0,
    "target_ttft_p95": 800,
    "engines": ["vllm"],
}


def test_what_a_deployer_fixes_makes_bursts_no_dearer(machines: Cluster) -> None:
    """Its limit on sequences is the requests we state: with room for bursts, three H100 do."""
    free = by_http(BURSTS, machines)
    fixed = replace(free, fixed_knobs=DEPLOYER)
    found = [answer.answer(each, AnalyticPredictor()).plans[0] for each in (free, fixed)]
    assert [plan.devices for plan in found] == [found[0].devices] * 2
    assert [plan.meets_targets for plan in found] == [True, True]
