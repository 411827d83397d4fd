"""How engines are told to keep KV cache in host memory."""

from __future__ import annotations

import json

import pytest

from budsim.commons.units import GIB
from budsim.engine_ops import serving_engines
from budsim.engine_ops.base import ArgumentValue, Launch, ReplicaProcess
from budsim.engine_ops.engine_profile import StoreKind
from budsim.engine_ops.kv_store import KvStore
from budsim.engine_ops.shared.offload import host_cache_gib
from budsim.model_ops.registry import resolve_model
from tests.engine_ops.samples import real_arguments, replica


def arguments(engine: str, size_gib: float) -> dict[str, ArgumentValue]:
    """Return what starts Llama 8B on two H100."""
    model = resolve_model("meta-llama/Llama-3.1-8B-Instruct")
    config = replica("H100-SXM", tp=2, kv_offload_bytes=size_gib * GIB)
    return dict(serving_engines[engine].launch(model, config).args)


def test_vllm_is_told_gib_of_all_ranks() -> None:
    """One size for both devices, and its own connector."""
    stated = arguments("vllm", 300.0)
    assert stated["kv-offloading-size"] == 300.0
    assert stated["kv-offloading-backend"] == "native"


def test_sglang_is_told_gb_of_each_rank() -> None:
    """300 GiB are 322 GB: 161 for each of two devices."""
    stated = arguments("sglang", 300.0)
    assert stated["enable-hierarchical-cache"] is True
    assert stated["hicache-size"] == 161


@pytest.mark.parametrize("engine", ["vllm", "sglang"])
def test_without_host_memory_nothing_is_said(engine: str) -> None:
    """Engines keep nothing on the host by themselves."""
    assert not any("offload" in flag or "hi" in flag[:2] for flag in arguments(engine, 0.0))


@pytest.mark.parametrize("engine", ["vllm", "sglang"])
def test_every_flag_is_one_of_the_parser(engine: str) -> None:
    """The engine's own list has it."""
    assert set(arguments(engine, 300.0)) <= real_arguments(engine).keys()


def launched(engine: str, kind: StoreKind, size_gib: float = 0.0) -> Launch:
    """Return what starts Llama 8B on two H100 that read a store of that kind."""
    model = resolve_model("meta-llama/Llama-3.1-8B-Instruct")
    store = KvStore(kind=kind, capacity_bytes=1000.0 * GIB)
    config = replica("H100-SXM", tp=2, kv_store=store, kv_offload_bytes=size_gib * GIB)
    return serving_engines[engine].launch(model, config)


def test_vllm_reads_mooncake_by_a_file() -> None:
    """One connector; with host memory two, of which vLLM's own is asked first."""
    alone, both = (launched("vllm", StoreKind.MOONCAKE, size) for size in (0.0, 300.0))
    assert json.loads(str(alone.args["kv-transfer-config"])) == {
        "kv_connector": "MooncakeStoreConnector",
        "kv_role": "kv_both",
    }
    assert alone.envs["MOONCAKE_CONFIG_PATH"] == "/etc/mooncake/mooncake.json"
    stated = json.loads(str(both.args["kv-transfer-config"]))
    assert stated["kv_connector"] == "MultiConnector"
    host, store = stated["kv_connector_extra_config"]["connectors"]
    assert host["kv_connector_extra_config"] == {"cpu_bytes_to_use": 300 * 2**30}
    assert store["kv_connector"] == "MooncakeStoreConnector"
    assert "kv-offloading-size" not in both.args
    assert host_cache_gib(both.args, 2, both.envs) == 150.0


def test_vllm_reads_lmcache_by_variables() -> None:
    """Its host memory is stated for each device, and keys are the same in all replicas."""
    alone, both = (launched("vllm", StoreKind.LMCACHE, size) for size in (0.0, 300.0))
    assert json.loads(str(alone.args["kv-transfer-config"]))["kv_connector"] == "LMCacheConnectorV1"
    assert alone.envs["LMCACHE_REMOTE_URL"] == "redis://kv-store:6379"
    assert alone.envs["LMCACHE_LOCAL_CPU"] == "False"
    assert alone.envs["PYTHONHASHSEED"] == "0"
    assert both.envs["LMCACHE_MAX_LOCAL_CPU_SIZE"] == "150.0"
    assert host_cache_gib(both.args, 2, both.envs) == 150.0


def test_sglang_reads_mooncake_through_its_host_memory() -> None:
    """Servers give no memory of their own to the store."""
    found = launched("sglang", StoreKind.MOONCAKE, 300.0)
    assert found.args["hicache-storage-backend"] == "mooncake"
    assert found.args["hicache-size"] == 161
    assert found.envs["MOONCAKE_GLOBAL_SEGMENT_SIZE"] == "0"
    assert found.envs["MOONCAKE_PROTOCOL"] == "rdma"


@pytest.mark.parametrize("engine", ["vllm", "sglang"])
def test_every_flag_of_a_store_is_one_of_the_parser(engine: str) -> None:
    """The engine's own list has it, and takes the value."""
    known, args = real_arguments(engine), launched(engine, StoreKind.MOONCAKE, 300.0).args
    assert not [flag for flag in args if flag not in known or known[flag].problem(args[flag])]


def test_a_store_is_no_pool() -> None:
    """Replicas that read one need no side channel between workers of two pools."""
    launch = launched("vllm", StoreKind.MOONCAKE)
    started = serving_engines["vllm"].launch_process(launch, ReplicaProcess(port=8000))
    assert not any("NIXL" in name for name in started.envs)
