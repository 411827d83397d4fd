"""An agent asks the questions through the real protocol, over the pipes of a real process."""

from __future__ import annotations

import json
import sys
from typing import Any

import pytest
from mcp import StdioServerParameters
from mcp.client import Client
from mcp.client.stdio import stdio_client

import budsim
from budsim.agents.server import server

NODES = [{"name": "gpu", "devices": [{"device": "H100-SXM", "count": 4}]}]
LOAD = {
    "model": "meta-llama/Llama-3.1-8B-Instruct",
    "concurrency": 16,
    "input_tokens": 512,
    "output_tokens": 128,
    "target_ttft": 500,
}
QUESTION = {"question": {**LOAD, "nodes": NODES}}


async def answer(tool: str, arguments: dict[str, Any]) -> Any:
    """Return what a tool answers; a refusal fails the test."""
    async with Client(server()) as agent:
        found = await agent.call_tool(tool, arguments)
    assert not found.is_error, found.content
    return found.structured_content


async def refusal(tool: str, arguments: dict[str, Any]) -> str:
    """Return the words of a tool that refuses."""
    async with Client(server()) as agent:
        found = await agent.call_tool(tool, arguments)
    assert found.is_error
    return str(found.content[0].text)


async def test_every_question_is_a_tool_that_only_reads():
    """The tools are the questions, each described and marked as read-only."""
    async with Client(server()) as agent:
        tools = (await agent.list_tools()).tools
    assert {each.name for each in tools} == {
        "simulate",
        "capacity",
        "day",
        "size",
        "together",
        "what_if",
        "explain",
        "render",
    }
    assert all(each.description and each.annotations.read_only_hint for each in tools)


async def test_an_agent_gets_the_plans_of_the_python_api():
    """`simulate` answers the plans that the Python API answers, figure by figure."""
    told = await answer("simulate", QUESTION)
    asked = budsim.simulate(
        model=LOAD["model"],
        cluster=_cluster(),
        traffic=budsim.Traffic.closed(concurrency=16, input_tokens=512, output_tokens=128),
        targets=budsim.Targets(ttft_s=0.5),
    )
    assert told["plans"] == json.loads(json.dumps(asked.rows()))
    assert told["plans"][0]["meets_targets"]


async def test_a_capacity_without_a_latency_names_the_argument():
    """Not the figure of the search."""
    question = {name: value for name, value in LOAD.items() if name != "target_ttft"}
    told = await refusal("capacity", {"question": {**question, "nodes": NODES}})
    assert "target_ttft: requests may wait for ever" in told
    assert "ttft_s" not in told


async def test_capacity_counts_what_the_machines_serve():
    """`capacity` needs no load: it answers how many requests are served within an easy target."""
    unloaded = {name: value for name, value in LOAD.items() if name != "concurrency"}
    one = [{"name": "gpu", "devices": [{"device": "H100-SXM"}]}]
    told = await answer("capacity", {"question": {**unloaded, "nodes": one, "target_ttft": 100}})
    assert told["clusters"][0]["concurrency"] > 16


async def test_a_day_tells_the_replicas_of_each_hour():
    """`day` answers the hours, the plan of the busiest one, and when to add a replica."""
    load = {name: value for name, value in LOAD.items() if name != "concurrency"}
    hourly = {**load, "target_throughput_per_user": 50, "hourly": [2, 30], "lead_time_s": 60}
    two = [{"name": "gpu", "devices": [{"device": "A100-SXM-80GB", "count": 2}]}]
    told = await answer("day", {"question": {**hourly, "nodes": two}})
    assert [hour["requests_per_s"] for hour in told["hours"]] == [2, 30]
    assert told["scaling"]["replicas_by_hour"] == [each["replicas"] for each in told["hours"]]
    assert told["scaling"]["lead_time_s"] == 60
    assert told["plan"]["runs"]
    assert told["cost"]["usd_per_day"] <= told["cost"]["constant_usd_per_day"]
    assert "hourly: is missing" in await refusal("day", {"question": {**load, "nodes": NODES}})


async def test_size_names_only_the_devices_it_was_given():
    """`size` tries the named devices and no others."""
    told = await answer("size", {"load": LOAD, "devices": ["L40S"]})
    assert [each["device"] for each in told["sets"]] == ["L40S"]


async def test_together_places_several_models_on_the_same_machines():
    """`together` answers one plan for each model."""
    told = await answer("together", {"loads": [LOAD, LOAD], "nodes": NODES})
    assert told["served"] == 2
    assert len(told["plans"]) == 2


async def test_what_if_changes_one_setting():
    """`what_if` answers the group before and after the change."""
    told = await answer("what_if", {**QUESTION, "setting": "tp", "value": "2"})
    assert told["change"]["after"]["tp_size"] == 2


async def test_explain_divides_the_time_of_a_plan():
    """The shares of a plan's time add up to one."""
    told = await answer("explain", QUESTION)
    assert sum(told["groups"][0]["time_shares"].values()) == pytest.approx(1)


async def test_pools_have_a_router_and_workers_to_change():
    """`explain` tells the router before them, and `what_if` names the workers of one pool."""
    pools = {"question": {**QUESTION["question"], "disaggregated": "only"}}
    told = await answer("explain", pools)
    assert "in turn" in told["router"]["what"]
    assert "--prefill" in told["router"]["command"]
    assert (await answer("explain", QUESTION))["router"] is None
    told = await answer("what_if", {**pools, "setting": "prefill_workers", "value": "2"})
    assert told["change"]["prefill_after"]["replicas"] == 2


async def test_render_writes_what_starts_a_plan():
    """`render` answers commands that name the model."""
    told = await answer("render", {**QUESTION, "form": "command"})
    assert LOAD["model"] in told["result"]


@pytest.mark.parametrize(
    ("changed", "named"),
    [
        ({"model": "no/such-model"}, "simulate: model: 'no/such-model'"),
        ({"concurrency": 0}, "concurrency"),
        ({"request_rate": 3}, "one of both"),
        ({"concurrency": None}, "concurrency or request_rate"),
        ({"nodes": [{"name": "gpu", "devices": [{"device": "H100-SXM", "cuont": 4}]}]}, "cuont"),
        ({"nodes": []}, "nodes"),
        ({"engines": ["tgi"]}, "engines: 'tgi'"),
        ({"colour": "red"}, "colour"),
    ],
)
async def test_a_wrong_value_is_refused_in_words(changed, named):
    """A refusal names the field or the value that is wrong, and has no traceback."""
    told = await refusal("simulate", {"question": {**QUESTION["question"], **changed}})
    assert named in told
    assert "Traceback" not in told
    assert "\n" not in told


async def test_several_wrong_values_are_refused_in_one_line():
    """Each field with what it must be; none of the validation's own addresses."""
    wrong = {**QUESTION["question"], "concurrency": 0, "input_tokens": "many", "colour": "red"}
    told = await refusal("simulate", {"question": wrong})
    assert told == (
        "Error executing tool simulate: question.input_tokens: must be a number, not text; "
        "question.concurrency: must be greater than or equal to 1; "
        "question.colour: is no argument of it"
    )


async def test_an_agent_may_ask_for_guesses():
    """A plan for two requests guesses tokens ahead, and its command says how."""
    few = {**QUESTION["question"], "concurrency": 2, "speculative": "ngram", "acceptance": 0.8}
    told = await answer("render", {"question": few, "form": "command"})
    assert "ngram" in told["result"].lower()


@pytest.mark.parametrize(
    ("tool", "arguments", "named"),
    [
        ("render", {**QUESTION, "form": "helm"}, "form: 'helm'"),
        ("what_if", {**QUESTION, "setting": "colour", "value": "1"}, "setting: 'colour'"),
        ("size", {"load": LOAD, "devices": ["H1000"]}, "devices: 'H1000'"),
    ],
)
async def test_a_refusal_names_the_argument_of_the_tool(tool, arguments, named):
    """Not the option of the command line: an agent has no `--device`."""
    assert named in await refusal(tool, arguments)


async def test_an_unknown_plan_is_refused():
    """`explain` says which plans there are."""
    assert "expected 1 to" in await refusal("explain", {**QUESTION, "number": 1000})


async def test_nothing_fits_is_an_answer_with_reasons():
    """A model that is too large has no plan, and the reasons say so."""
    small = [{"name": "gpu", "devices": [{"device": "L4"}]}]
    question = {**LOAD, "model": "meta-llama/Llama-3.1-405B-Instruct", "nodes": small}
    told = await answer("simulate", {"question": question})
    assert told["plans"] == []
    assert told["reasons"]


async def test_the_command_serves_over_pipes():
    """`budsim mcp` speaks the protocol on stdin and stdout."""
    command = StdioServerParameters(command=sys.executable, args=["-m", "budsim.cli", "mcp"])
    async with Client(stdio_client(command)) as agent:
        found = await agent.call_tool("simulate", QUESTION)
    assert found.structured_content["plans"][0]["meets_targets"]


def _cluster() -> budsim.Cluster:
    from budsim.hardware_ops.cluster_file import clusters_in

    return clusters_in({"clusters": [{"name": "machines", "nodes": NODES}]})[0]
