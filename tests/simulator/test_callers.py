"""Real answers held against what the callers do with them (`tests/callers.py`)."""

from typing import Any

import pytest
from fastapi.testclient import TestClient

from budsim.commons.config import ModelSettings, ServingSettings
from budsim.engine_ops.shared.arguments import check_arguments
from budsim.hardware_ops.cluster import Cluster
from budsim.performance.predictor import AnalyticPredictor
from budsim.simulator.background.worker_processes import ThreadWorkers
from budsim.simulator.cluster_sources import FixedInventory
from budsim.simulator.searching import simulate
from tests.callers import command_of, lost_rows, refused_deployment
from tests.simulator.serving import CLUSTER_ID, MakeClient
from tests.simulator.situations import make_cluster, time_sliced

LLAMA = "meta-llama/Llama-3.1-8B-Instruct"
H100 = make_cluster((("H100-SXM", 2),))
TWO_NODES = make_cluster((("H100-SXM", 8),), (("H100-SXM", 8),))
SITUATIONS: dict[str, tuple[Cluster, dict[str, Any]]] = {
    "dense, LoRA-capable": (H100, {}),
    "with adapters": (H100, {"max_loras": 4}),
    "mixture of experts": (TWO_NODES, {"pretrained_model_uri": "Qwen/Qwen3-235B-A22B"}),
    "embedding": (H100, {"pretrained_model_uri": "BAAI/bge-m3", "model_endpoints": "EMBEDDING"}),
    "CPU": (
        make_cluster((("Xeon-Platinum-8480+", 2),)),
        {"pretrained_model_uri": "meta-llama/Llama-3.2-1B", "concurrency": 2},
    ),
    "Gaudi": (make_cluster((("Gaudi3", 8),)), {}),
    "time-sliced": (time_sliced(), {"hardware_mode": "shared", "concurrency": 4}),
    "several nodes": (TWO_NODES, {"pretrained_model_uri": "deepseek-ai/DeepSeek-R1"}),
    "unequal devices": (make_cluster((("H100-SXM", 1), ("L40S", 4))), {"concurrency": 200}),
    "bursts at a rate": (H100, {"concurrency": None, "request_rate": 10, "arrival": "gamma:2"}),
    "quantized": (H100, {"is_quantization": True, "quantization_method": "AWQ"}),
}


@pytest.fixture
def ask(make_client: MakeClient, body: dict[str, Any]) -> Any:
    """Return a function that runs a real search on a cluster; gives client and answer."""

    def run(
        cluster: Cluster, changes: dict[str, Any], **settings: Any
    ) -> tuple[TestClient, dict[str, Any]]:
        client = make_client(
            inventory=FixedInventory((cluster,)),
            workers=ThreadWorkers(simulate, AnalyticPredictor),
            **settings,
        )
        targets = dict.fromkeys(name for name in body if name.startswith("target_"))
        asked = body | targets | {"simulation_method": "heuristic", "debug": True} | changes
        answer = client.post("/simulator/run", json=asked)
        assert answer.status_code == 200, answer.text
        return client, answer.json()

    return run


def configured(client: TestClient, answer: dict[str, Any]) -> dict[str, Any]:
    """Return the configuration that is deployed of an answer."""
    found = client.post("/simulator/configurations", json={"workflow_id": answer["workflow_id"]})
    assert found.status_code == 200, found.text
    result: dict[str, Any] = found.json()
    return result


@pytest.mark.parametrize("situation", SITUATIONS)
def test_the_deployer_can_start_every_answer(ask: Any, situation: str):
    """One node group whose engine takes the line, and what it overwrites is what was sized for."""
    cluster, changes = SITUATIONS[situation]
    client, answer = ask(cluster, changes | {"engines": ["vllm"]})
    (group,) = (configuration := configured(client, answer))["node_groups"]
    assert refused_deployment(configuration) == []
    line = command_of(group)
    model = line.pop("model")
    assert model.startswith(changes.get("pretrained_model_uri", LLAMA))
    check_arguments("vllm", line)
    for name in {"gpu-memory-utilization", "max-num-seqs"} & set(group["args"]):
        assert line[name] == group["args"][name]
    # Slots for adapters take memory: those that are started are those that were planned.
    assert line.get("max-loras") == group["args"].get("max-loras")


def test_adapters_started_unasked_are_planned_for(ask: Any):
    """Five slots of rank 16 in every Llama; on the same device they leave a smaller KV cache.

    A slot of Llama 8B has 16 x (A of 5 and B of 7 inputs and outputs) in 32 layers: about 84 MB.
    """
    groups = {}
    for count in (5, 0):
        serving = ServingSettings(_env_file=None, deployer_max_loras=count)
        client, answer = ask(H100, {"engines": ["vllm"]}, serving=serving)
        (groups[count],) = configured(client, answer)["node_groups"]
    assert "max_loras" not in groups[0]
    assert "enable-lora" not in groups[0]["args"]
    found = groups[5]["args"]
    assert groups[5]["max_loras"] == found["max-loras"] == 5
    assert (found["enable-lora"], found["max-lora-rank"]) == (True, 16)
    slots_gb = groups[5]["weight_memory_gb"] - groups[0]["weight_memory_gb"]
    assert slots_gb == pytest.approx(5 * 0.078, rel=0.1)


def test_adapters_are_not_started_where_the_engine_has_none(ask: Any):
    """No adapters of BERT classifiers in vLLM: nothing is reserved, the key is left out."""
    asked = {
        "pretrained_model_uri": "cross-encoder/ms-marco-MiniLM-L-6-v2",
        "model_endpoints": "RERANK",
        "input_tokens": 256,
        "engines": ["vllm"],
    }
    client, answer = ask(H100, asked)
    (group,) = configured(client, answer)["node_groups"]
    assert not group["supports_lora"]
    assert "max_loras" not in group
    assert "enable-lora" not in group["args"]


def test_rows_of_a_page_say_what_they_are(ask: Any):
    """No cluster twice, and the first row is the configuration that is deployed."""
    client, answer = ask(H100, {})
    page = client.get(
        "/simulator/recommendations", params={"workflow_id": answer["workflow_id"], "limit": 20}
    ).json()
    assert lost_rows(page) == []
    (group,) = configured(client, answer)["node_groups"]
    row = page["items"][0]
    assert (row["config_id"], row["tp_size"]) == (group["config_id"], group["tp_size"])


def test_several_node_groups_only_where_they_are_asked_for(ask: Any):
    """Unequal devices under one load: one group unless `allow_mixed`."""
    pools = (("H100-SXM", 1), ("A100-SXM4-80GB", 1))
    cluster, changes = make_cluster(pools, cluster_id=CLUSTER_ID), {"concurrency": 128}
    counts = {}
    for mixed in (False, True):
        client, answer = ask(
            cluster, changes | {"allow_mixed": mixed, "target_throughput_per_user": 40}
        )
        page = client.get(
            "/simulator/recommendations",
            params={
                "workflow_id": answer["workflow_id"],
                "cluster_id": CLUSTER_ID,
                "error_rate_threshold": 1000,
                "limit": 100,
            },
        ).json()
        counts[mixed] = max(len(item["metrics"]["device_types"]) for item in page["items"])
    assert counts == {False: 1, True: 2}


def test_a_path_of_the_registry_is_named_as_the_pod_sees_it(ask: Any, tmp_path: Any):
    """`MODEL_REGISTRY_POD_DIR` and the request's path; a quantized checkpoint lies beside it."""
    config = tmp_path / "llama_8b" / "config.json"
    config.parent.mkdir()
    config.write_text(
        '{"architectures": ["LlamaForCausalLM"], "model_type": "llama", "hidden_size": 4096,'
        ' "intermediate_size": 14336, "num_hidden_layers": 32, "num_attention_heads": 32,'
        ' "num_key_value_heads": 8, "vocab_size": 128256, "max_position_embeddings": 131072,'
        ' "torch_dtype": "bfloat16"}'
    )
    models = ModelSettings(
        _env_file=None, model_registry_dir=tmp_path, model_registry_pod_dir="/models"
    )
    client, answer = ask(H100, {"pretrained_model_uri": "llama_8b"}, models=models)
    assert configured(client, answer)["node_groups"][0]["args"]["model"] == "/models/llama_8b"


def test_engines_are_those_of_request_and_site(ask: Any, body: dict[str, Any]):
    """The request's list and ENGINES both restrict; nothing in common is refused by name."""
    serving = ServingSettings(_env_file=None, engines="vllm")
    client, answer = ask(H100, {}, serving=serving)
    assert {row["engine"] for row in answer["recommendations"]} == {"vllm"}
    refused = client.post("/simulator/run", json=body | {"engines": ["sglang"]})
    assert (refused.status_code, refused.json()["param"]) == (422, "engines")
    _, answer = ask(H100, {"engines": ["SGLang"]})
    assert {row["engine"] for row in answer["recommendations"]} == {"sglang"}


def test_nothing_close_to_the_targets_is_not_a_recommendation(ask: Any):
    """A TTFT of 0.01 ms: completed, nothing to deploy, the nearest miss and why, a message."""
    client, answer = ask(H100, {"target_ttft": 0.01})
    assert answer["recommendations"] == []
    assert answer["nearest"]["metrics"]["error_rate"] > 0.5
    assert answer["reasons"][0]["subject"].startswith("nearest: ")
    assert answer["message"].startswith("No deployment comes close enough to the targets")
    refused = client.post("/simulator/configurations", json={"workflow_id": answer["workflow_id"]})
    assert refused.status_code == 400


def test_a_quantization_is_answered_as_job_and_as_service(ask: Any):
    """The method asked for makes the checkpoint; what it takes, and what it serves."""
    client, answer = ask(H100, {"is_quantization": True, "quantization_method": "AWQ"})
    row = answer["recommendations"][0]
    job = row["quantization_job"]
    assert (job["method"], job["checkpoint"]) == ("AWQ", LLAMA)
    assert job["device_memory_gb"] > 0
    assert row["quantized_metrics"] == row["metrics"]
    assert configured(client, answer)["quantization_job"] == job


def test_cost_is_answered_both_ways(ask: Any):
    """USD per million output tokens; of 1,024 + 256 tokens a fifth are output."""
    _, answer = ask(H100, {"input_tokens": 1024, "output_tokens": 256})
    metrics = answer["recommendations"][0]["metrics"]
    assert metrics["cost_per_million_tokens_blended"] == pytest.approx(
        metrics["cost_per_million_tokens"] / 5
    )


def test_endpoints_nobody_knows_decide_nothing(ask: Any):
    """`LLM,/V1/DOCUMENTS` is a model that generates text."""
    _, answer = ask(H100, {"model_endpoints": "LLM,/V1/DOCUMENTS"})
    assert answer["recommendations"][0]["metrics"]["throughput_per_user"] > 0
