"""The flags and environment variables that start one vLLM replica."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Final

from budsim.commons.units import GIB
from budsim.engine_ops.base import ArgumentValue, Drafting, PoolRole, ReplicaConfig
from budsim.engine_ops.engine_profile import StoreKind
from budsim.engine_ops.shared.cores import thread_ranges
from budsim.engine_ops.shared.families import (
    code_arguments,
    min_batched_tokens,
    scores_by_tokens,
)
from budsim.engine_ops.shared.formats import format_arguments
from budsim.engine_ops.shared.media import most_items
from budsim.engine_ops.shared.offload import HOST_BYTES, LMCACHE_HOST_GIB
from budsim.engine_ops.shared.stores import (
    MOONCAKE_FILE,
    MOONCAKE_VARIABLE,
    REDIS_PORT,
    STORE_FOLDER,
    STORE_HOST,
    protocol_of,
)
from budsim.engine_ops.vllm.profiles import PROFILES_BY_KIND
from budsim.hardware_ops.device import Device, DeviceKind
from budsim.model_ops.architecture import Architecture
from budsim.model_ops.layers import AttentionKind
from budsim.model_ops.media import Media

# Hardware on which ``--gpu-memory-utilization`` decides the cache; CPU is told a size.
WITH_FRACTION: Final = frozenset({DeviceKind.CUDA, DeviceKind.ROCM, DeviceKind.HPU})

CORES_VARIABLE: Final = "VLLM_CPU_OMP_THREADS_BIND"

# Where workers of two pools agree on a transfer, and its first port: each worker of a node needs
# ports of its own, one a data-parallel rank.
SIDE_CHANNEL_HOST: Final = "VLLM_NIXL_SIDE_CHANNEL_HOST"
SIDE_CHANNEL_PORT: Final = "VLLM_NIXL_SIDE_CHANNEL_PORT"
FIRST_SIDE_CHANNEL: Final = 5600
# Hand caches of one pool to the other. NIXL's reads from workers without a pipeline; no published
# router serves its variant for others (``NixlPushConnector``): vllm-router 0.1.17 does not tell
# decode workers the number of stages. Those of Mooncake's ask a server of each prefill worker.
POOL_CONNECTOR: Final = "NixlConnector"
STAGES_CONNECTOR: Final = "MooncakeConnector"
# Where that server listens (vLLM docs, MooncakeConnector usage guide).
BOOTSTRAP_PORT: Final = "VLLM_MOONCAKE_BOOTSTRAP_PORT"
FIRST_BOOTSTRAP: Final = 8998

_KV_ROLES: Final[Mapping[PoolRole, str]] = {
    PoolRole.PREFILL: "kv_producer",
    PoolRole.DECODE: "kv_consumer",
}

# Longest run of tokens that prompt lookup matches; vLLM's documentation uses 4.
LONGEST_LOOKUP: Final = 4

_CACHE_VARIABLE: Final = "VLLM_CPU_KVCACHE_SPACE"
# Quantizations vLLM 0.32 refuses unless told otherwise (model_executor/layers/quantization).
_DEPRECATED_METHODS: Final = frozenset({"fbgemm_fp8", "fp_quant"})
# Tokens in a block of the reference MLA on processors.
_MLA_BLOCK: Final = 16
_LARGE_BLOCKS: Final = frozenset({DeviceKind.CPU, DeviceKind.HPU})

# Makes a classifier of Qwen3-Reranker's published checkpoint (vLLM docs, pooling models).
_SCORES: Final = (
    '{"architectures": ["Qwen3ForSequenceClassification"], '
    '"classifier_from_token": ["no", "yes"], "is_original_qwen3_reranker": true}'
)


def flags(
    engine: str, architecture: Architecture, config: ReplicaConfig
) -> dict[str, ArgumentValue]:
    """Return the arguments of one replica by flag without dashes."""
    kind = config.device.kind
    args = _sizes(architecture, config)
    args |= {
        "max-num-seqs": config.max_num_seqs,
        "max-num-batched-tokens": _step_tokens(engine, architecture, config),
    }
    if kind in WITH_FRACTION:
        args["gpu-memory-utilization"] = config.memory_fraction
    # Elsewhere vLLM picks the block by the attention kernel; a size of ours could be refused.
    if kind in _LARGE_BLOCKS:
        is_mla = is_reference_mla(architecture, config.device)
        args["block-size"] = _MLA_BLOCK if is_mla else PROFILES_BY_KIND[kind].block_tokens
    formats = format_arguments(engine, architecture, config)
    args |= formats | _runner(architecture, config) | _drafting(config.drafting)
    args |= code_arguments(engine, architecture) | _deprecated(architecture)
    args |= _items(architecture, config.media) | _transfer(config)
    return args | (_offload(config) if config.kv_store is None else _shared(config))


def _deprecated(architecture: Architecture) -> dict[str, ArgumentValue]:
    """Return the flag that lets vLLM load a checkpoint of a method it will give up."""
    method = architecture.quantization.method if architecture.quantization else ""
    return {"allow-deprecated-quantization": True} if method in _DEPRECATED_METHODS else {}


def is_reference_mla(architecture: Architecture, device: Device) -> bool:
    """Return whether vLLM runs its reference MLA: on processors without AMX.

    It takes prompts whole, keeps no prefixes and has blocks of 16 tokens (vLLM 0.32
    ``platforms/cpu.py``).
    """
    if device.kind is not DeviceKind.CPU or "amx_bf16" in device.instruction_sets:
        return False
    return any(group.attention.kind is AttentionKind.MLA for group in architecture.layers)


def environment(config: ReplicaConfig) -> Mapping[str, str]:
    """Return the environment variables of one replica."""
    if config.device.kind is DeviceKind.CPU:
        space_gib = int(config.kv_space_bytes // GIB)
        return {_CACHE_VARIABLE: str(space_gib), CORES_VARIABLE: thread_ranges(config)}
    if config.device.kind is DeviceKind.HPU:
        return _GAUDI
    return _store_variables(config) if config.kv_store else {}


def _step_tokens(engine: str, architecture: Architecture, config: ReplicaConfig) -> int:
    """Return ``max-num-batched-tokens``, no more than all sequences together can hold.

    vLLM warns of unexpected behaviour above that, and lowers its own default to it.
    """
    most = config.max_num_seqs * config.context_tokens
    least = max(min_batched_tokens(engine, architecture), config.max_num_seqs)
    return min(config.max_num_batched_tokens, max(most, least))


def _sizes(architecture: Architecture, config: ReplicaConfig) -> dict[str, ArgumentValue]:
    """Return the parallel sizes; vLLM counts tensor ranks inside one attention rank."""
    args: dict[str, ArgumentValue] = {
        # Ours counts all devices of a stage, vLLM's those of one attention rank.
        "tensor-parallel-size": config.tp // config.dp,
        "max-model-len": min(config.context_tokens, architecture.text_context_tokens),
    }
    if config.pp > 1:
        args["pipeline-parallel-size"] = config.pp
    if config.dp > 1:
        args["data-parallel-size"] = config.dp
    if config.ep > 1:
        args["enable-expert-parallel"] = True
    return args


def _drafting(drafting: Drafting | None) -> dict[str, ArgumentValue]:
    """Return how tokens are guessed ahead, as vLLM's ``SpeculativeConfig`` reads it."""
    if drafting is None:
        return {}
    stated: dict[str, object] = {
        "method": drafting.method,
        "num_speculative_tokens": drafting.tokens,
    }
    if drafting.model:
        stated["model"] = drafting.model
    if drafting.method == "ngram":
        stated["prompt_lookup_max"] = LONGEST_LOOKUP
    return {"speculative-config": json.dumps(stated)}


def _offload(config: ReplicaConfig) -> dict[str, ArgumentValue]:
    """Return the host memory of the KV cache, GiB of all devices of one attention rank.

    Those of workers of pools stand in the settings of their connector; see `_transfer`.
    """
    size_gib = config.kv_offload_bytes / config.dp / GIB
    if not size_gib or config.role is not PoolRole.WHOLE:
        return {}
    return {"kv-offloading-size": round(size_gib, 1), "kv-offloading-backend": "native"}


def _shared(config: ReplicaConfig) -> dict[str, ArgumentValue]:
    """Return the connectors that read a shared store and, where given, host memory.

    Those of workers of pools stand beside the one that hands caches over; see `_transfer`.
    """
    if config.kv_store is None or config.role is not PoolRole.WHOLE:
        return {}
    return {"kv-transfer-config": json.dumps(_as_one(_tier_connectors(config)))}


def _tier_connectors(config: ReplicaConfig) -> list[dict[str, object]]:
    """Return the connectors that hold caches beyond the device's, or none.

    LMCache has store and host memory itself, and so has vLLM's own for files. Mooncake's connector
    has the store, and vLLM's own the host; what the first of several finds is loaded (vLLM docs,
    MooncakeStoreConnector usage guide).
    """
    if config.kv_store and config.kv_store.kind is StoreKind.LMCACHE:
        return [_connector("LMCacheConnectorV1")]
    if config.kv_store and config.kv_store.kind is StoreKind.FILE:
        return [_connector("OffloadingConnector", _files(config))]
    stores = [_connector("MooncakeStoreConnector")] if config.kv_store else []
    return [*_host_connectors(config), *stores]


def _host_connectors(config: ReplicaConfig) -> list[dict[str, object]]:
    """Return vLLM's own connector to host memory, or none."""
    size_bytes = int(config.kv_offload_bytes / config.dp)
    return [_connector("OffloadingConnector", {HOST_BYTES: size_bytes})] if size_bytes else []


def _files(config: ReplicaConfig) -> dict[str, object]:
    """Return the settings of host memory and files (vLLM 0.32 ``kv_offload/tiering/spec.py``)."""
    return {
        "spec_name": "TieringOffloadingSpec",
        HOST_BYTES: int(config.kv_offload_bytes / config.dp),
        "secondary_tiers": [{"type": "fs", "root_dir": STORE_FOLDER}],
    }


def _as_one(connectors: Sequence[dict[str, object]]) -> dict[str, object]:
    """Return the only connector, or one that asks several in turn."""
    if len(connectors) == 1:
        return connectors[0]
    return _connector("MultiConnector", {"connectors": connectors})


def _connector(name: str, extra: Mapping[str, object] | None = None) -> dict[str, object]:
    stated: dict[str, object] = {"kv_connector": name, "kv_role": "kv_both"}
    return {**stated, "kv_connector_extra_config": extra} if extra else stated


def _store_variables(config: ReplicaConfig) -> Mapping[str, str]:
    """Return the variables by which a client finds the store.

    Mooncake's client reads a file; a store of files needs no variable. LMCache's host memory is
    stated for one device, and all replicas must make the same keys of blocks (LMCache docs, sharing
    across instances).
    """
    if config.kv_store and config.kv_store.kind is StoreKind.MOONCAKE:
        return {MOONCAKE_VARIABLE: MOONCAKE_FILE}
    if config.kv_store and config.kv_store.kind is StoreKind.FILE:
        return {}
    size_gib = config.kv_offload_bytes / (config.tp * config.pp) / GIB
    return {
        "LMCACHE_REMOTE_URL": f"redis://{STORE_HOST}:{REDIS_PORT}",
        "LMCACHE_REMOTE_SERDE": "naive",
        "LMCACHE_LOCAL_CPU": str(size_gib > 0),
        **({LMCACHE_HOST_GIB: f"{size_gib:.1f}"} if size_gib else {}),
        "PYTHONHASHSEED": "0",
    }


def _items(architecture: Architecture, media: Media) -> dict[str, ArgumentValue]:
    """Return the items a request may hold; vLLM keeps memory for items of the stated size."""
    if not media:
        return {}
    size = {"width": media.width, "height": media.height}
    sizes: dict[str, dict[str, int]] = {
        "image": size,
        "video": {"num_frames": media.video_frames, **size},
    }
    limits = {
        kind: {"count": most, **sizes[kind]} if most and kind in sizes else most
        for kind, most in most_items(architecture, media).items()
    }
    return {"limit-mm-per-prompt": json.dumps(limits)}


def _transfer(config: ReplicaConfig) -> dict[str, ArgumentValue]:
    """Return how KV caches are handed over (vLLM docs, NixlConnector and MooncakeConnector).

    A request whose cache does not arrive fails: a decode worker that read the prompt itself would
    keep all of its others waiting. Prefill workers also read host memory and a shared store.
    """
    if config.role is PoolRole.WHOLE:
        return {}
    stated: dict[str, object] = {
        "kv_connector": STAGES_CONNECTOR if config.from_stages else POOL_CONNECTOR,
        "kv_role": _KV_ROLES[config.role],
        "kv_load_failure_policy": "fail",
    }
    if config.from_stages and protocol_of(config.device) != "rdma":
        stated["kv_connector_extra_config"] = {"mooncake_protocol": protocol_of(config.device)}
    # `--kv-offloading-size` would replace the connector that hands caches over.
    tiers = _tier_connectors(config) if config.role is PoolRole.PREFILL else []
    return {"kv-transfer-config": json.dumps(_as_one([stated, *tiers]))}


def _runner(architecture: Architecture, config: ReplicaConfig) -> dict[str, ArgumentValue]:
    """Return how prompts are run.

    Pooling models take each prompt whole, so their token budget holds the longest.
    """
    if architecture.is_embedding:
        budget = max(config.max_num_batched_tokens, config.context_tokens)
        scores = {"hf-overrides": _SCORES} if scores_by_tokens(architecture) else {}
        return {"runner": "pooling", "max-num-batched-tokens": budget, **scores}
    # A decoder that reads an encoder takes prompts whole and keeps none (config/scheduler.py).
    alone = not architecture.reads_encoder
    return {
        "enable-chunked-prefill": config.chunked_prefill and alone,
        "enable-prefix-caching": config.prefix_caching and alone,
    }


# The plugin's documented settings: torch.compile mode, exponential buckets, and graphs in a tenth
# of the memory that is left.
_GAUDI: Final = {
    "PT_HPU_LAZY_MODE": "0",
    "PT_HPU_ENABLE_LAZY_COLLECTIVES": "true",
    "VLLM_BUCKETING_STRATEGY": "exp",
    "VLLM_PROMPT_BS_BUCKET_MAX": "1",
    "VLLM_GRAPH_RESERVED_MEM": "0.1",
}
