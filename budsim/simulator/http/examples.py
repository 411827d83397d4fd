"""Example requests and answers for the OpenAPI document; a test checks each against its schema."""

from __future__ import annotations

from typing import Any

WORKFLOW_ID = "3f0d7c5e-6a0f-4b7e-9a53-0d5c1f6f2a11"
CLUSTER_ID = "4f2647a2-a20e-581a-ab8e-eb8be653d4e3"
CONFIG_ID = "5c1b9c8e0c7d4f6a"
MODEL = "meta-llama/Llama-3.1-8B-Instruct"

RUN: dict[str, Any] = {
    "pretrained_model_uri": MODEL,
    "is_proprietary_model": False,
    "input_tokens": 1024,
    "output_tokens": 256,
    "concurrency": 64,
    "target_ttft": 1500,
    "target_throughput_per_user": 20,
    "target_e2e_latency": 20,
    "source_topic": "deploymentMessages",
    "notification_metadata": {
        "notification_type": "event",
        "name": "deploy",
        "workflow_id": "their-own-id",
    },
}
CLOUD_EVENT: dict[str, Any] = {
    "specversion": "1.0",
    "id": "0f9b6d1e-1b1c-4a51-8f0f-7a0f5d9c2b10",
    "type": "com.example.simulation",
    "source": "deployment-service",
    "topic": "budSimMessages",
    "pubsubname": "pubsub",
    "datacontenttype": "application/json",
    "data": RUN,
}
CONFIGURATIONS: dict[str, Any] = {
    "workflow_id": WORKFLOW_ID,
    "feedback": [
        {"config_id": CONFIG_ID, "failed": True, "reason": "no node with enough free memory"}
    ],
}
CAPACITY: dict[str, Any] = {
    "pretrained_model_uri": MODEL,
    "input_tokens": 1000,
    "output_tokens": 200,
    "target_ttft": 1000,
    "target_throughput_per_user": 20,
}
DAY: dict[str, Any] = {
    "pretrained_model_uri": MODEL,
    "input_tokens": 1000,
    "output_tokens": 200,
    "target_ttft_p99": 1000,
    "target_throughput_per_user": 20,
    "hourly": [3, 2, 8, 30, 45, 42, 25, 10],
    "arrival": "poisson",
}
HOSTS: dict[str, Any] = {
    "model_id": MODEL,
    "cluster_id": CLUSTER_ID,
    "hostnames": ["gpu-0"],
    "hardware_mode": "dedicated",
    "input_tokens": 1024,
    "output_tokens": 512,
    "concurrency": 10,
}
BENCHMARK: dict[str, Any] = {
    **HOSTS,
    "device_type": "cuda",
    "tp_size": 2,
    "pp_size": 1,
    "replicas": 1,
}

WORKFLOW: dict[str, Any] = {
    "object": "workflow_metadata",
    "workflow_id": WORKFLOW_ID,
    "workflow_name": "run_simulation",
    "steps": [
        {
            "id": "validation",
            "title": "Validation",
            "description": "Check the request, the model and the hardware inventory",
        },
        {
            "id": "performance_estimation",
            "title": "Performance estimation",
            "description": "Predict and search deployments on every cluster",
        },
        {
            "id": "ranking",
            "title": "Ranking",
            "description": "Rank the deployments that were found",
        },
    ],
    "status": "PENDING",
    "eta": 1,
}
ENGINE: dict[str, Any] = {
    "engine_version": "0.32.0",
    "tool_calling_parser_type": "llama3_json",
    "reasoning_parser_type": None,
    "architecture_family": "llama",
    "chat_template": None,
    "supports_lora": True,
    "supports_pipeline_parallelism": True,
}
SERVICE: dict[str, Any] = {
    "ttft": 412.0,
    "throughput_per_user": 31.5,
    "e2e_latency": 8.5,
    "error_rate": 0.0,
    "cost_per_million_tokens": 1.25,
    "cost_per_million_tokens_blended": 0.25,
}
METRICS: dict[str, Any] = {
    "device_types": [
        {
            "device_type": "cuda",
            "num_replicas": 2,
            "concurrency": 64,
            "cost_per_million_tokens": 1.25,
            "cost_per_million_tokens_blended": 0.25,
        }
    ],
    "replica": 2,
    "concurrency": 64,
    **SERVICE,
}
CLUSTER: dict[str, Any] = {
    "cluster_id": CLUSTER_ID,
    "config_id": CONFIG_ID,
    "device": "H100-SXM",
    "engine": "vllm",
    "tp_size": 1,
    "pp_size": 1,
    "replicas": 2,
    "metrics": METRICS,
    "quantized_metrics": None,
    "quantization_job": None,
    **ENGINE,
}
PAGE: dict[str, Any] = {
    "object": "cluster_recommendations",
    "page": 1,
    "limit": 1,
    "total_items": 1,
    "total_pages": 1,
    "items": [CLUSTER],
}
NODE_GROUP: dict[str, Any] = {
    "config_id": CONFIG_ID,
    "name": "H100-SXM",
    "labels": {"device_name": "H100-SXM", "concurrency": "32"},
    "type": "cuda",
    "engine_type": "vllm",
    "tp_size": 1,
    "pp_size": 1,
    "envs": {},
    "args": {
        "model": MODEL,
        "tensor-parallel-size": 1,
        "max-model-len": 1408,
        "max-num-seqs": 32,
        "gpu-memory-utilization": 0.95,
    },
    "replicas": 2,
    "image": "vllm/vllm-openai:v0.32.0",
    "memory": 63.0,
    "hardware_mode": "dedicated",
    "device_name": "H100-SXM",
    "device_model": "H100-SXM",
    "raw_name": "NVIDIA-H100-80GB-HBM3",
    "weight_memory_gb": 14.96,
    "kv_cache_memory_gb": 44.0,
    **SERVICE,
    **ENGINE,
}
DEPLOYMENT: dict[str, Any] = {
    "object": "deployment_configuration",
    "id": CLUSTER_ID,
    "nodes": None,
    "node_groups": [NODE_GROUP],
    "replica": 2,
    "concurrency": 64,
    "quantization_job": None,
    **SERVICE,
    **ENGINE,
}
LAYOUTS: dict[str, Any] = {
    "object": "node_configurations",
    "cluster_id": CLUSTER_ID,
    "model_info": {
        "model_id": MODEL,
        "model_name": MODEL,
        "model_uri": MODEL,
        "estimated_weight_memory_gb": 14.96,
        "min_tp_for_model": 1,
    },
    "device_configurations": [
        {
            "device_type": "cuda",
            "device_name": "H100-SXM",
            "device_model": "H100-SXM",
            "total_devices": 8,
            "nodes_count": 1,
            "max_devices_per_node": 8,
            "memory_per_device_gb": 80.0,
            "tp_pp_options": [
                {
                    "tp_size": 2,
                    "pp_size": 1,
                    "max_replicas": 4,
                    "total_devices_needed": 2,
                    "description": "2 devices",
                },
            ],
            "min_tp_required": 1,
            "supports_pipeline_parallelism": True,
        },
    ],
    "selected_nodes": ["gpu-0"],
    "hardware_mode": "dedicated",
}
BENCHMARK_ANSWER: dict[str, Any] = {
    "object": "benchmark_config",
    "cluster_id": CLUSTER_ID,
    "model_id": MODEL,
    "node_groups": [NODE_GROUP],
}
CAPACITIES: dict[str, Any] = {
    "object": "capacities",
    "model": MODEL,
    "clusters": [
        {
            "cluster_id": CLUSTER_ID,
            "concurrency": 512,
            "requests_per_s": None,
            "configuration": DEPLOYMENT,
            "refused_concurrency": 516,
            "refused_requests_per_s": None,
            "configuration_beyond": None,
            "reasons": [],
        }
    ],
    "seed": 0,
}
DAY_ANSWER: dict[str, Any] = {
    "object": "replicas_over_a_day",
    "model": MODEL,
    "input_tokens": 1000,
    "output_tokens": 200,
    "configurations": [DEPLOYMENT],
    "hours": [
        {
            "hour": 0,
            "requests_per_s": 3.0,
            "replicas": 1,
            "meets_targets": True,
            "chance": 0.99,
            "ttft_p99_s": 0.08,
            "itl_p99_s": 0.02,
            "e2e_p99_s": 2.0,
            "in_flight_per_replica": 5.5,
        }
    ],
    "scaling": {
        "min_replicas": 1,
        "max_replicas": 2,
        "lead_time_s": 135.0,
        "replicas_by_hour": [1],
        "requests_per_s_per_replica": 12.9,
        "in_flight_per_replica": 40.2,
        "in_flight_to_scale_at": 37.5,
        "growth_in_lead_time": 0.07,
    },
    "cost": {
        "usd_per_day": 60.0,
        "usd_per_month": 1825.0,
        "constant_usd_per_day": 120.0,
        "constant_usd_per_month": 3650.0,
        "saved_share": 0.5,
        "replica_hours_per_day": 24.0,
    },
    "reasons": [],
    "evaluations": 1200,
    "seed": 0,
}
EVENT: dict[str, Any] = {
    "notification_type": "event",
    "name": "deploy",
    "subscriber_ids": None,
    "actor": None,
    "topic_keys": None,
    "source": "budsim",
    "source_topic": "budSimMessages",
    "type": "get_cluster_recommendations",
    "specversion": "1.0",
    "time": "2026-11-24T02:00:00+00:00",
    "payload": {
        "category": "internal",
        "type": "get_cluster_recommendations",
        "event": "validation",
        "workflow_id": "their-own-id",
        "source": "budsim",
        "content": {
            "title": "Validating the request",
            "message": "Checking the request",
            "status": "STARTED",
            "result": None,
            "primary_action": None,
            "secondary_action": None,
        },
        "event_id": "7f2a1b3c-4d5e-5f60-8a9b-0c1d2e3f4a5b",
        "sequence": 1,
    },
}
EVENTS: dict[str, Any] = {
    "object": "workflow_events",
    "page": 1,
    "limit": 100,
    "total_items": 1,
    "total_pages": 1,
    "items": [EVENT],
}
MOVED: dict[str, Any] = {
    "object": "info",
    "message": "The workflow is SUSPENDED",
    "param": {"workflow_id": WORKFLOW_ID, "status": "SUSPENDED"},
}
READY: dict[str, Any] = {
    "object": "info",
    "message": "ready",
    "param": {
        name: {"up": True, "detail": "ok"}
        for name in ("database", "disk", "sidecar", "workflows", "models")
    },
}
ABOUT: dict[str, Any] = {
    "object": "info",
    "message": "budsim: what to deploy, how it will perform, what it will cost",
    "param": {"version": "0.1.0"},
}
ALIVE: dict[str, Any] = {"object": "info", "message": "ok", "param": None}
TAKEN: dict[str, Any] = {"status": "SUCCESS"}


def documented_answer(example: object) -> dict[int | str, dict[str, Any]]:
    """Return the description of a successful answer with an example."""
    return {200: {"description": "As asked", "content": {"application/json": {"example": example}}}}
