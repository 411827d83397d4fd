"""When caches are handed from one pool to another, and the flags that say so."""

from __future__ import annotations

import json

import pytest

from budsim.engine_ops import serving_engines
from budsim.engine_ops.base import PoolRole, ReplicaProcess
from budsim.engine_ops.shared.pools import transfers_whole_state, why_no_pools
from budsim.hardware_ops.catalog import devices
from budsim.model_ops.registry import resolve_model
from tests.engine_ops.samples import replica

LLAMA = "meta-llama/Llama-3.1-8B-Instruct"
DEEPSEEK = "deepseek-ai/DeepSeek-R1"


@pytest.mark.parametrize(
    ("prefill", "decode", "told"),
    [
        ("H100-SXM", "H100-SXM", None),
        ("A100-80GB", "H100-SXM", None),
        ("H100-SXM", "B200-SXM", "lays out KV caches differently"),
        ("H100-SXM", "MI300X", "from H100-SXM to MI300X"),
        ("Gaudi3", "Gaudi3", "not Gaudi3"),
    ],
)
def test_devices_whose_caches_are_laid_out_alike(
    prefill: str, decode: str, told: str | None
) -> None:
    """One vendor, and generations on which engines pick the same attention backend."""
    found = why_no_pools("vllm", resolve_model(LLAMA), devices()[prefill], devices()[decode])
    assert found is None if told is None else told in str(found)


def test_recurrent_states_need_equal_workers() -> None:
    """A hybrid of attention and Mamba layers hands its state over rank by rank."""
    assert not transfers_whole_state(resolve_model(LLAMA))
    assert transfers_whole_state(resolve_model("Qwen/Qwen3-Next-80B-A3B-Instruct"))


@pytest.mark.parametrize("engine", ["vllm", "sglang"])
def test_pipelines_hand_over_full_attention_only(engine: str) -> None:
    """No recurrent state and no sliding windows; MLA as well as plain caches."""
    names = ("Qwen/Qwen3-Next-80B-A3B-Instruct", "openai/gpt-oss-120b", LLAMA, DEEPSEEK)
    why = serving_engines[engine].why_no_prefill_pipelines
    told = [why(resolve_model(each), devices()["H100-SXM"]) for each in names]
    assert "recurrent state" in str(told[0])
    assert "sliding windows" in str(told[1])
    assert told[2:] == [None, None]
    on_amd = why(resolve_model(LLAMA), devices()["MI300X"])
    assert on_amd is None if engine == "sglang" else "NVIDIA" in str(on_amd)


def test_vllms_pipelines_are_found_by_a_server_of_each_worker() -> None:
    """Mooncake's connector on both sides; the router is told the port of each server."""
    engine = serving_engines["vllm"]
    for role, pp in ((PoolRole.DECODE, 1), (PoolRole.PREFILL, 2)):
        config = replica("H100-SXM", role=role, pp=pp, from_stages=True)
        launch = engine.launch(resolve_model(LLAMA), config)
        stated = json.loads(str(launch.args["kv-transfer-config"]))
        assert stated["kv_connector"] == "MooncakeConnector"
        process = engine.launch_process(launch, ReplicaProcess(port=8100))
        assert process.envs["VLLM_MOONCAKE_BOOTSTRAP_PORT"] == "9098"
    command = engine.pool_router_of(launch.args).command(["http://a:8100"], ["http://b:8000"])
    assert "--kv-connector mooncake --prefill http://a:8100 9098 --decode" in " ".join(command)


@pytest.mark.parametrize(
    ("role", "told"), [(PoolRole.PREFILL, "kv_producer"), (PoolRole.DECODE, "kv_consumer")]
)
def test_vllm_hands_caches_over_by_nixl(role: PoolRole, told: str) -> None:
    """Each worker states its role, and where it agrees on transfers."""
    engine = serving_engines["vllm"]
    launch = engine.launch(resolve_model(LLAMA), replica("H100-SXM", role=role))
    stated = json.loads(str(launch.args["kv-transfer-config"]))
    assert (stated["kv_connector"], stated["kv_role"]) == ("NixlConnector", told)
    second = engine.launch_process(launch, ReplicaProcess(port=8100, address="gpu-3"))
    assert second.envs["VLLM_NIXL_SIDE_CHANNEL_HOST"] == "gpu-3"
    assert second.envs["VLLM_NIXL_SIDE_CHANNEL_PORT"] == "5700"


def test_sglang_prefill_workers_of_a_node_have_bootstrap_ports_of_their_own() -> None:
    """The second replica of a node listens a hundred ports further."""
    engine = serving_engines["sglang"]
    launch = engine.launch(resolve_model(LLAMA), replica("H100-SXM", role=PoolRole.PREFILL))
    assert launch.args["disaggregation-mode"] == "prefill"
    second = engine.launch_process(launch, ReplicaProcess(port=30100))
    assert second.args["disaggregation-bootstrap-port"] == 9098
    decode = engine.launch(resolve_model(LLAMA), replica("H100-SXM", role=PoolRole.DECODE))
    assert decode.args["disaggregation-mode"] == "decode"
    assert "disaggregation-bootstrap-port" not in decode.args


def test_whole_replicas_transfer_nothing() -> None:
    """No flag about pools without pools."""
    for engine in serving_engines.values():
        launch = engine.launch(resolve_model(LLAMA), replica("H100-SXM"))
        assert not {name for name in launch.args if "disagg" in name or "transfer" in name}
        process = engine.launch_process(launch, ReplicaProcess(port=8000))
        assert not [name for name in process.envs if "NIXL" in name]


def test_routers_are_told_every_worker() -> None:
    """SGLang's also the bootstrap port of each prefill worker."""
    prefill, decode = ["http://a:8000", "http://b:8100"], ["http://c:8000"]
    command = " ".join(serving_engines["vllm"].pool_router.command(prefill, decode))
    assert command.startswith("vllm-router --vllm-pd-disaggregation --prefill http://a:8000")
    assert command.count("--prefill ") == 2
    assert "--decode http://c:8000" in command
    told = serving_engines["sglang"].pool_router.command(["http://a:30100"], ["http://c:30000"])
    assert "--prefill http://a:30100 9098 --decode http://c:30000" in " ".join(told)


@pytest.mark.parametrize("engine", ["vllm", "sglang"])
def test_routers_take_turns_as_predicted(engine: str) -> None:
    """Their default favours cached prefixes over even loads; and large weights take long."""
    command = serving_engines[engine].pool_router.command(["http://a:8000"], ["http://b:8000"])
    assert command[command.index("--prefill-policy") + 1] == "round_robin"
    assert command[command.index("--decode-policy") + 1] == "round_robin"
    assert int(command[command.index("--worker-startup-timeout-secs") + 1]) >= 3600


def test_no_caches_are_handed_over_beside_an_encoder() -> None:
    """VLLM 0.32 starts no connector with Whisper (``v1/core/sched/scheduler.py``)."""
    device = devices()["H100-SXM"]
    found = why_no_pools("vllm", resolve_model("openai/whisper-large-v3"), device, device)
    assert found is not None
    assert "has an encoder" in found
