"""`budsim explain` puts two plans of an answer side by side."""

import json
from types import SimpleNamespace

import pytest

import budsim
from budsim.cli.app import run_command
from budsim.cli.comparison import _flag_lines
from budsim.engine_ops.base import PoolRole
from tests.simulator.situations import make_cluster


@pytest.fixture(scope="module")
def answer(tmp_path_factory):
    """Write the answer for an 8B model on eight L40S, and return the file."""
    folder = tmp_path_factory.mktemp("plans")
    cluster = folder / "cluster.yaml"
    cluster.write_text(
        "clusters: [{name: c, nodes: [{name: n, devices: [{device: L40S, count: 8}]}]}]"
    )
    found = budsim.simulate(
        model="meta-llama/Llama-3.1-8B-Instruct",
        cluster=cluster,
        traffic=budsim.Traffic.closed(concurrency=32, input_tokens=512, output_tokens=128),
        targets=budsim.Targets(ttft_s=1.0),
        analytic=True,
    )
    path = folder / "plans.json"
    path.write_text(json.dumps(found.to_dict()))
    return path


def test_two_plans_are_compared(answer, capsys):
    """The table names both, and one sentence says what the second is better and worse in."""
    assert not run_command(["explain", str(answer), "1", "2"])
    told = capsys.readouterr().out
    assert "plan 1" in told
    assert "USD/Mtok" in told
    assert "Plan 2 beside plan 1: " in told


def test_a_plan_that_does_not_exist_is_named(answer, capsys):
    """A number beyond the plans is refused with what there is."""
    assert run_command(["explain", str(answer), "1", "99"])
    assert "there is no plan 99" in capsys.readouterr().err


def test_the_document_names_its_answer(answer):
    """`answer` is the best configuration, and plans beside it are told apart from toss-ups."""
    document = json.loads(answer.read_text())
    best = document["configurations"][0]["node_groups"][0]["config_id"]
    assert document["answer"] == best
    assert best not in document["toss_ups"]


def test_flags_of_both_pools_are_compared():
    """Plain replicas are compared with prefill workers and with decode workers."""
    plain, prefill, decode = (
        SimpleNamespace(role=role, args={"tp": tp})
        for role, tp in ((None, 1), (PoolRole.PREFILL, 2), (PoolRole.DECODE, 4))
    )
    told = list(_flag_lines([plain], [prefill, decode]))
    assert told == ["prefill: --tp: 1 -> 2", "decode: --tp: 1 -> 4"]


def test_the_router_of_pools_is_told(tmp_path, capsys):
    """What it is, how it spreads requests, its part of TTFT, and its command; once for a plan."""
    found = budsim.simulate(
        model="meta-llama/Llama-3.1-8B-Instruct",
        cluster=make_cluster((("H100-SXM", 4),)),
        traffic=budsim.Traffic.closed(concurrency=32, input_tokens=512, output_tokens=128),
        engines=["vllm"],
        disaggregated="only",
        analytic=True,
    )
    path = tmp_path / "plans.json"
    path.write_text(json.dumps(found.to_dict()))
    assert not run_command(["explain", str(path), "1", "1"])
    told = " ".join(capsys.readouterr().out.split())
    assert told.count("router of plan 1: vllm-router ") == 1
    assert "requests in turn (round_robin)" in told
    ttft_ms = found.best.ttft_s * 1000
    assert f"60 of the {ttft_ms:.0f} ms until the first token ({60 / ttft_ms:.0%})" in told
    assert "vllm-router --vllm-pd-disaggregation --prefill http://node-0:8000" in told
