"""Plans as people start them: every file is held against its real validator, every command against the engine's parser."""

import json
import shlex

import pytest
import yaml

from budsim.commons.errors import InvalidInput, NotFound
from budsim.commons.precision import Precision
from budsim.engine_ops.shared.arguments import parse_command_line
from budsim.simulator.rendering import FORMATS, Additions, render
from tests.engine_ops.samples import real_arguments
from tests.simulator.rendering.validators import check_compose, check_manifests
from tests.simulator.situations import make_cluster, make_question

TWO_NODES = {"a": 4, "b": 4}


def commands_of(text: str) -> list[list[str]]:
    """Return the words of every command."""
    return [shlex.split(line) for line in text.splitlines() if line and not line.startswith("#")]


def flags_of(words: list[str]) -> dict:
    """Return what the engine's real parser makes of a command."""
    engine = "vllm" if "vllm" in words else "sglang"
    start = words.index("serve") + 2 if engine == "vllm" else words.index("--model-path") + 2
    return dict(parse_command_line(words[start:], real_arguments(engine)))


@pytest.mark.parametrize("form", ["command", "compose", "kubernetes", "litellm"])
def test_every_plan_of_an_answer_renders_in_every_format(answered, form):
    """CUDA, ROCm, Gaudi and CPU, vLLM and SGLang: what is written passes the validator of its format."""
    plans = answered["configurations"]
    assert {plan["node_groups"][0]["type"] for plan in plans} >= {"cuda", "rocm", "hpu", "cpu"}
    for number in range(1, len(plans) + 1):
        text = render(json.dumps(answered), form, number=number)
        if form == "command":
            assert all(flags_of(words) for words in commands_of(text))
        elif form == "compose":
            check_compose(text)
        elif form == "kubernetes":
            check_manifests(text)
        else:
            assert yaml.safe_load(text)["model_list"]


def test_replicas_on_one_node_share_neither_devices_nor_ports(layout):
    """Two replicas of two GPUs on a node: devices 0-1 and 2-3, ports apart; a third on another node starts anew."""
    text = render(layout("cuda", "vllm", {"a": 2}, {"a": 2}, {"b": 2}), "command")
    words = commands_of(text)
    assert [each[0] for each in words] == [
        "CUDA_VISIBLE_DEVICES=0,1",
        "CUDA_VISIBLE_DEVICES=2,3",
        "CUDA_VISIBLE_DEVICES=0,1",
    ]
    assert [flags_of(each)["port"] for each in words] == [8000, 8100, 8000]
    assert "g1-r3 on b" in text


def test_replicas_on_one_host_are_bound_to_sockets_of_their_own(layout):
    """One replica a socket: the second is bound behind the 56 cores of the first."""
    words = commands_of(render(layout("cpu", "vllm", {"a": 1}, {"a": 1}), "command"))
    bindings = [
        next(word for word in each if word.startswith("VLLM_CPU_OMP_THREADS_BIND"))
        for each in words
    ]
    assert bindings == ["VLLM_CPU_OMP_THREADS_BIND=0-55", "VLLM_CPU_OMP_THREADS_BIND=56-111"]


def test_device_types_of_one_node_are_told_apart(document):
    """A node's A100 are devices 0 and 1, its H100 is device 2, whichever of them the plan lists first."""
    cluster = make_cluster((("A100-SXM4-80GB", 2), ("H100-SXM", 1)))
    answered = document(make_question(cluster, analytic_only=True))
    shown = {
        plan["node_groups"][0]["name"]: commands_of(
            render(json.dumps({"node_groups": plan["node_groups"][:1]}), "command")
        )[0][0]
        for plan in reversed(answered["configurations"])
    }
    assert shown["H100-SXM"] == "CUDA_VISIBLE_DEVICES=2"
    assert shown["A100-SXM4-80GB"].startswith("CUDA_VISIBLE_DEVICES=0")


def test_a_plan_of_several_device_types_is_one_deployment(document):
    """Groups on H100 and Gaudi behind one router: every replica is reached, each weighted by its speed."""
    cluster = make_cluster((("Gaudi3", 2),), (("H100-SXM", 1),))
    targets = {"ttft_s": 0.25, "tokens_per_s_per_user": 80.0}
    text = json.dumps(
        document(make_question(cluster, concurrency=100, targets=targets, analytic_only=True))
    )
    groups = json.loads(text)["configurations"][0]["node_groups"]
    assert {group["type"] for group in groups} == {"cuda", "hpu"}
    routes = yaml.safe_load(render(text, "litellm"))["model_list"]
    assert len(routes) == sum(group["replicas"] for group in groups)
    assert len({route["litellm_params"]["weight"] for route in routes}) > 1
    check_compose(render(text, "compose"))
    assert len(check_manifests(render(text, "kubernetes"))) == 2 * len(groups) + 3


def test_vllm_over_two_nodes_meets_at_the_first(layout):
    """The worker is headless, both name the leader, and only the leader answers requests."""
    leader, worker = (
        flags_of(words)
        for words in commands_of(render(layout("cuda", "vllm", TWO_NODES), "command"))
    )
    shared = {"nnodes": 2, "master-addr": "a", "master-port": 29500}
    assert (
        {name: leader[name] for name in shared} == {name: worker[name] for name in shared} == shared
    )
    assert (leader["node-rank"], worker["node-rank"]) == (0, 1)
    assert "headless" not in leader
    assert worker["headless"] is True


def test_sglang_over_two_nodes_meets_at_the_first(layout):
    """Both name the leader's address and their rank."""
    found = [
        flags_of(words)
        for words in commands_of(render(layout("cuda", "sglang", TWO_NODES), "command"))
    ]
    assert [(each["nnodes"], each["node-rank"], each["dist-init-addr"]) for each in found] == [
        (2, 0, "a:29500"),
        (2, 1, "a:29500"),
    ]


def test_a_pipeline_over_unequal_shares_is_cut_into_equal_processes(layout):
    """Four stages of two GPUs, three of them on one node: engines count equal processes, so that node runs three."""
    text = layout("cuda", "vllm", {"a": 6, "b": 2}, tp_size=2, pp_size=4)
    found = [flags_of(words) for words in commands_of(render(text, "command"))]
    assert [each["node-rank"] for each in found] == [0, 1, 2, 3]
    assert [words[0] for words in commands_of(render(text, "command"))] == [
        "CUDA_VISIBLE_DEVICES=0,1",
        "CUDA_VISIBLE_DEVICES=2,3",
        "CUDA_VISIBLE_DEVICES=4,5",
        "CUDA_VISIBLE_DEVICES=0,1",
    ]


@pytest.mark.parametrize("engine", ["vllm", "sglang"])
def test_kubernetes_runs_several_nodes_as_a_leader_worker_set(layout, engine):
    """Rank and leader are filled in where a worker starts; the Service finds leaders alone."""
    manifests = check_manifests(render(layout("cuda", engine, TWO_NODES), "kubernetes"))
    group = manifests[0]
    template = group["spec"]["leaderWorkerTemplate"]
    worker = template["workerTemplate"]["spec"]["containers"][0]
    assert (group["kind"], template["size"]) == ("LeaderWorkerSet", 2)
    assert "$(LWS_WORKER_INDEX)" in worker["command"]
    assert any("$(LWS_LEADER_ADDRESS)" in word for word in worker["command"])
    assert "readinessProbe" not in worker
    chosen = manifests[1]["spec"]["selector"].items()
    assert chosen <= template["leaderTemplate"]["metadata"]["labels"].items()
    assert not chosen <= template["workerTemplate"]["metadata"]["labels"].items()
    assert manifests[1]["metadata"]["name"] != group["metadata"]["name"], (
        "LeaderWorkerSet makes a Service of its own name"
    )


@pytest.mark.parametrize(
    ("type_", "engine", "resource"),
    [
        ("cuda", "vllm", "nvidia.com/gpu"),
        ("rocm", "sglang", "amd.com/gpu"),
        ("hpu", "vllm", "habana.ai/gaudi"),
    ],
)
def test_kubernetes_asks_each_vendors_plugin_for_devices(layout, type_, engine, resource):
    """Two devices of the vendor's resource, on the plan's nodes only, with shared memory, probes and memory bounds."""
    deployment = check_manifests(render(layout(type_, engine, {"a": 2}, {"b": 2}), "kubernetes"))[0]
    pod = deployment["spec"]["template"]["spec"]
    container = pod["containers"][0]
    assert (deployment["kind"], deployment["spec"]["replicas"]) == ("Deployment", 2)
    assert container["resources"]["limits"][resource] == "2"
    assert container["resources"]["requests"]["cpu"] == "4"
    required = pod["affinity"]["nodeAffinity"]["requiredDuringSchedulingIgnoredDuringExecution"]
    assert required["nodeSelectorTerms"][0]["matchExpressions"][0]["values"] == ["a", "b"]
    assert {probe for probe in container if probe.endswith("Probe")} == {
        "startupProbe",
        "readinessProbe",
        "livenessProbe",
    }
    assert pod["volumes"][0]["emptyDir"] == {"medium": "Memory", "sizeLimit": "4Gi"}


def test_kubernetes_binds_cpu_replicas_to_cores_of_their_own(layout):
    """Two replicas on one host are two Deployments, each with its socket's cores; memory and cores are limits."""
    first, second = check_manifests(
        render(layout("cpu", "vllm", {"a": 1}, {"a": 1}), "kubernetes")
    )[:2]
    containers = [each["spec"]["template"]["spec"]["containers"][0] for each in (first, second)]
    bound = [
        next(env["value"] for env in each["env"] if "THREADS" in env["name"]) for each in containers
    ]
    assert bound == ["0-55", "56-111"]
    assert containers[0]["resources"]["limits"]["cpu"] == "56"
    assert containers[0]["securityContext"]["capabilities"]["add"] == ["SYS_NICE"]


def test_time_sliced_devices_are_asked_for_with_their_memory(layout):
    """HAMi is told how much of each GPU is ours, MiB."""
    text = layout("cuda", "vllm", {"a": 1}, hardware_mode="shared", memory=20.5)
    limits = check_manifests(render(text, "kubernetes"))[0]["spec"]["template"]["spec"][
        "containers"
    ][0]["resources"]["limits"]
    assert (limits["nvidia.com/gpu"], limits["nvidia.com/gpumem"]) == ("1", "20992")


def test_compose_starts_each_node_by_its_profile(layout):
    """Services of two nodes carry their node's profile; the router's requests reach every replica at its node and port."""
    compose = check_compose(render(layout("cuda", "vllm", {"a": 2}, {"a": 2}, {"b": 2}), "compose"))
    assert {name: each["profiles"] for name, each in compose["services"].items()} == {
        "g1-r1": ["a"],
        "g1-r2": ["a"],
        "g1-r3": ["b"],
        "router": ["router"],
    }
    asked = compose["services"]["g1-r2"]["deploy"]["resources"]["reservations"]["devices"][0]
    assert asked["device_ids"] == ["2", "3"]
    routes = yaml.safe_load(compose["configs"]["router"]["content"])["model_list"]
    assert [route["litellm_params"]["api_base"] for route in routes] == [
        "http://a:8000/v1",
        "http://a:8100/v1",
        "http://b:8000/v1",
    ]


def test_the_router_weighs_groups_by_speed_and_catches_what_fails(answered):
    """A group half as fast per replica gets half the weight; limits are what was predicted; gpt-4o is the fallback."""
    group = answered["configurations"][0]["node_groups"][0]
    half = {**group, "e2e_latency": group["e2e_latency"] * 2}
    text = json.dumps({**answered, "configurations": [{"node_groups": [group, half]}]})
    config = yaml.safe_load(render(text, "litellm", additions=Additions(fallbacks=("gpt-4o",))))
    fast, slow, provider = (route["litellm_params"] for route in config["model_list"])
    assert (fast["weight"], slow["weight"]) == (100, 50)
    assert fast["rpm"] == round(60 * int(group["labels"]["concurrency"]) / group["e2e_latency"])
    assert fast["tpm"] == fast["rpm"] * (512 + 128)
    assert provider["model"] == "openai/gpt-4o"
    assert config["router_settings"]["fallbacks"] == [
        {"meta-llama/Llama-3.1-8B-Instruct": ["gpt-4o"]}
    ]
    with pytest.raises(NotFound, match="gpt-4oo"):
        render(text, "litellm", additions=Additions(fallbacks=("gpt-4oo",)))


def test_a_providers_model_is_a_proxy_alone():
    """What the service answers for a cloud model renders as the proxy and nothing else."""
    group = {
        "config_id": "c", "name": "cpu", "labels": {"device_name": "cpu", "concurrency": "8"}, "type": "cpu",
        "engine_type": "litellm", "tp_size": 1, "pp_size": 1, "envs": {}, "args": {"model": "gpt-4o"}, "replicas": 1,
        "image": "berriai/litellm", "memory": 0.0, "hardware_mode": "dedicated", "ttft": None, "throughput_per_user": None,
        "e2e_latency": None, "error_rate": 0.0, "cost_per_million_tokens": 12.5, "device_name": "cpu", "device_model": "cpu",
        "raw_name": "cpu", "weight_memory_gb": 0.0, "kv_cache_memory_gb": 0.0,
    }  # fmt: skip
    text = json.dumps({"node_groups": [group]})
    assert (
        yaml.safe_load(render(text, "litellm"))["model_list"][0]["litellm_params"]["model"]
        == "openai/gpt-4o"
    )
    pulled = yaml.safe_load(render(text, "compose"))["services"].values()
    assert [service["image"] for service in pulled] == ["ghcr.io/berriai/litellm:main-stable"]
    assert [each["kind"] for each in check_manifests(render(text, "kubernetes"))] == [
        "ConfigMap",
        "Deployment",
        "Service",
    ]
    assert list(check_compose(render(text, "compose"))["services"]) == ["router"]


def test_a_quantized_plan_comes_with_its_recipe_and_keeps_its_name(document):
    """INT4 weights: the recipe makes the checkpoint the command loads, and callers go on asking for the original."""
    question = make_question(
        make_cluster((("H100-SXM", 1),)),
        analytic_only=True,
        may_quantize=True,
        weight_precision=Precision.INT4,
        engines=frozenset({"vllm"}),
    )
    text = json.dumps(document(question))
    recipe = yaml.safe_load(render(text, "recipe"))
    assert recipe["quant_stage"]["quant_modifiers"]["GPTQModifier"]["scheme"] == "W4A16"
    words = commands_of(render(text, "command"))[0]
    assert "meta-llama/Llama-3.1-8B-Instruct-W4A16" in words
    assert flags_of(words)["served-model-name"] == "meta-llama/Llama-3.1-8B-Instruct"
    assert (
        yaml.safe_load(render(text, "litellm"))["model_list"][0]["model_name"]
        == "meta-llama/Llama-3.1-8B-Instruct"
    )


@pytest.mark.parametrize(
    ("engine", "count"), [("vllm", "max-loras"), ("sglang", "max-loras-per-batch")]
)
def test_adapters_are_served_where_the_family_has_them(layout, engine, count):
    """Four adapters of rank 32 in each engine's words, with a warning; a family without them is refused, so is an odd rank."""
    wanted = Additions(max_loras=4, max_lora_rank=32)
    text = render(layout("cuda", engine, {"a": 1}), "command", additions=wanted)
    flags = flags_of(commands_of(text)[0])
    assert (flags["enable-lora"], flags[count], flags["max-lora-rank"]) == (True, 4, 32)
    assert "LoRA adapters take memory" in text
    with pytest.raises(InvalidInput, match="--max-loras"):
        render(layout("cuda", engine, {"a": 1}, supports_lora=False), "command", additions=wanted)
    with pytest.raises(InvalidInput, match="max_lora_rank"):
        render(
            layout("cuda", engine, {"a": 1}),
            "command",
            additions=Additions(max_loras=1, max_lora_rank=24),
        )


def test_an_unquantized_plan_has_no_recipe(answered):
    """Asking for one is answered, not an empty file."""
    with pytest.raises(InvalidInput, match="no recipe"):
        render(json.dumps(answered), "recipe")


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "not JSON"),
        ("[]", "not an object"),
        ('{"recommendations": []}', "neither configurations nor node_groups"),
        ('{"configurations": 7}', "not a list"),
        ('{"configurations": [], "reasons": [{"reason": "too small"}]}', "too small"),
        ('{"node_groups": []}', "there are none"),
        ('{"node_groups": [7]}', "node_groups[0]"),
    ],
)
def test_what_is_no_plan_is_refused_with_what_would_be_one(text, says):
    """Each mistake is named by what is missing in the document."""
    with pytest.raises(InvalidInput) as refused:
        render(text, "command")
    assert says in str(refused.value)


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"engine_type": "trtllm"}, "PLAN.node_groups[0].engine_type"),
        ({"type": "tpu"}, "PLAN.node_groups[0].type"),
        ({"model": None}, "PLAN.node_groups[0].model"),
        ({"replicas": 2}, "PLAN.node_groups[0].placements"),
        ({"tp_size": 3}, "PLAN.node_groups[0].placements[0]"),
        (
            {"labels": {"device_name": "x", "concurrency": "many"}},
            "PLAN.node_groups[0].labels.concurrency",
        ),
        ({"memory": float("nan")}, "PLAN.node_groups[0].memory"),
        ({"weight_memory_gb": -1}, "PLAN.node_groups[0].weight_memory_gb"),
        ({"envs": {"A; rm": "x"}}, "PLAN.node_groups[0].envs"),
        ({"args": {"tensor-parallel-sise": 2}}, "args.tensor-parallel-sise"),
        ({"args": {"swap-space": 4}}, "args.swap-space"),
    ],
)
def test_groups_no_engine_would_start_are_refused_by_field(layout, changes, field):
    """Documents are edited by hand: what an engine's parser would refuse, and what contradicts itself, is named."""
    with pytest.raises(InvalidInput) as refused:
        render(layout("cuda", "vllm", {"a": 2}, **changes), "command")
    assert refused.value.field == field


def test_unknown_formats_and_numbers_are_refused_with_those_there_are(answered):
    """The formats and the number of plans are told."""
    with pytest.raises(InvalidInput, match="command, compose, kubernetes, litellm, recipe"):
        render(json.dumps(answered), "helm")
    with pytest.raises(InvalidInput, match=f"1 to {len(answered['configurations'])}"):
        render(json.dumps(answered), "command", number=99)
    assert set(FORMATS) == {"command", "compose", "kubernetes", "litellm", "recipe"}


def test_nodes_compose_cannot_name_are_refused(layout):
    """A node called like the router, or with a space, would be another profile."""
    for node in ("router", "rack 1"):
        with pytest.raises(InvalidInput, match="profile"):
            render(layout("cuda", "vllm", {node: 2}), "compose")
