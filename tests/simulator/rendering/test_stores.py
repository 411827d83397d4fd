"""What starts the store of KV cache that a plan's replicas share."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace

import pytest
import yaml

from budsim.commons.errors import InvalidInput
from budsim.commons.units import GIB
from budsim.engine_ops.engine_profile import StoreKind
from budsim.engine_ops.kv_store import KvStore
from budsim.engine_ops.shared.stores import STORE_CLAIM
from budsim.performance.lengths import FixedLength
from budsim.performance.prefixes import PrefixSet
from budsim.performance.traffic import ClosedLoop, Traffic
from budsim.simulator.planning.question import Disaggregation, ParallelLayout
from budsim.simulator.rendering import render
from tests.simulator.rendering.validators import check_compose, check_manifests
from tests.simulator.situations import make_cluster, make_question

TRAFFIC = Traffic(
    arrivals=ClosedLoop(concurrency=64),
    prompt=FixedLength(tokens=16_000),
    output=FixedLength(tokens=100),
    prefix=PrefixSet(share=0.9, tokens=2e7),
)
Plan = Callable[..., str]


@pytest.fixture(scope="module")
def stored(document) -> Plan:
    """Return a function that plans replicas of four devices on two nodes, with a store."""
    cluster = make_cluster((("H100-SXM", 4),), (("H100-SXM", 4),))

    def plan(kind: StoreKind, engine: str = "vllm", *, offload_gib: float = 0.0) -> str:
        question = replace(
            make_question(cluster),
            analytic_only=True,
            traffic=TRAFFIC,
            engines=frozenset({engine}),
            layout=ParallelLayout(tp=4, pp=1),
            kv_offload_bytes=offload_gib * GIB,
            kv_store=KvStore(
                kind=kind,
                capacity_bytes=3000.0 * GIB,
                bytes_per_s=100e9 if kind is StoreKind.FILE else None,
            ),
        )
        found = document(question)["configurations"]
        two = next(each for each in found if each["node_groups"][0]["replicas"] == 2)
        assert two["node_groups"][0]["kv_store"]["capacity_gib"] == 3000.0
        return json.dumps(two)

    return plan


def test_commands_start_the_store_first(stored: Plan) -> None:
    """A master on one node, a part on each, and the file by which vLLM finds them."""
    told = render(stored(StoreKind.MOONCAKE), "command")
    lines = [line for line in told.splitlines() if line and not line.startswith("#")]
    assert lines[0] == "mooncake_master --port 50051"
    parts = [line for line in lines if "mooncake_store_service" in line]
    assert len(parts) == 2
    assert all(f"MOONCAKE_GLOBAL_SEGMENT_SIZE={1500 * 2**30} " in line for line in parts)
    assert len({line.split()[0] for line in parts}) == 2
    wrote = next(n for n, line in enumerate(lines) if "> /etc/mooncake/mooncake.json" in line)
    serves = [n for n, line in enumerate(lines) if " vllm serve " in line]
    assert wrote < min(serves)
    assert all(lines[n].startswith("MOONCAKE_CONFIG_PATH=") for n in serves)
    assert "which all nodes resolve as kv-store" in told


def test_compose_starts_mooncake_on_every_node(stored: Plan) -> None:
    """Each node's profile has its part, and engines are given the file and the cards."""
    compose = check_compose(render(stored(StoreKind.MOONCAKE), "compose"))
    services = compose["services"]
    parts = {name: each for name, each in services.items() if name.startswith("kv-segment-")}
    assert len(parts) == 2
    for name, part in parts.items():
        assert part["profiles"] == [name.removeprefix("kv-segment-")]
        assert part["environment"]["MOONCAKE_LOCAL_HOSTNAME"] == part["profiles"][0]
    assert services["kv-store"]["command"] == ["--port", "50051"]
    engine = services["g1-r1"]
    (config,) = engine["configs"]
    assert config["target"] == "/etc/mooncake/mooncake.json"
    written = json.loads(compose["configs"][config["source"]]["content"])
    assert written["master_server_address"] == "kv-store:50051"
    assert engine["ulimits"] == {"memlock": -1}


def test_compose_starts_redis_for_lmcache(stored: Plan) -> None:
    """One server of that size, and no file."""
    services = check_compose(render(stored(StoreKind.LMCACHE), "compose"))["services"]
    assert services["kv-store"]["image"].startswith("redis:")
    assert "3000gb" in services["kv-store"]["command"]
    assert not [name for name in services if name.startswith("kv-segment")]
    assert "configs" not in services["g1-r1"]


def test_kubernetes_runs_mooncake_as_a_daemon_set(stored: Plan) -> None:
    """A master behind a Service named kv-store, a part on each node, and the file in a mount."""
    manifests = check_manifests(render(stored(StoreKind.MOONCAKE), "kubernetes"))
    by_name = {(each["kind"], each["metadata"]["name"]): each for each in manifests}
    service = by_name["Service", "kv-store"]["spec"]
    master = by_name["Deployment", "kv-store"]["spec"]
    assert service["selector"] == master["template"]["metadata"]["labels"]
    assert service["ports"][0]["port"] == 50051
    part = by_name["DaemonSet", "kv-segment"]["spec"]["template"]["spec"]
    assert part["containers"][0]["resources"]["requests"]["memory"] == "1502Gi"
    names = [each["name"] for each in part["containers"][0]["env"]]
    assert names[0] == "MOONCAKE_LOCAL_HOSTNAME"
    config = by_name["ConfigMap", "kv-store-client"]["data"]
    assert json.loads(config["mooncake.json"])["global_segment_size"] == 0
    pod = manifests[0]["spec"]["template"]["spec"]
    mounts = {each["name"]: each["mountPath"] for each in pod["containers"][0]["volumeMounts"]}
    assert mounts["kv-store-client"] == "/etc/mooncake"


def test_kubernetes_runs_redis_for_lmcache(stored: Plan) -> None:
    """Pods ask for LMCache's host memory, and find the server by its Service."""
    plain, hosted = (
        check_manifests(render(stored(StoreKind.LMCACHE, offload_gib=size), "kubernetes"))
        for size in (0.0, 400.0)
    )
    kinds = [(each["kind"], each["metadata"]["name"]) for each in plain]
    assert ("Deployment", "kv-store") in kinds
    assert ("Service", "kv-store") in kinds
    # Its host is called as the folder of a store of files is, which nothing mounts here.
    assert STORE_CLAIM not in {
        volume["name"] for volume in plain[0]["spec"]["template"]["spec"]["volumes"]
    }
    asked = [
        int(
            each[0]["spec"]["template"]["spec"]["containers"][0]["resources"]["requests"][
                "memory"
            ].removesuffix("Gi")
        )
        for each in (plain, hosted)
    ]
    assert asked[1] - asked[0] == 400


@pytest.mark.parametrize("engine", ["vllm", "sglang"])
def test_files_are_mounted_where_engines_keep_them(stored: Plan, engine: str) -> None:
    """One folder on every node, one claim that many pods write; nothing is started."""
    plan = stored(StoreKind.FILE, engine, offload_gib=1500.0)
    told = render(plan, "command")
    assert "3,000 GiB in files) in /kv-store, which every node mounts" in told
    # SGLang keeps to the size that it is given (SGLANG_HICACHE_FILE_BACKEND_MAX_SIZE).
    assert ("remove those not read for long" in told) is (engine == "vllm")
    assert not [line for line in told.splitlines() if line.startswith(("redis", "mooncake"))]
    services = check_compose(render(plan, "compose"))["services"]
    assert "/kv-store:/kv-store" in services["g1-r1"]["volumes"]
    assert "kv-store" not in services
    manifests = check_manifests(render(plan, "kubernetes"))
    (claim,) = [each for each in manifests if each["kind"] == "PersistentVolumeClaim"]
    assert claim["metadata"]["name"] == "kv-store"
    assert claim["spec"]["accessModes"] == ["ReadWriteMany"]
    assert claim["spec"]["resources"]["requests"]["storage"] == "3000Gi"
    pod = next(each for each in manifests if "template" in each.get("spec", {}))
    inside = pod["spec"]["template"]["spec"]
    mounts = {each["name"]: each["mountPath"] for each in inside["containers"][0]["volumeMounts"]}
    assert mounts["kv-store"] == "/kv-store"
    with pytest.raises(InvalidInput, match="kserve mounts no folder of a store of files"):
        render(plan, "kserve")


def test_stacks_say_what_to_start_first(stored: Plan) -> None:
    """LMCache is found by variables, and SGLang's Mooncake, too."""
    told = render(stored(StoreKind.LMCACHE), "kserve")
    assert "start first, on the node that is kv-store: redis-server" in told
    assert "LMCACHE_REMOTE_URL" in told
    mooncake = render(stored(StoreKind.MOONCAKE, "sglang", offload_gib=1500.0), "kserve")
    assert "start first, on the node that is kv-store: mooncake_master" in mooncake
    assert "mooncake.mooncake_store_service" in mooncake


@pytest.mark.parametrize("form", ["kserve", "llm-d", "production-stack", "ray-serve", "aibrix"])
def test_stacks_without_a_file_for_vllm_refuse_mooncake(stored: Plan, form: str) -> None:
    """The reason names formats and stores that work."""
    with pytest.raises(InvalidInput, match=f"{form} mounts no file .* another store"):
        render(stored(StoreKind.MOONCAKE), form)


def test_plans_without_a_store_start_none(layout) -> None:
    """Nothing of it is written."""
    for form in ("command", "compose", "kubernetes"):
        assert "kv-store" not in render(layout("cuda", "vllm", {"a": 2}), form)


def test_a_store_lies_on_the_nodes_that_the_plan_names(stored: Plan) -> None:
    """Also where no replica runs: their compose profiles have a part each."""
    plan = json.loads(stored(StoreKind.MOONCAKE))
    for group in plan["node_groups"]:
        group["kv_store"]["nodes"] = ["rich-1", "rich-2", "rich-3"]
    services = yaml.safe_load(render(json.dumps(plan), "compose"))["services"]
    parts = [name for name in services if name.startswith("kv-segment-")]
    assert parts == ["kv-segment-rich-1", "kv-segment-rich-2", "kv-segment-rich-3"]
    sizes = {services[name]["environment"]["MOONCAKE_GLOBAL_SEGMENT_SIZE"] for name in parts}
    assert sizes == {str(1000 * 2**30)}


def test_prefill_workers_of_pools_are_clients_of_the_store(document) -> None:
    """Manifests and compose files start it; only prefill workers mount its client's file."""
    question = replace(
        make_question(make_cluster((("H100-SXM", 4),), (("H100-SXM", 4),))),
        analytic_only=True,
        traffic=TRAFFIC,
        engines=frozenset({"vllm"}),
        disaggregation=Disaggregation.ONLY,
        kv_store=KvStore(kind=StoreKind.MOONCAKE, capacity_bytes=3000.0 * GIB),
    )
    plan = json.dumps(document(question))
    manifests = check_manifests(render(plan, "kubernetes"))
    assert {"kv-store", "kv-store-client"} <= {each["metadata"]["name"] for each in manifests}
    mounted = {
        each["metadata"]["name"]: "kv-store-client" in json.dumps(each["spec"])
        for each in manifests
        if each["kind"] == "StatefulSet"
    }
    assert sorted(mounted.values()) == [False, True]
    assert check_compose(render(plan, "compose"))
    assert render(plan, "command").index("mooncake_master") < render(plan, "command").index("serve")
    for form in ("llm-d", "kserve-llm", "ray-serve"):
        with pytest.raises(InvalidInput, match="mounts no file"):
            render(plan, form)
