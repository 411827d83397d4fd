"""What llama.cpp's kernels compute a cycle on each kind of core, by format of the weights."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from budsim.commons.precision import Precision
from budsim.hardware_ops.device import Device

# Engines that multiply blocks of narrow integers with kernels of their own.
BLOCK_ENGINES = ("llama.cpp-cpu", "llama.cpp-cpu(one cache)")


@dataclass(frozen=True, slots=True, kw_only=True)
class ProcessorKernels:
    """Operations per core and clock cycle (a multiply-add is two), by format and in attention."""

    q8_0: float
    q4_k_m: float
    attention: float
    q8r16: float = 0.0
    q4_k_4: float = 0.0

    def operations(self, precision: Precision) -> float:
        """Return the operations of a format's kernel per core and cycle; 0 where it has none."""
        by_format = {
            Precision.Q8_0: self.q8_0,
            Precision.Q4_K_M: self.q4_k_m,
            Precision.Q6_K: self.q4_k_m,
            Precision.Q8R16: self.q8r16,
            Precision.Q4_K_4: self.q4_k_4,
        }
        return by_format.get(precision, 0.0)


# Fitted on the prompt and decode times of Ampere's and AWS's public llama.cpp rows, by
# training.physics_fit. The repacked formats Q8R16 and Q4_K_4 exist on Arm only.
NEON = ProcessorKernels(q8_0=9.8, q4_k_m=7.6, attention=10.0, q8r16=41.0, q4_k_4=14.5)

# By generation of the cores, else by their vendor, else by their instruction set.
PROCESSOR_KERNELS: Mapping[str, ProcessorKernels] = {
    "amd": ProcessorKernels(q8_0=26.0, q4_k_m=28.0, attention=24.0),
    "intel": ProcessorKernels(q8_0=20.0, q4_k_m=17.0, attention=12.0),
    "neoverse_n1": replace(NEON, q8r16=37.0, q4_k_4=17.6),
    "neoverse_v2": replace(NEON, q8_0=10.7, q4_k_m=9.9),
    "ampere1a": replace(NEON, q8_0=9.0, q4_k_m=5.9, q4_k_4=12.0),
    "ampere1b": replace(NEON, q8_0=9.0, q4_k_m=5.9, q8r16=58.0, q4_k_4=12.0),
    "neon": NEON,
}


def processor_kernels(
    table: Mapping[str, ProcessorKernels], device: Device
) -> ProcessorKernels | None:
    """Return the kernels of a device's cores; None where nobody measured its instructions."""
    names = (device.generation, device.vendor, *sorted(device.instruction_sets))
    return next((table[name] for name in names if name in table), None)
