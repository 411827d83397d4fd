"""Files for serving stacks name published fields only, and start the plan they were made of."""

from __future__ import annotations

import json
from typing import Any

import pytest
import yaml

from budsim.commons.errors import InvalidInput
from budsim.engine_ops.shared.arguments import parse_command_line
from budsim.simulator.rendering import render, startable
from budsim.simulator.rendering.stacks.shared import engine_keywords
from tests.engine_ops.samples import real_arguments
from tests.simulator.rendering.stacks.published import check_stack

STACKS = ("kserve", "kserve-llm", "llm-d", "dynamo", "production-stack", "ray-serve", "aibrix")


VLLM_ALONE = {"kserve-llm", "production-stack", "ray-serve"}
REFUSED = [
    *((form, "sglang", kind) for form in sorted(VLLM_ALONE) for kind in ("cuda", "rocm")),
    *(("dynamo", engine, "rocm") for engine in ("vllm", "sglang")),
    *((form, "vllm", kind) for form in ("dynamo", "ray-serve") for kind in ("hpu", "cpu")),
]
PLANNED = [
    *((engine, kind) for engine in ("vllm", "sglang") for kind in ("cuda", "rocm")),
    ("vllm", "hpu"),
    ("vllm", "cpu"),
]
STARTED = [
    found
    for form in STACKS
    for engine, kind in PLANNED
    if (found := (form, engine, kind)) not in REFUSED
]


@pytest.mark.parametrize(("form", "engine", "kind"), STARTED)
def test_files_name_published_fields_only(layout, form, engine, kind):
    """Every field of a file is one that its project publishes."""
    assert check_stack(form, render(layout(kind, engine, {"a": 2}, {"b": 2}), form))


@pytest.mark.parametrize(("form", "engine", "kind"), REFUSED)
def test_what_a_stack_does_not_start_is_refused(layout, form, engine, kind):
    """Stacks that start vLLM alone, or NVIDIA's devices alone, name the format that starts all."""
    with pytest.raises(InvalidInput) as refused:
        render(layout(kind, engine, {"a": 2}, {"b": 2}), form)
    assert refused.value.problem.startswith(f"{form} does not start ")
    assert "kubernetes" in refused.value.expected


@pytest.mark.parametrize(("engine", "kind"), PLANNED)
def test_formats_that_are_offered_can_be_rendered(layout, engine, kind):
    """Offered are the stacks that start the plan's engine on its devices, and no others."""
    offered = startable(layout(kind, engine, {"a": 2}, {"b": 2}))
    stacks = [form for form in STACKS if (form, engine, kind) in STARTED]
    assert [form for form in offered if form in STACKS] == stacks
    assert {"command", "compose", "kubernetes", "litellm", "alerts"} <= set(offered)
    assert not {"recipe", "keda", "hpa"} & set(offered)


def test_the_production_stack_uses_the_runtime_of_the_devices(layout):
    """Its chart's default runtime class is NVIDIA's, which nodes with other devices lack."""
    for kind, stated in (("cuda", False), ("hpu", True), ("cpu", True)):
        text = render(layout(kind, "vllm", {"a": 2}), "production-stack")
        (model,) = yaml.safe_load(text)["servingEngineSpec"]["modelSpec"]
        assert ("runtimeClassName" in model) is stated
        assert model.get("runtimeClassName", "") == ""


def test_slices_of_gpus_are_asked_for_by_their_name(layout):
    """Dynamo names the resource of a slice; Ray takes any GPU, which its file says."""
    plan = layout("cuda", "vllm", {"a": 1}, device_name="NVIDIA-H200-MIG-3g.71gb")
    dynamo = render(plan, "dynamo")
    assert check_stack("dynamo", dynamo)
    limits = dynamo_worker(dynamo)["podTemplate"]["spec"]["containers"][0]["resources"]["limits"]
    assert limits["nvidia.com/mig-3g.71gb"] == "1"
    assert "NVIDIA-H200-MIG-3g.71gb devices only" in render(plan, "ray-serve")


def dynamo_worker(text: str) -> dict[str, Any]:
    """Return the only worker of a graph."""
    _, worker = yaml.safe_load(text)["spec"]["components"]
    assert worker["name"] == "g1"
    return worker


def words(form: str, document: dict[str, Any]) -> list[str]:
    """Return the engine's command line in a file, without the program and its model."""
    if form == "kserve":
        return document["spec"]["predictor"]["containers"][0]["command"][3:]
    if form == "kserve-llm":
        return document["spec"]["template"]["containers"][0]["args"]
    if form == "llm-d":
        return document["decode"]["containers"][0]["command"][3:]
    if form == "dynamo":
        worker = document["spec"]["components"][1]["podTemplate"]["spec"]["containers"][0]
        assert worker["args"][0] == "--model"
        return worker["args"][2:]
    if form == "aibrix":
        return document["spec"]["template"]["spec"]["containers"][0]["command"][3:]
    return document["servingEngineSpec"]["modelSpec"][0]["vllmConfig"]["extraArgs"]


@pytest.mark.parametrize("form", [form for form in STACKS if form != "ray-serve"])
def test_the_engine_is_started_with_the_arguments_of_the_plan(layout, form):
    """The engine's parser reads the plan's arguments back, but for those the stack sets itself."""
    plan = layout("cuda", "vllm", {"a": 2}, {"b": 2})
    planned = json.loads(plan)["node_groups"][0]["args"]
    document = check_stack(form, render(plan, form))[0]
    read = parse_command_line(words(form, document), real_arguments("vllm"))
    for name in ("max-model-len", "max-num-seqs", "gpu-memory-utilization"):
        assert read[name] == planned[name]


@pytest.mark.parametrize("form", STACKS)
def test_all_replicas_are_started(layout, form):
    """The replicas of a file are those of the plan."""
    text = render(layout("cuda", "vllm", {"a": 2}, {"b": 2}, {"c": 2}), form)
    counts = {
        "kserve": "minReplicas",
        "production-stack": "replicaCount",
        "ray-serve": "min_replicas",
    }
    assert 3 in _values(yaml.safe_load_all(text), counts.get(form, "replicas"))


@pytest.mark.parametrize("form", STACKS)
def test_replicas_over_nodes_are_started_or_refused(layout, form):
    """A stack that cannot start a replica over two nodes names the format that can."""
    plan = layout("cuda", "vllm", {"a": 2, "b": 2})
    if form in {"dynamo", "ray-serve"}:
        assert check_stack(form, render(plan, form))
        return
    with pytest.raises(InvalidInput) as refused:
        render(plan, form)
    assert "over 2 nodes" in str(refused.value)
    assert "kubernetes" in refused.value.expected


def test_dynamo_counts_the_nodes_of_a_replica(layout):
    """A worker over two nodes asks for two nodes, and for the devices of each."""
    text = render(layout("cuda", "vllm", {"a": 2, "b": 2}), "dynamo")
    worker = dynamo_worker(text)
    assert worker["multinode"] == {"nodeCount": 2}
    main = worker["podTemplate"]["spec"]["containers"][0]
    assert main["resources"]["limits"]["nvidia.com/gpu"] == "2"


def test_dynamo_starts_sglang_by_its_own_name(layout):
    """SGLang's worker is told its model by SGLang's flag."""
    text = render(layout("cuda", "sglang", {"a": 2}), "dynamo")
    worker = dynamo_worker(text)["podTemplate"]["spec"]["containers"][0]
    assert worker["command"][-1] == "dynamo.sglang"
    assert worker["args"][0] == "--model-path"


def test_aibrix_serves_under_the_name_its_gateway_routes_by(layout):
    """Service, label and served name are the same word."""
    workload, service = yaml.safe_load_all(render(layout("cuda", "vllm", {"a": 2}), "aibrix"))
    command = workload["spec"]["template"]["spec"]["containers"][0]["command"]
    name = service["metadata"]["name"]
    assert command[command.index("--served-model-name") + 1] == name
    assert workload["spec"]["template"]["metadata"]["labels"]["model.aibrix.ai/name"] == name


def test_the_production_stack_says_prefix_caching_itself(layout):
    """The chart turns prefix caching off unless its own field says otherwise."""
    text = render(layout("cuda", "vllm", {"a": 2}), "production-stack")
    config = yaml.safe_load(text)["servingEngineSpec"]["modelSpec"][0]["vllmConfig"]
    assert config["enablePrefixCaching"] is True
    assert "--enable-prefix-caching" not in config["extraArgs"]


def test_ray_serve_names_accelerators_as_ray_does(layout):
    """An H100 is Ray's H100, and engine arguments have Python's names."""
    text = render(layout("cuda", "vllm", {"a": 2}), "ray-serve")
    model = yaml.safe_load(text)["applications"][0]["args"]["llm_configs"][0]
    assert model["accelerator_type"] == "H100"
    assert model["placement_group_config"] == {"bundles": [{"GPU": 1}] * 2}
    assert model["engine_kwargs"]["max_num_seqs"]
    assert not any("-" in name for name in model["engine_kwargs"])


def test_ray_serve_gets_guesses_as_a_mapping(layout):
    """Python's argument is no JSON text: vLLM's own classes would refuse that."""
    plan = json.loads(layout("cuda", "vllm", {"a": 2}))
    stated = {"method": "mtp", "num_speculative_tokens": 3}
    plan["node_groups"][0]["args"]["speculative-config"] = json.dumps(stated)
    text = render(json.dumps(plan), "ray-serve")
    model = yaml.safe_load(text)["applications"][0]["args"]["llm_configs"][0]
    assert model["engine_kwargs"]["speculative_config"] == stated


def _values(found: Any, name: str) -> list[Any]:
    """Return all values of a name, however deep."""
    if isinstance(found, dict):
        own = [found[name]] if name in found else []
        return own + [each for value in found.values() for each in _values(value, name)]
    if isinstance(found, str | int | float | bool | None):
        return []
    return [each for value in found for each in _values(value, name)]


@pytest.mark.parametrize("value", ["{bad", '{"a":' * 100_000])
def test_an_argument_that_is_no_json_is_named(value: str):
    """Ray Serve takes objects as mappings; an edited document may hold anything."""
    with pytest.raises(InvalidInput, match=r"^speculative-config: is no JSON"):
        engine_keywords({"speculative-config": value})
