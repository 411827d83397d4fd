"""What a processor core computes in a cycle agrees with the instructions it has."""

from __future__ import annotations

import pytest

from budsim.commons.precision import Precision
from budsim.hardware_ops.instruction_sets import INSTRUCTION_SETS, OPS_PER_CYCLE

# Instruction sets with bf16 products, as ``/proc/cpuinfo`` names them.
BF16_INSTRUCTIONS = frozenset({"avx512_bf16", "amx_bf16", "bf16"})


def test_both_tables_know_the_same_cores() -> None:
    """A core has a rate and a list of instructions."""
    assert OPS_PER_CYCLE.keys() == INSTRUCTION_SETS.keys()


@pytest.mark.parametrize("core", sorted(OPS_PER_CYCLE.keys() - {"neon_n1"}))
def test_a_bf16_rate_needs_bf16_instructions(core: str) -> None:
    """Neoverse N1 is the exception: its fp16 rate stands for bf16."""
    has_rate = Precision.BF16 in OPS_PER_CYCLE[core]
    assert has_rate == bool(INSTRUCTION_SETS[core] & BF16_INSTRUCTIONS)


@pytest.mark.parametrize("core", sorted(OPS_PER_CYCLE))
def test_fewer_bits_are_never_slower(core: str) -> None:
    """A register holds twice as many values of half the width."""
    rates = OPS_PER_CYCLE[core]
    ordered = [
        rates[precision]
        for precision in (Precision.FP32, Precision.BF16, Precision.INT8)
        if precision in rates
    ]
    assert ordered == sorted(ordered)
