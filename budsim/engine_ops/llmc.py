"""LLMC: quantizes a checkpoint with LLM Compressor 0.14 before it is served; sizes the job and writes its recipe."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any, Final

from budsim.commons.catalog import load_catalog
from budsim.commons.errors import InvalidInput
from budsim.commons.precision import Precision
from budsim.commons.units import GIB, SECONDS_PER_HOUR
from budsim.engine_ops.base import CompressionJob, Stage
from budsim.engine_ops.rules import why_not_precision
from budsim.hardware_ops.device import Device
from budsim.model_ops.architecture import Architecture

NAME: Final = "llmc"
VERSION: Final = "0.14.0"

_SERVED_BY: Final = "vllm"
_IGNORED: Final = ("lm_head", "re:.*mlp[.]gate$", "re:.*router.*", "re:.*vision.*", "re:.*visual.*")

# LLM Compressor's examples calibrate with 512 samples of 2048 tokens.
CALIBRATION_TOKENS: Final = 512 * 2048
# Our estimates: share of a device's bf16 peak in calibration, disk rate, and GPTQ/AWQ work beside the passes, per parameter.
CALIBRATION_EFFICIENCY: Final = 0.3
DISK_BYTES_PER_S: Final = 1e9
SOLVER_S_PER_PARAMETER: Final[Mapping[str, float]] = {"RTN": 5e-9, "GPTQ": 60e-9, "AWQ": 90e-9}
WORKING_BYTES: Final = 2.0 * GIB


@dataclass(frozen=True, slots=True, kw_only=True)
class Scheme:
    """One preset of LLM Compressor: the format it leaves weights in and the methods that reach it, the best first."""

    name: str
    precision: Precision
    methods: tuple[str, ...]


class Llmc:
    """LLM Compressor behind the one interface."""

    name = NAME
    version = VERSION
    stage = Stage.COMPRESS

    def schemes(self, device: Device) -> tuple[str, ...]:
        """Return the schemes whose format is native on ``device``, or four-bit integers, which save memory anywhere they run."""
        return tuple(
            name for name, scheme in schemes().items() if _why_not_format(scheme, device) is None
        )

    def why_not(self, architecture: Architecture, device: Device, scheme: str) -> str | None:
        """Return why quantizing the model to ``scheme`` for the device is of no use, or None when it is.

        Raises
        ------
        InvalidInput
            When there is no such scheme.
        """
        if architecture.quantization:
            return (
                f"{architecture.model_id} is already quantized ({architecture.quantization.method})"
            )
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

        Device memory is one layer (twice with GPTQ, whose Hessian is as large), host memory the 16-bit weights: LLM Compressor,
        docs/guides/memory.md. Time is reading and writing the weights, two calibration passes of 2 FLOPs per active parameter and
        token, and the solver; its constants are our estimates.

        Parameters
        ----------
        scheme : str
            A preset (``W4A16``, ``FP8_DYNAMIC``...).
        method : str, optional
            ``RTN``, ``GPTQ``, ``AWQ`` or ``SMOOTHQUANT`` (smoothing before GPTQ); the scheme's best by default.
        kv8 : bool
            Whether scales for an fp8 KV cache are calibrated too.

        Raises
        ------
        InvalidInput
            An unknown scheme or method, or one that does not reach the other, or a model that is already quantized.
        """
        preset = _scheme(scheme)
        chosen = _method(preset, method)
        if architecture.quantization:
            raise InvalidInput(
                "quantization_type", "the model is already quantized", "an unquantized checkpoint"
            )
        hours = _seconds(architecture, preset, chosen, device, kv8=kv8) / SECONDS_PER_HOUR
        return CompressionJob(
            scheme=preset.name,
            method=chosen,
            precision=preset.precision,
            kv_precision=Precision.FP8 if kv8 else Precision.BF16,
            device_bytes=_largest_layer_bytes(architecture) * (1 if chosen == "RTN" else 2)
            + WORKING_BYTES,
            host_bytes=2.0 * architecture.parameters,
            hours=hours,
            cost_usd=hours * device.price_usd_per_h,
            recipe_yaml=recipe_yaml(preset.name, chosen, kv8=kv8),
        )


def scheme_for(precision: Precision) -> str | None:
    """Return the scheme that leaves weights in ``precision``, the one needing least calibration first; None if there is none."""
    return next((name for name, scheme in schemes().items() if scheme.precision is precision), None)


def job_for(
    architecture: Architecture, precision: Precision, device: Device
) -> CompressionJob | None:
    """Return the job that makes the checkpoint `served_name` names, or None where the checkpoint is served as it is."""
    scheme = scheme_for(precision)
    return (
        None
        if architecture.quantization or scheme is None
        else Llmc().job(architecture, scheme, device=device)
    )


def served_name(architecture: Architecture, precision: Precision) -> str:
    """Return what a serving engine loads: the checkpoint, or with ``-SCHEME`` behind its name what LLMC makes of it."""
    scheme = scheme_for(precision)
    if architecture.quantization or scheme is None:
        return architecture.model_id
    return f"{architecture.model_id}-{scheme}"


def recipe_yaml(scheme: str, method: str, *, kv8: bool = False) -> str:
    """Return the LLM Compressor recipe of ``scheme`` reached by ``method``, as YAML.

    AWQ only rescales and SmoothQuant only smooths: a quantizing modifier follows either.
    """
    import yaml

    quantizing: dict[str, object] = {
        "targets": ["Linear"],
        "scheme": scheme,
        "ignore": list(_IGNORED),
    }
    if kv8:
        quantizing["kv_cache_scheme"] = {
            "num_bits": 8,
            "type": "float",
            "strategy": "tensor",
            "dynamic": False,
            "symmetric": True,
        }
    modifiers = _MODIFIERS[method](quantizing)
    recipe = {"quant_stage": {"quant_modifiers": modifiers}}
    return str(yaml.safe_dump(recipe, sort_keys=False))


def _round_to_nearest(quantizing: dict[str, object]) -> dict[str, object]:
    return {"QuantizationModifier": quantizing}


def _gptq(quantizing: dict[str, object]) -> dict[str, object]:
    return {"GPTQModifier": quantizing}


def _awq(quantizing: dict[str, object]) -> dict[str, object]:
    return {"AWQModifier": {"duo_scaling": True}, "QuantizationModifier": quantizing}


def _smooth(quantizing: dict[str, object]) -> dict[str, object]:
    return {"SmoothQuantModifier": {"smoothing_strength": 0.8}, "GPTQModifier": quantizing}


_MODIFIERS: Final = {"RTN": _round_to_nearest, "GPTQ": _gptq, "AWQ": _awq, "SMOOTHQUANT": _smooth}


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
    moved_bytes = 2.0 * architecture.parameters + architecture.weight_bytes(scheme.precision)
    solver_s = (
        SOLVER_S_PER_PARAMETER.get(method, SOLVER_S_PER_PARAMETER["GPTQ"]) * architecture.parameters
    )
    return (
        moved_bytes / DISK_BYTES_PER_S
        + solver_s
        + _calibration_s(architecture, scheme, method, device, kv8=kv8)
    )


def _calibration_s(
    architecture: Architecture, scheme: Scheme, method: str, device: Device, *, kv8: bool
) -> float:
    if method == "RTN" and not kv8 and scheme.name in _WITHOUT_CALIBRATION:
        return 0.0
    flops = 2 * 2.0 * architecture.active_parameters * CALIBRATION_TOKENS
    return flops / (CALIBRATION_EFFICIENCY * device.peak_flops_per_s(Precision.BF16))


def _largest_layer_bytes(architecture: Architecture) -> float:
    return max(
        2.0 * sum(matrix.values for matrix in group.matrices(architecture.hidden_size))
        for group in architecture.layers
    )


_WITHOUT_CALIBRATION: Final = frozenset(
    {"FP8_DYNAMIC", "FP8_BLOCK", "MXFP4", "W4A16", "W4A16_ASYM", "W8A8", "INT8"}
)


def _scheme(name: str) -> Scheme:
    known = schemes()
    if name.upper() not in known:
        raise InvalidInput(
            "quantization_type", f"{name!r} is no scheme", f"one of {', '.join(known)}"
        )
    return known[name.upper()]


@cache
def schemes() -> Mapping[str, Scheme]:
    """Return LLM Compressor's presets by name."""
    entries: list[dict[str, Any]] = load_catalog("budsim.engine_ops", "catalog/llmc_schemes.json")
    return {
        entry["scheme"]: Scheme(
            name=entry["scheme"],
            precision=Precision(entry["precision"]),
            methods=tuple(entry["methods"]),
        )
        for entry in entries
    }
