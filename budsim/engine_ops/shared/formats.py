"""In which formats weights and KV cache are served, and how vLLM and SGLang alike are told so."""

from __future__ import annotations

from typing import Final

from budsim.commons.errors import InvalidInput
from budsim.commons.precision import Precision, bytes_per_value
from budsim.engine_ops.base import ArgumentValue, ReplicaConfig
from budsim.engine_ops.shared.families import family_of, serves_float16
from budsim.engine_ops.shared.kernels import (
    Mode,
    follows_checkpoint,
    kv_formats,
    native_precisions,
    reads_checkpoint,
    weight_mode,
)
from budsim.hardware_ops.device import Device, DeviceKind
from budsim.model_ops.architecture import Architecture

_DTYPES: Final = {
    Precision.FP32: "float32",
    Precision.BF16: "bfloat16",
    Precision.FP16: "float16",
}
_SIXTEEN_BIT: Final = (Precision.BF16, Precision.FP16)
_WIDE: Final = frozenset({Precision.FP32, *_SIXTEEN_BIT})
# Four-bit integers save memory wherever they run; every engine multiplies them in 16 bit.
_WORTH_UNPACKING: Final = (Precision.INT4,)


def stored_precision(architecture: Architecture) -> Precision:
    """Return the format of the checkpoint's quantized weights, or else of its plain ones."""
    quantization = architecture.quantization
    return quantization.precision if quantization else architecture.native_precision


def plain_precision(
    engine: str, architecture: Architecture, device: Device, stored: Precision
) -> Precision:
    """Return the wide format (fp32, bf16, fp16) a ``stored`` one is served in on ``device``.

    16 bit, and bf16 where it is native; fp32 where the engine refuses the family in fp16 and the
    device has no bf16.
    """
    allowed = [
        precision
        for precision in _SIXTEEN_BIT
        if precision is Precision.BF16 or serves_float16(engine, architecture)
    ]
    if stored in allowed and stored is Precision.FP16 and weight_mode(engine, device, stored):
        return stored
    native = native_precisions(engine, device)
    return next((precision for precision in allowed if precision in native), Precision.FP32)


def why_not_precision(engine: str, device: Device, precision: Precision) -> str | None:
    """Return why quantizing weights to ``precision`` does not pay on ``device``, or None."""
    mode = weight_mode(engine, device, precision)
    if mode is None:
        return f"{engine} has no {precision} kernel for {device.name}"
    if mode is Mode.WEIGHT_ONLY and precision not in _WORTH_UNPACKING:
        return f"{precision} is weight-only on {device.name}: stored small, multiplied in 16 bit"
    return None


def precisions(
    engine: str, architecture: Architecture, device: Device, *, may_quantize: bool
) -> tuple[Precision, ...]:
    """Return the weight formats to try: the checkpoint's own, then narrower ones that pay off.

    Narrower ones need ``may_quantize``. A quantized checkpoint is never quantized again. Empty
    when the checkpoint's format does not run here.
    """
    stored = stored_precision(architecture)
    if stored not in _WIDE:
        runs = weight_mode(engine, device, stored) and not _unread(engine, architecture, device)
        return (stored,) if runs else ()
    plain = plain_precision(engine, architecture, device, stored)
    # Quantized weights are multiplied with 16-bit activations.
    if not may_quantize or plain is Precision.FP32:
        return (plain,)
    narrower = (
        precision
        for precision in sorted(Precision, key=bytes_per_value, reverse=True)
        if precision not in _WIDE and why_not_precision(engine, device, precision) is None
    )
    return (plain, *narrower)


def why_not_stored(engine: str, architecture: Architecture, device: Device) -> str | None:
    """Return why the checkpoint's own format does not run on ``device``, or None."""
    where = f"{device.name} ({device.generation})"
    if not native_precisions(engine, device):
        return f"{engine} has no kernels for {where}"
    stored = stored_precision(architecture)
    if stored in _WIDE:
        return None
    if not weight_mode(engine, device, stored):
        return f"{engine} has no kernel for {stored} weights on {where}"
    if method := _unread(engine, architecture, device):
        return f"{engine} reads no checkpoints of {method} on {where}"
    plain = plain_precision(engine, architecture, device, Precision.BF16)
    if plain is Precision.FP32 and device.kind is not DeviceKind.CPU:
        served = f"{engine} refuses {architecture.family} in float16"
        return f"{served}, and {where} has no bfloat16 to multiply {stored} weights in"
    return None


def _unread(engine: str, architecture: Architecture, device: Device) -> str | None:
    """Return the checkpoint's quantization method where ``engine`` refuses it on ``device``."""
    stored = architecture.quantization
    if stored is None or reads_checkpoint(engine, device, stored.precision, stored.method):
        return None
    return stored.method


def kv_precisions(engine: str, architecture: Architecture, device: Device) -> tuple[Precision, ...]:
    """Return the KV cache formats to try, the one the engine picks by itself first.

    That is the plain one, unless the checkpoint states FP8 with its scales or the engine prefers
    FP8 for the family. Formats without calibrated scales follow.
    """
    plain = plain_precision(engine, architecture, device, Precision.BF16)
    chosen, only = _automatic_cache(engine, architecture, device)
    if only:
        return (chosen,)
    return tuple(dict.fromkeys((chosen, plain, *kv_formats(engine, device))))


def _automatic_cache(
    engine: str, architecture: Architecture, device: Device
) -> tuple[Precision, bool]:
    """Return what ``--kv-cache-dtype auto`` resolves to, and whether there is nothing else."""
    family, offered = family_of(engine, architecture), kv_formats(engine, device)
    own = family.kv_cache if family else None
    if own is not None and own.requirement.met_by(device) and own.precision in offered:
        return own.precision, own.only
    quantization = architecture.quantization
    stated = quantization.kv_cache if quantization else None
    if quantization and stated and follows_checkpoint(engine, device, stated, quantization.method):
        return stated, False
    return plain_precision(engine, architecture, device, Precision.BF16), False


def format_arguments(
    engine: str, architecture: Architecture, config: ReplicaConfig
) -> dict[str, ArgumentValue]:
    """Return how weights and cache are stored, in the arguments vLLM and SGLang spell alike.

    The engine reads a checkpoint's own quantization from it; one made by LLM Compressor has to be
    named.
    """
    stored, wanted = stored_precision(architecture), config.weight_precision
    plain = plain_precision(engine, architecture, config.device, Precision.BF16)
    formats: dict[str, ArgumentValue] = {
        "dtype": _DTYPES.get(wanted) or _DTYPES[plain],
        "kv-cache-dtype": _cache_argument(engine, architecture, config),
    }
    if wanted not in _DTYPES and wanted is not stored:
        formats["quantization"] = "compressed-tensors"
    return formats


def _cache_argument(engine: str, architecture: Architecture, config: ReplicaConfig) -> str:
    """Return how the cache's format is named: ``auto`` where the engine picks it by itself."""
    chosen, _ = _automatic_cache(engine, architecture, config.device)
    wanted = config.kv_precision
    if wanted is chosen:
        return "auto"
    if wanted in _SIXTEEN_BIT and chosen not in _WIDE:
        return "bfloat16"
    return kv_formats(engine, config.device).get(wanted, "auto")


def check_formats(engine: str, architecture: Architecture, config: ReplicaConfig) -> None:
    """Check that the engine can load the weights and keep the cache in the formats asked for.

    Raises
    ------
    InvalidInput
        Naming ``weight_precision`` or ``kv_precision``.
    """
    _check_weights(engine, architecture, config)
    _check_cache(engine, architecture, config)


def _check_weights(engine: str, architecture: Architecture, config: ReplicaConfig) -> None:
    device, wanted = config.device, config.weight_precision
    stored = stored_precision(architecture)
    if stored not in _WIDE and wanted is not stored:
        problem = f"{wanted}, but the checkpoint is {stored} already"
        raise InvalidInput("weight_precision", problem, str(stored))
    if wanted is Precision.FP16 and not serves_float16(engine, architecture):
        problem = f"{engine} refuses {architecture.family} in float16"
        raise InvalidInput("weight_precision", problem, "bf16 or fp32")
    if weight_mode(engine, device, wanted) is None:
        known = ", ".join(native_precisions(engine, device))
        problem = f"{engine} has no {wanted} kernel for {device.name}"
        raise InvalidInput("weight_precision", problem, f"one of {known}")


def _check_cache(engine: str, architecture: Architecture, config: ReplicaConfig) -> None:
    device, wanted = config.device, config.kv_precision
    offered = kv_formats(engine, device)
    if wanted not in _WIDE and wanted not in offered:
        problem = f"{engine} has no {wanted} cache on {device.name}"
        raise InvalidInput("kv_precision", problem, ", ".join(("bf16", *offered)))
    legal = kv_precisions(engine, architecture, device)
    if len(legal) == 1 and wanted is not legal[0] and legal[0] not in _WIDE:
        problem = f"{engine} keeps the cache of {architecture.family} in {legal[0]} only"
        raise InvalidInput("kv_precision", problem, str(legal[0]))
