"""A plan as Kubernetes manifests, each held against the API's schema."""

import json

import pytest

from budsim.commons.errors import InvalidInput
from budsim.simulator.rendering import Additions, render
from tests.simulator.rendering.reading import TWO_NODES
from tests.simulator.rendering.validators import check_manifests


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


def test_kubernetes_asks_for_mig_slices_by_their_profile(layout):
    """NVIDIA's plugin calls them by profile; a command or compose file needs their UUID."""
    plan = layout("cuda", "vllm", {"a": 1}, device_name="NVIDIA-H200-MIG-3g.71gb")
    text = render(plan, "kubernetes")
    (deployment, *_) = check_manifests(text)
    container = deployment["spec"]["template"]["spec"]["containers"][0]
    assert container["resources"]["limits"]["nvidia.com/mig-3g.71gb"] == "1"
    assert "UUID" not in text, "the device plugin sets it"
    command = render(plan, "command")
    assert "UUID of its MIG slice" in command
    assert "CUDA_VISIBLE_DEVICES=" not in command
    assert "${MIG_0:?" in render(plan, "compose")


@pytest.mark.parametrize(
    ("type_", "engine", "resource"),
    [
        ("cuda", "vllm", "nvidia.com/gpu"),
        ("rocm", "sglang", "amd.com/gpu"),
        ("hpu", "vllm", "habana.ai/gaudi"),
    ],
)
def test_kubernetes_asks_each_vendors_plugin_for_devices(layout, type_, engine, resource):
    """Two devices of the vendor's resource on the plan's nodes, with shared memory and probes."""
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
    """Two replicas on one host are two Deployments, each with its socket's cores.

    Memory and cores are limits.
    """
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


def test_weights_are_kept_on_a_claim_that_is_named(layout):
    """The pods mount the claim as the hub's cache; without a name the cache is the pod's."""
    plan = layout("cuda", "vllm", {"a": 2})
    text = render(plan, "kubernetes", additions=Additions(weights_claim="weights"))
    assert _cache(text)["persistentVolumeClaim"] == {"claimName": "weights"}
    assert "emptyDir" in _cache(render(plan, "kubernetes"))
    with pytest.raises(InvalidInput, match="weights_claim: "):
        render(plan, "kubernetes", additions=Additions(weights_claim="My Weights"))


def test_replicas_are_spread_over_the_nodes_of_the_plan(layout):
    """Kubernetes is asked to put equally many replicas on each node, where it can."""
    text = render(layout("cuda", "vllm", {"a": 2}, {"b": 2}), "kubernetes")
    pod = check_manifests(text)[0]["spec"]["template"]
    (wish,) = pod["spec"]["topologySpreadConstraints"]
    assert (wish["topologyKey"], wish["maxSkew"]) == ("kubernetes.io/hostname", 1)
    assert wish["labelSelector"]["matchLabels"].items() <= pod["metadata"]["labels"].items()


@pytest.mark.parametrize("engine", ["vllm", "sglang"])
def test_parsers_of_the_plan_are_turned_on(layout, engine):
    """A model with parsers of tool calls and reasoning is started with them."""
    named = {"vllm": ("hermes", "qwen3"), "sglang": ("qwen25", "qwen3")}[engine]
    changes = {"tool_calling_parser_type": named[0], "reasoning_parser_type": named[1]}
    command = render(layout("cuda", engine, {"a": 2}, **changes), "command")
    assert f"--tool-call-parser {named[0]}" in command
    assert f"--reasoning-parser {named[1]}" in command
    assert ("--enable-auto-tool-choice" in command) == (engine == "vllm")


def _cache(text: str) -> dict:
    """Return the volume of a file's first pod that holds weights."""
    volumes = check_manifests(text)[0]["spec"]["template"]["spec"]["volumes"]
    return next(each for each in volumes if each["name"] == "model-cache")


def test_pods_are_given_the_host_memory_of_their_kv_cache(layout):
    """200 GiB for a replica of two devices: in its shared memory, its request and its limit."""
    plain, offloading = (json.loads(layout("cuda", "vllm", {"a": 2})) for _ in range(2))
    offloaded = {"kv-offloading-size": 200.0, "kv-offloading-backend": "native"}
    offloading["node_groups"][0]["args"] |= offloaded
    before, after = (
        check_manifests(render(json.dumps(plan), "kubernetes"))[0]["spec"]["template"]["spec"]
        for plan in (plain, offloading)
    )
    assert gib(after["volumes"][0]["emptyDir"]["sizeLimit"]) == 200 + gib(
        before["volumes"][0]["emptyDir"]["sizeLimit"]
    )
    for kind in ("requests", "limits"):
        sizes = [gib(pod["containers"][0]["resources"][kind]["memory"]) for pod in (before, after)]
        assert sizes[1] - sizes[0] == 200


def gib(size: str) -> int:
    """Return a quantity of Kubernetes in GiB."""
    return int(size.removesuffix("Gi"))
