"""How much of a data sheet real kernels reach, by kind of hardware: the few constants of the analytic model."""

from __future__ import annotations

from dataclasses import dataclass, fields

import numpy as np

from budsim.hardware_ops.device import DeviceKind
from budsim.performance.candidates import Candidates, Floats


@dataclass(frozen=True, slots=True, kw_only=True)
class Constants:
    """Attainable shares of the peaks (0..1) and latencies (s) of one kind of hardware.

    Fitted once by `budsim.performance.fitting` to the measurements' TPOT and TTFT (mean absolute log error), then rounded;
    the learned part corrects what remains.
    """

    gemm: float
    expert_gemm: float
    half_rows: float
    bandwidth: float
    expert_bandwidth: float
    cache_bandwidth: float
    decode_attention: float
    prefill_attention: float
    link: float
    reduce_latency_s: float
    hop_latency_s: float
    layer_latency_s: float
    moe_latency_s: float
    core_reach: float = 1.0


GPU = Constants(
    gemm=0.65,
    expert_gemm=0.5,
    half_rows=48.0,
    bandwidth=0.8,
    expert_bandwidth=0.6,
    cache_bandwidth=0.6,
    decode_attention=0.25,
    prefill_attention=0.4,
    link=0.6,
    reduce_latency_s=3e-6,
    hop_latency_s=20e-6,
    layer_latency_s=20e-6,
    moe_latency_s=20e-6,
)
CONSTANTS: dict[DeviceKind, Constants] = {
    DeviceKind.CUDA: GPU,
    DeviceKind.ROCM: GPU,
    DeviceKind.XPU: GPU,
    DeviceKind.HPU: GPU,
    DeviceKind.CPU: Constants(
        gemm=0.35,
        expert_gemm=0.3,
        half_rows=4.0,
        bandwidth=0.6,
        expert_bandwidth=0.5,
        cache_bandwidth=0.5,
        decode_attention=0.1,
        prefill_attention=0.1,
        link=0.5,
        reduce_latency_s=20e-6,
        hop_latency_s=50e-6,
        layer_latency_s=50e-6,
        moe_latency_s=50e-6,
        core_reach=2.0,
    ),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Efficiency:
    """`Constants` spread over candidates; arrays of shape (n,)."""

    gemm: Floats
    expert_gemm: Floats
    half_rows: Floats
    bandwidth: Floats
    expert_bandwidth: Floats
    cache_bandwidth: Floats
    decode_attention: Floats
    prefill_attention: Floats
    link: Floats
    reduce_latency_s: Floats
    hop_latency_s: Floats
    layer_latency_s: Floats
    moe_latency_s: Floats
    core_reach: Floats


def efficiency(candidates: Candidates) -> Efficiency:
    """Return the constants of each candidate's kind of hardware."""
    kinds = [CONSTANTS[device.kind] for device in candidates.devices]
    columns = {field.name: np.array([getattr(kind, field.name) for kind in kinds]) for field in fields(Constants)}
    return Efficiency(**{name: column[candidates.device] for name, column in columns.items()})
