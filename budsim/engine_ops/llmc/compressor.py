"""LLMC: quantizes a checkpoint with LLM Compressor 0.14 before it is served; sizes the job."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Final

from budsim.commons.errors import InvalidInput
from budsim.commons.precision import Precision
from budsim.commons.units import GIB, SECONDS_PER_HOUR
from budsim.engine_ops.base import CompressionJob, Stage
from budsim.engine_ops.llmc.recipes import recipe_yaml
from budsim.engine_ops.llmc.schemes import Scheme, schemes
from budsim.engine_ops.shared.formats import why_not_precision
from budsim.hardware_ops.device import Device
from budsim.model_ops.architecture import Architecture, Quantization

# Whose kernels decide whether a format pays: vLLM reads what LLM Compressor writes.
_SERVED_BY: Final = "vllm"

# Bytes of one 16-bit value.
_WIDTH_16BIT: Final = 2.0

# Samples times tokens of each in LLM Compressor's examples.
CALIBRATION_TOKENS: Final = 512 * 2048

# One pass to observe activations and one through the quantized layers.
CALIBRATION_PASSES: Final = 2

# Share of a device's bf16 peak reached in calibration (0..1); our estimate.
CALIBRATION_EFFICIENCY: Final = 0.3

# Rate of reading and writing checkpoints, bytes per second; our estimate.
DISK_BYTES_PER_S: Final = 1e9

# Work beside the passes, seconds for each parameter, by method; our estimates.
SOLVER_S_PER_PARAMETER: Final[Mapping[str, float]] = {"RTN": 5e-9, "GPTQ": 60e-9, "AWQ": 90e-9}

# Memory of one device beside the layer being quantized; our estimate.
WORKING_BYTES: Final = 2.0 * GIB

# Schemes that rounding to nearest reaches without data.
_WITHOUT_CALIBRATION: Final = frozenset(
    {"FP8_DYNAMIC", "FP8_BLOCK", "MXFP4", "W4A16", "W4A16_ASYM", "W8A8", "INT8"}
)


class Llmc:
    """LLM Compressor."""

    name = "llmc"
    version = "0.14.0"
    stage = Stage.COMPRESS

    def schemes(self, device: Device) -> tuple[str, ...]:
        """Return the schemes whose format is native on ``device``, or that save memory there."""
        found = schemes().items()
        return tuple(name for name, scheme in found if _why_not_format(scheme, device) is None)

    def why_not(self, architecture: Architecture, device: Device, scheme: str) -> str | None:
        """Return why quantizing the model to ``scheme`` is of no use on the device, or None.

        Raises
        ------
        InvalidInput
            When there is no such scheme.
        """
        if architecture.quantization:
            method = architecture.quantization.method
            return f"{architecture.model_id} is already quantized ({method})"
        return _why_not_format(_scheme(scheme), device)

    def job(
        self,
        architecture: Architecture,
        scheme: str,
        *,
        device: Device,
        method: str | None = None,
        kv8: bool = False,
    ) -> CompressionJob:
        """Size the job that quantizes the model on one ``device`` and write its recipe.

        Device memory is one layer (twice with GPTQ, whose Hessian is as large), host memory the
        16-bit weights: LLM Compressor, docs/guides/memory.md. Time is reading and writing the
        weights, two calibration passes of 2 FLOPs for each active parameter and token, and the
        solver; its constants are our estimates.

        Parameters
        ----------
        scheme : str
            A preset (``W4A16``, ``FP8_DYNAMIC``...).
        method : str, optional
            ``RTN``, ``GPTQ``, ``AWQ`` or ``SMOOTHQUANT`` (smoothing before GPTQ); the scheme's
            best by default.
        kv8 : bool
            Whether scales for an fp8 KV cache are calibrated too.

        Raises
        ------
        InvalidInput
            An unknown scheme or method, a method that does not reach the scheme, or a model that
            is already quantized.
        """
        preset = _scheme(scheme)
        chosen = _method(preset, method)
        if architecture.quantization:
            problem = "the model is already quantized"
            raise InvalidInput("quantization_type", problem, "an unquantized checkpoint")
        hours = _seconds(architecture, preset, chosen, device, kv8=kv8) / SECONDS_PER_HOUR
        layers = 1 if chosen == "RTN" else 2
        return CompressionJob(
            scheme=preset.name,
            method=chosen,
            precision=preset.precision,
            kv_precision=Precision.FP8 if kv8 else Precision.BF16,
            device_bytes=_largest_layer_bytes(architecture) * layers + WORKING_BYTES,
            host_bytes=_WIDTH_16BIT * architecture.parameters,
            hours=hours,
            cost_usd=hours * device.price_usd_per_h,
            recipe_yaml=recipe_yaml(preset.name, chosen, kv8=kv8),
        )


def scheme_for(precision: Precision) -> str | None:
    """Return the scheme that leaves weights in ``precision``, or None if there is none.

    Of several the one that needs least calibration.
    """
    found = schemes().items()
    return next((name for name, scheme in found if scheme.precision is precision), None)


def job_for(
    architecture: Architecture, precision: Precision, device: Device
) -> CompressionJob | None:
    """Return the job that makes the checkpoint `served_name` names; None where none is needed."""
    scheme = scheme_for(precision)
    if architecture.quantization or scheme is None:
        return None
    return Llmc().job(architecture, scheme, device=device)


def served_name(architecture: Architecture, precision: Precision) -> str:
    """Return what a serving engine loads: the checkpoint, or what LLMC makes of it.

    The latter has ``-SCHEME`` behind its name.
    """
    scheme = scheme_for(precision)
    if architecture.quantization or scheme is None:
        return architecture.model_id
    return f"{architecture.model_id}-{scheme}"


def served_architecture(architecture: Architecture, precision: Precision) -> Architecture:
    """Return the architecture of the checkpoint `served_name` names, with its quantization."""
    scheme = scheme_for(precision)
    if architecture.quantization or scheme is None:
        return architecture
    quantization = Quantization(
        method="compressed_tensors", precision=precision, group=schemes()[scheme].group
    )
    return replace(architecture, quantization=quantization)


def _scheme(name: str) -> Scheme:
    known = schemes()
    if name.upper() not in known:
        problem = f"{name!r} is no scheme"
        raise InvalidInput("quantization_type", problem, f"one of {', '.join(known)}")
    return known[name.upper()]


def _method(scheme: Scheme, method: str | None) -> str:
    chosen = (method or scheme.methods[0]).upper()
    if chosen not in scheme.methods:
        problem = f"{chosen} does not reach {scheme.name}"
        raise InvalidInput("quantization_method", problem, f"one of {', '.join(scheme.methods)}")
    return chosen


def _why_not_format(scheme: Scheme, device: Device) -> str | None:
    return why_not_precision(_SERVED_BY, device, scheme.precision)


def _seconds(
    architecture: Architecture, scheme: Scheme, method: str, device: Device, *, kv8: bool
) -> float:
    read_bytes = _WIDTH_16BIT * architecture.parameters
    moved_bytes = read_bytes + architecture.weight_bytes(scheme.precision)
    # SmoothQuant smooths before GPTQ, so it costs at least what GPTQ does.
    per_parameter = SOLVER_S_PER_PARAMETER.get(method, SOLVER_S_PER_PARAMETER["GPTQ"])
    solver_s = per_parameter * architecture.parameters
    calibration_s = _calibration_s(architecture, scheme, method, device, kv8=kv8)
    return moved_bytes / DISK_BYTES_PER_S + solver_s + calibration_s


def _calibration_s(
    architecture: Architecture, scheme: Scheme, method: str, device: Device, *, kv8: bool
) -> float:
    if method == "RTN" and not kv8 and scheme.name in _WITHOUT_CALIBRATION:
        return 0.0
    # Two operations, a multiply and an add, for each active parameter.
    per_token = CALIBRATION_PASSES * 2.0 * architecture.active_parameters
    reached = CALIBRATION_EFFICIENCY * device.peak_flops_per_s(Precision.BF16)
    return per_token * CALIBRATION_TOKENS / reached


def _largest_layer_bytes(architecture: Architecture) -> float:
    hidden = architecture.hidden_size
    return max(
        _WIDTH_16BIT * sum(matrix.values for matrix in group.matrices(hidden))
        for group in architecture.layers
    )
