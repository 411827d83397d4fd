"""All fitted constants of the analytic model, and which of them a candidate gets."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields, replace

import numpy as np

from budsim.commons.precision import Precision
from budsim.engine_ops.engine_profile import FirstToken
from budsim.hardware_ops.device import Device, DeviceKind
from budsim.performance.candidates import Candidates, Floats
from budsim.performance.physics.attainable import KernelConstants
from budsim.performance.physics.first_token import FIRST_TOKEN, OTHER_ENGINE, HostTime
from budsim.performance.physics.kernel_constants import (
    KERNEL_CONSTANTS,
    NETWORK_LATENCY_S,
    NETWORK_LINK,
    SLOWED,
    WHOLE_RATE,
    through_host,
    with_slowed_cores,
)
from budsim.performance.physics.processor_kernels import PROCESSOR_KERNELS, ProcessorKernels

# Instructions with 16 bit kernels; x86 processors with none of them have AVX2 at most.
WIDE_VECTORS = frozenset({"avx512f", "neon", "sve"})


# How the catalog names the link of devices that stand alone in their node.
NO_LINK = "none"
# Products in bf16 over those in fp32 of a data sheet: 4 on boards with whole tensor cores, 2 where
# the vendor halves their rate.
HALF_RATE = 3.0


def has_half_rate(device: Device) -> bool:
    """Return whether the vendor halves the rate of a board's tensor cores, as on RTX 4090."""
    peaks = device.flops_per_s
    fp32, bf16 = peaks.get(Precision.FP32, 0.0), peaks.get(Precision.BF16, 0.0)
    return 0.0 < bf16 < HALF_RATE * fp32


def tensor_rate(device: Device) -> float:
    """Return the speed of one unit's tensor cores over that of the generation's whole boards.

    1 where that is not known. H20: 0.25.
    """
    whole = WHOLE_RATE.get(device.generation)
    return device.peak_flops_per_s(Precision.BF16) / device.compute_units / whole if whole else 1.0


@dataclass(frozen=True, slots=True, kw_only=True)
class PhysicsConstants:
    """Fitted constants by name: of kernels, of engines' hosts, and of llama.cpp's kernels."""

    kernels: Mapping[str, KernelConstants[float]]
    first_token: Mapping[str, FirstToken]
    processor_kernels: Mapping[str, ProcessorKernels]

    def of_kernels(self, engine: str, device: Device) -> KernelConstants[float]:
        """Return the constants of an engine on a device, with its own prompt factor if any."""
        factor = self.of_engine(engine).prompt_factor
        found, rate = self._of_device(engine, device), tensor_rate(device)
        found = found if factor is None else replace(found, prompt_factor=factor)
        return with_slowed_cores(found, rate) if rate < SLOWED else found

    def _of_device(self, engine: str, device: Device) -> KernelConstants[float]:
        """Return the engine's own constants, else those of the device's generation or kind."""
        of_device = self.kernels.get(device.generation, self.kernels[device.kind])
        if has_half_rate(device):
            of_device = self.kernels.get(f"{device.generation}(half rate)", of_device)
        narrow = device.kind is DeviceKind.CPU and WIDE_VECTORS.isdisjoint(device.instruction_sets)
        usual = engine.partition("(")[0]
        pairs = (f"{engine} on {device.generation}", engine, f"{usual} on {device.generation}")
        names = (f"{engine}(avx2)", engine) if narrow else pairs
        own = next((self.kernels[name] for name in names if name in self.kernels), of_device)
        link = device.scale_up.name
        if device.kind is not DeviceKind.CUDA:
            return own
        if link.startswith(NO_LINK):
            share = min(own.link, NETWORK_LINK)
            return replace(own, link=share, all_reduce_latency_s=NETWORK_LATENCY_S)
        return through_host(own, link) if link.startswith("PCIe") else own

    def of_engine(self, name: str) -> FirstToken:
        """Return what an engine's host adds before the first token."""
        return self.first_token.get(name, OTHER_ENGINE)


# The constants in use.
FITTED = PhysicsConstants(
    kernels=KERNEL_CONSTANTS, first_token=FIRST_TOKEN, processor_kernels=PROCESSOR_KERNELS
)


def kernel_constants(
    candidates: Candidates, constants: PhysicsConstants = FITTED
) -> KernelConstants[Floats]:
    """Return the constants of each candidate's engine and device, arrays of shape (n,)."""
    pairs = [
        constants.of_kernels(engine.name, device)
        for engine in candidates.engines
        for device in candidates.devices
    ]
    pair = candidates.engine * len(candidates.devices) + candidates.device
    columns = {
        field.name: np.array([getattr(each, field.name) for each in pairs], dtype=np.float64)[pair]
        for field in fields(KernelConstants)
    }
    return KernelConstants(**columns)


def host_time(candidates: Candidates, constants: PhysicsConstants = FITTED) -> HostTime:
    """Return what each candidate's host adds, arrays of shape (n,).

    A scheduler that looks at its queue only now and then adds to the awaited steps.
    """
    engines = [constants.of_engine(engine.name) for engine in candidates.engines]
    return HostTime(
        request_s=candidates.by_engine([each.request_s for each in engines]),
        awaited_steps=candidates.by_engine([each.steps for each in engines])
        + candidates.admission_steps,
        prompt_launch_s=candidates.by_engine([each.prompt_launch_s for each in engines]),
    )
