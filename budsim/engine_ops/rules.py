"""What every serving engine demands alike: sizes that divide the model, and ranges its parser leaves unchecked."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Final

from budsim.commons.errors import InvalidInput
from budsim.commons.precision import Precision, bytes_per_value
from budsim.engine_ops.base import ArgumentValue, ReplicaConfig, Seat
from budsim.engine_ops.kernels import Mode, kv_formats, native_precisions, weight_mode
from budsim.hardware_ops.device import Device, DeviceKind
from budsim.model_ops.architecture import Architecture, Attention, AttentionKind, MatrixRole, Shard

_DTYPES: Final = {Precision.FP32: "float32", Precision.BF16: "bfloat16", Precision.FP16: "float16"}

LORA_RANKS: Final = (1, 8, 16, 32, 64, 128, 256, 320, 512)

_SIXTEEN_BIT = (Precision.BF16, Precision.FP16)
_WIDE = frozenset({Precision.FP32, *_SIXTEEN_BIT})
_UNPACKED = (Precision.INT4,)


def why_not_tp(architecture: Architecture, tp: int, ep: int = 1) -> str | None:
    """Return why ``tp`` ranks cannot share the model's heads and layers evenly, or None when they can.

    vLLM and SGLang alike: query heads are split, key-value heads split or repeated evenly, vocabularies padded, and weights that
    share a scale by blocks are cut between blocks only. With ``ep`` ranks over the experts each expert stays that much wider.
    """
    for group in (*architecture.encoder_layers, *architecture.layers):
        problem = _head_problem(group.attention, tp)
        if problem:
            return problem
        feed_forward = group.feed_forward
        if feed_forward and not feed_forward.experts and feed_forward.width % tp:
            return f"{tp} ranks do not divide the feed-forward width {feed_forward.width}"
    return _block_problem(architecture, tp, ep)


def _block_problem(architecture: Architecture, tp: int, ep: int) -> str | None:
    """Return which matrix ``tp`` ranks would cut through a block of weights that share a scale; narrower ones stay in 16 bit.

    vLLM 0.32.0 (validate_fp8_block_shape) and SGLang 0.5.23 (Fp8LinearMethod, Fp8MoEMethod) refuse to start then. vLLM's Triton
    kernels for experts take finer scales, made from the blocks' on loading; as other kernels do not, that is not relied upon.
    """
    quantization = architecture.quantization
    if tp == 1 or quantization is None or not quantization.block:
        return None
    for _, matrix in architecture.weights:
        if matrix.shard is Shard.REPLICATED or quantization.keeps(matrix):
            continue
        ranks = tp // ep if matrix.role is MatrixRole.EXPERT else tp
        width = matrix.inputs if matrix.shard is Shard.ROW else matrix.outputs - matrix.kv_outputs
        if ranks > 1 and width > quantization.block and width % (ranks * quantization.block):
            return f"{ranks} ranks cut {matrix.name} of {width} through blocks of {quantization.block} that share a scale"
    return None


def tp_sizes(
    architecture: Architecture, devices: int, *, spreads_experts: bool = False
) -> tuple[int, ...]:
    """Return the tensor-parallel sizes up to ``devices`` that divide the model, ascending; some only with experts spread."""
    return tuple(
        tp for tp in range(1, devices + 1) if ep_sizes(architecture, tp, supported=spreads_experts)
    )


def ep_sizes(architecture: Architecture, tp: int, *, supported: bool) -> tuple[int, ...]:
    """Return over how many ranks experts may be spread, ascending: 1 (each is split), all ``tp``, or neither."""
    sizes = (1, tp) if supported and architecture.is_moe and tp > 1 else (1,)
    return tuple(ep for ep in sizes if why_not_tp(architecture, tp, ep) is None)


def pp_sizes(architecture: Architecture, devices: int, *, supported: bool) -> tuple[int, ...]:
    """Return the pipeline sizes up to ``devices``, at least one layer a stage, ascending; (1,) unless ``supported``."""
    return (
        tuple(range(1, max(1, min(devices, architecture.layer_count)) + 1)) if supported else (1,)
    )


def dp_sizes(architecture: Architecture, tp: int, *, supported: bool) -> tuple[int, ...]:
    """Return in how many attention ranks ``tp`` devices may be split while they share the experts, ascending.

    Dense models, and families whose attention the engine cannot hold on ranks of its own, have one.
    """
    return (
        tuple(dp for dp in range(1, tp + 1) if tp % dp == 0)
        if supported and architecture.is_moe
        else (1,)
    )


def stored_precision(architecture: Architecture) -> Precision:
    """Return the format the checkpoint's quantized weights, or else its plain ones, are stored in."""
    return (
        architecture.quantization.precision
        if architecture.quantization
        else architecture.native_precision
    )


def plain_precision(engine: str, device: Device, stored: Precision) -> Precision:
    """Return the wide format ``stored`` (fp32, bf16, fp16) is served in on ``device``: 16 bit, bf16 where it is native."""
    if stored is Precision.FP16 and weight_mode(engine, device, Precision.FP16):
        return Precision.FP16
    native = native_precisions(engine, device)
    return next((precision for precision in _SIXTEEN_BIT if precision in native), Precision.FP32)


def why_not_precision(engine: str, device: Device, precision: Precision) -> str | None:
    """Return why weights *quantized for speed* to ``precision`` gain nothing or do not run on ``device``, or None.

    Four-bit integers are welcome everywhere they run: they save memory, and every engine multiplies them in 16 bit.
    """
    mode = weight_mode(engine, device, precision)
    if mode is None:
        return f"{engine} has no {precision} kernel for {device.name}"
    if mode is Mode.WEIGHT_ONLY and precision not in _UNPACKED:
        return f"{precision} is weight-only on {device.name}: stored small, multiplied in 16 bit"
    return None


def precisions(
    engine: str, architecture: Architecture, device: Device, *, may_quantize: bool
) -> tuple[Precision, ...]:
    """Return the weight formats to try: the checkpoint's own first, then with ``may_quantize`` narrower ones that pay off.

    A checkpoint already quantized is never quantized again. Empty when the checkpoint's format does not run here.
    """
    stored = stored_precision(architecture)
    if stored not in _WIDE:
        return (stored,) if weight_mode(engine, device, stored) else ()
    plain = plain_precision(engine, device, stored)
    narrower = tuple(
        precision
        for precision in sorted(Precision, key=bytes_per_value, reverse=True)
        if bytes_per_value(precision) < bytes_per_value(plain)
        and why_not_precision(engine, device, precision) is None
    )
    return (plain, *(narrower if may_quantize else ()))


def why_not_stored(engine: str, architecture: Architecture, device: Device) -> str | None:
    """Return why the checkpoint's own format does not run on ``device``, or None when it does."""
    if not native_precisions(engine, device):
        return f"{engine} has no kernels for {device.name} ({device.generation})"
    stored = stored_precision(architecture)
    if stored in _WIDE or weight_mode(engine, device, stored):
        return None
    return f"{engine} has no kernel for {stored} weights on {device.name} ({device.generation})"


def format_arguments(
    engine: str, architecture: Architecture, config: ReplicaConfig
) -> dict[str, ArgumentValue]:
    """Return how weights and cache are stored, in the arguments vLLM and SGLang spell alike.

    A checkpoint's own quantization is read from it by the engine; one made by LLM Compressor has to be named.
    """
    stored = stored_precision(architecture)
    dtype = (
        _DTYPES.get(config.weight_precision)
        or _DTYPES[plain_precision(engine, config.device, Precision.BF16)]
    )
    formats: dict[str, ArgumentValue] = {
        "dtype": dtype,
        "kv-cache-dtype": kv_formats(engine, config.device).get(config.kv_precision, "auto"),
    }
    if config.weight_precision not in _DTYPES and config.weight_precision is not stored:
        formats["quantization"] = "compressed-tensors"
    return formats


def check_formats(engine: str, architecture: Architecture, config: ReplicaConfig) -> None:
    """Check that the engine can load the weights and keep the cache in the formats asked for.

    Raises
    ------
    InvalidInput
        Naming ``weight_precision`` or ``kv_precision``.
    """
    device, wanted = config.device, config.weight_precision
    stored = stored_precision(architecture)
    if stored not in _WIDE and wanted is not stored:
        raise InvalidInput(
            "weight_precision", f"{wanted}, but the checkpoint is {stored} already", str(stored)
        )
    if weight_mode(engine, device, wanted) is None:
        known = ", ".join(native_precisions(engine, device))
        raise InvalidInput(
            "weight_precision",
            f"{engine} has no {wanted} kernel for {device.name}",
            f"one of {known}",
        )
    if config.kv_precision not in _WIDE and config.kv_precision not in kv_formats(engine, device):
        problem = f"{engine} has no {config.kv_precision} cache on {device.name}"
        raise InvalidInput(
            "kv_precision", problem, ", ".join(("bf16", *kv_formats(engine, device)))
        )


def check_config(architecture: Architecture, config: ReplicaConfig) -> None:
    """Check the ranges an engine checks only when it starts, or not at all.

    Raises
    ------
    InvalidInput
        Naming the field of `ReplicaConfig` and what would be right.
    """
    _require(
        0.0 < config.memory_fraction <= 1.0,
        "memory_fraction",
        config.memory_fraction,
        "above 0, at most 1",
    )
    for field in (
        "tp",
        "pp",
        "ep",
        "dp",
        "concurrency",
        "context_tokens",
        "max_num_seqs",
        "max_num_batched_tokens",
    ):
        _require(getattr(config, field) >= 1, field, getattr(config, field), "at least 1")
    limit = architecture.max_context_tokens
    _require(
        config.context_tokens <= limit,
        "context_tokens",
        config.context_tokens,
        f"at most the model's {limit}",
    )
    _require(
        config.chunked_prefill or config.max_num_batched_tokens >= config.context_tokens,
        "max_num_batched_tokens",
        config.max_num_batched_tokens,
        f"at least the context of {config.context_tokens} tokens when prompts are not cut",
    )
    _check_parallelism(architecture, config)


def _check_parallelism(architecture: Architecture, config: ReplicaConfig) -> None:
    _require(config.tp % config.ep == 0, "ep", config.ep, f"a divisor of tp {config.tp}")
    problem = why_not_tp(architecture, config.tp, config.ep)
    if problem:
        raise InvalidInput(
            "tp", problem, f"one of {tp_sizes(architecture, 8, spreads_experts=config.ep > 1)}"
        )
    _require(
        config.pp <= architecture.layer_count,
        "pp",
        config.pp,
        f"at most {architecture.layer_count} layers",
    )
    _require(config.tp % config.dp == 0, "dp", config.dp, f"a divisor of tp {config.tp}")
    _require(
        config.dp == 1 or architecture.is_moe,
        "dp",
        config.dp,
        "1 for a dense model: use more replicas",
    )
    _require(
        config.ep == 1 or architecture.is_moe, "ep", config.ep, "1 for a model without experts"
    )


def check_adapters(count: int, rank: int) -> None:
    """Check how many LoRA adapters are asked for, and of which rank.

    Raises
    ------
    InvalidInput
        Naming ``max_loras`` or ``max_lora_rank``; ranks are those vLLM 0.32.0 lists, SGLang takes them all.
    """
    _require(count >= 1, "max_loras", count, "at least 1")
    _require(rank in LORA_RANKS, "max_lora_rank", rank, "one of " + ", ".join(map(str, LORA_RANKS)))


def check_kv_space(config: ReplicaConfig) -> None:
    """Check that a CPU replica was given memory for its KV cache.

    Raises
    ------
    InvalidInput
        When it was given less than one GiB.
    """
    if config.device.kind is DeviceKind.CPU and config.kv_space_bytes < 2**30:
        raise InvalidInput(
            "kv_space_bytes", f"{config.kv_space_bytes:g} is too little", "at least 1 GiB on CPU"
        )


def thread_ranges(config: ReplicaConfig) -> str:
    """Return the core ranges of a CPU replica's ranks, ``0-27|56-83``; ``auto`` when the cores are not known.

    One rank a socket: it takes ``config.cores`` physical cores from the first of its socket on.
    """
    socket = max(config.cores, config.device.compute_units)
    return "|".join(core_ranges(range(config.tp * config.pp), config.cores, socket)) or "auto"


def core_ranges(sockets: Iterable[int], cores: int, socket_cores: int) -> tuple[str, ...]:
    """Return the core ranges of ranks on these sockets, one a socket; none when the cores are not known."""
    starts = [socket * socket_cores for socket in sockets] if cores > 0 else []
    return tuple(f"{start}-{start + cores - 1}" for start in starts)


def bind_cores(envs: Mapping[str, str], variable: str, seat: Seat) -> Mapping[str, str]:
    """Return the environment with the seat's cores in ``variable``, where there was a binding to replace."""
    return {**envs, variable: "|".join(seat.cores)} if variable in envs and seat.cores else envs


def _head_problem(attention: Attention, tp: int) -> str | None:
    if attention.heads % tp:
        return f"{tp} ranks do not divide {attention.heads} attention heads"
    if attention.kind is AttentionKind.MLA:
        return None
    if attention.kv_heads % tp and tp % attention.kv_heads:
        return f"{tp} ranks neither divide nor repeat {attention.kv_heads} key-value heads evenly"
    if attention.kind is AttentionKind.LINEAR and attention.kv_heads % tp:
        return f"{tp} ranks do not divide {attention.kv_heads} key heads of linear attention"
    return None


def _require(holds: bool, field: str, value: object, expected: str) -> None:
    if not holds:
        raise InvalidInput(field, f"{value!r} is out of range", expected)
