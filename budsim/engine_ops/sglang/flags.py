"""The flags and environment variables that start one SGLang replica."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Final

from budsim.commons.units import GIGA
from budsim.engine_ops.base import ArgumentValue, Drafting, PoolRole, ReplicaConfig
from budsim.engine_ops.engine_profile import StoreKind
from budsim.engine_ops.sglang.defaults import decode_graph_limit
from budsim.engine_ops.shared.cores import thread_ranges
from budsim.engine_ops.shared.families import code_arguments
from budsim.engine_ops.shared.formats import format_arguments
from budsim.engine_ops.shared.media import most_items
from budsim.engine_ops.shared.stores import STORE_FOLDER, mooncake_variables, protocol_of
from budsim.hardware_ops.device import DeviceKind
from budsim.model_ops.architecture import Architecture
from budsim.model_ops.media import Media

CORES_VARIABLE: Final = "SGLANG_CPU_OMP_THREADS_BIND"

# Port on which a prefill worker meets decode workers: SGLang's default, one for each of a node.
FIRST_BOOTSTRAP: Final = 8998

# Value of ``--chunked-prefill-size`` that takes prompts whole.
_UNCUT: Final = -1

# SGLang's names of the methods (0.5.23, ``speculative/spec_info.py``).
_ALGORITHMS: Final[Mapping[str, str]] = {
    "mtp": "EAGLE",
    "eagle3": "EAGLE3",
    "draft_model": "STANDALONE",
    "ngram": "NGRAM",
}

_CPU_FLAGS: Final[Mapping[str, ArgumentValue]] = {
    "device": "cpu",
    "attention-backend": "intel_amx",
    "disable-overlap-schedule": True,
}


def flags(
    engine: str, architecture: Architecture, config: ReplicaConfig
) -> dict[str, ArgumentValue]:
    """Return the arguments of one replica by flag without dashes.

    SGLang divides requests and chunks among attention ranks, so it is given those of all ranks.
    """
    # By default it listens on the loopback only, where no router or probe reaches it.
    args: dict[str, ArgumentValue] = {"host": "0.0.0.0", "tp-size": config.tp}
    # SGLang switches its overlap scheduler off with a pipeline; said so that a reader sees it.
    if config.pp > 1:
        args["disable-overlap-schedule"] = True
    sizes = {"pp-size": config.pp, "ep-size": config.ep, "attn-dp-size": config.dp}
    args |= {flag: size for flag, size in sizes.items() if size > 1}
    args |= {
        "context-length": config.context_tokens,
        "mem-fraction-static": config.memory_fraction,
        "max-running-requests": config.max_num_seqs * config.dp,
    }
    args |= format_arguments(engine, architecture, config) | code_arguments(engine, architecture)
    args |= _scheduling(architecture, config)
    args |= _decode_graphs(config)
    args |= _drafting(config.drafting) | _items(architecture, config.media)
    if not architecture.reads_encoder:
        args |= _offload(config)
    args |= _transfer(config)
    return {**args, **(_CPU_FLAGS if config.device.kind is DeviceKind.CPU else {})}


def environment(config: ReplicaConfig) -> Mapping[str, str]:
    """Return the environment variables of one replica."""
    if config.device.kind is not DeviceKind.CPU:
        return _store_variables(config)
    bound = {CORES_VARIABLE: thread_ranges(config)} if config.cores else {}
    return {"SGLANG_USE_CPU_ENGINE": "1", **bound}


def _store_variables(config: ReplicaConfig) -> Mapping[str, str]:
    """Return the variables by which a process finds the store.

    Each tensor rank writes and removes files of its own, so that all of them together keep to the
    size (SGLang 0.5.23 ``mem_cache/storage/file/lru_file_evictor.py``).
    """
    if config.kv_store is None:
        return {}
    if config.kv_store.kind is not StoreKind.FILE:
        return mooncake_variables(protocol_of(config.device))
    each = int(config.kv_store.capacity_bytes / (config.tp * config.pp))
    return {
        "SGLANG_HICACHE_FILE_BACKEND_STORAGE_DIR": STORE_FOLDER,
        "SGLANG_HICACHE_FILE_BACKEND_MAX_SIZE": str(each),
    }


def _scheduling(architecture: Architecture, config: ReplicaConfig) -> dict[str, ArgumentValue]:
    """Return how prompts are cut and ordered; longest prefix first needs the radix cache."""
    if architecture.is_embedding:
        return _pooling(architecture, config)
    # A decoder that reads an encoder takes prompts whole and keeps none.
    is_cut = config.chunked_prefill and not architecture.reads_encoder
    is_kept = config.prefix_caching and not architecture.reads_encoder
    # SGLang divides the chunk among attention ranks; ours is what one of them takes.
    chunk = config.max_num_batched_tokens * config.dp if is_cut else _UNCUT
    args: dict[str, ArgumentValue] = {
        "chunked-prefill-size": chunk,
        "schedule-policy": "lpm" if is_kept else "fcfs",
    }
    if not is_cut:
        args["max-prefill-tokens"] = config.max_num_batched_tokens
    if not is_kept:
        args["disable-radix-cache"] = True
    return args


def _drafting(drafting: Drafting | None) -> dict[str, ArgumentValue]:
    """Return how tokens are guessed ahead: a chain, whose last token the model itself adds.

    SGLang runs a checkpoint's own MTP layer as an EAGLE head.
    """
    if drafting is None:
        return {}
    args: dict[str, ArgumentValue] = {
        "speculative-algorithm": _ALGORITHMS[drafting.method],
        "speculative-num-draft-tokens": drafting.tokens + 1,
    }
    if drafting.method != "ngram":
        args |= {"speculative-num-steps": drafting.tokens, "speculative-eagle-topk": 1}
    if drafting.model:
        args["speculative-draft-model-path"] = drafting.model
    return args


def _offload(config: ReplicaConfig) -> dict[str, ArgumentValue]:
    """Return the host memory of the KV cache, GB (1e9 bytes) of each device; none to decode.

    A store that all replicas share is read into it.
    """
    size_gb = int(config.kv_offload_bytes / (config.tp * config.pp) / GIGA)
    if not size_gb or config.role is PoolRole.DECODE:
        return {}
    store = {"hicache-storage-backend": str(config.kv_store.kind)} if config.kv_store else {}
    return {"enable-hierarchical-cache": True, "hicache-size": size_gb, **store}


def _items(architecture: Architecture, media: Media) -> dict[str, ArgumentValue]:
    """Return the items a request may hold.

    SGLang leaves the towers of some families out unless told otherwise (Gemma 3, Llama 4).
    """
    if not media:
        return {}
    limits = json.dumps(most_items(architecture, media))
    return {"enable-multimodal": True, "limit-mm-data-per-request": limits}


def _transfer(config: ReplicaConfig) -> dict[str, ArgumentValue]:
    """Return how KV caches are handed over (SGLang docs, PD disaggregation).

    NIXL serves NVIDIA's devices; on AMD's the default, Mooncake, does.
    """
    if config.role is PoolRole.WHOLE:
        return {}
    backend = "nixl" if config.device.kind is DeviceKind.CUDA else "mooncake"
    mode = {"disaggregation-mode": config.role.value, "disaggregation-transfer-backend": backend}
    ports = {"disaggregation-bootstrap-port": FIRST_BOOTSTRAP}
    return {**mode, **(ports if config.role is PoolRole.PREFILL else {})}


def _decode_graphs(config: ReplicaConfig) -> dict[str, ArgumentValue]:
    """Return the largest decode graph where more sequences run than SGLang captures by itself.

    A batch beyond the largest graph would decode eagerly, launched kernel by kernel.
    """
    limit = decode_graph_limit(config.device, config.tp)
    if config.device.kind is DeviceKind.CPU or config.max_num_seqs <= limit:
        return {}
    return {"cuda-graph-max-bs-decode": config.max_num_seqs}


def _pooling(architecture: Architecture, config: ReplicaConfig) -> dict[str, ArgumentValue]:
    """Return how prompts become vectors: whole.

    Encoders need a backend that attends both ways (SGLang docs, rerank models).
    """
    args: dict[str, ArgumentValue] = {
        "is-embedding": True,
        "chunked-prefill-size": _UNCUT,
        "max-prefill-tokens": max(config.max_num_batched_tokens, config.context_tokens),
    }
    if architecture.is_bidirectional:
        args |= {"disable-radix-cache": True, "attention-backend": "triton"}
    return args
