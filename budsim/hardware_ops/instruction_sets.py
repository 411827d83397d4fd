"""Operations per cycle and instruction sets of processor cores, by micro-architecture."""

from __future__ import annotations

from collections.abc import Mapping

from budsim.commons.precision import Precision

# Dense operations (a multiply-add is two) per core and cycle by instruction set.
OPS_PER_CYCLE: Mapping[str, Mapping[Precision, int]] = {
    # Intel Optimization Manual: two 512 bit FMA ports (one in some Gold and Silver parts: ARK);
    # VNNI: 64 multiply-adds a port.
    "avx512": {Precision.FP32: 64},
    "avx512_1fma": {Precision.FP32: 32},
    "avx512_vnni_1fma": {Precision.FP32: 32, Precision.INT8: 128},
    "avx512_vnni": {Precision.FP32: 64, Precision.INT8: 256},
    # Intel Optimization Manual, chapter AMX: TDPBF16PS 16x16x32 in 16 cycles = 1024,
    # TDPBSSD 16x16x64 = 2048.
    "amx": {Precision.FP32: 64, Precision.BF16: 1024, Precision.INT8: 2048},
    # Intel Optimization Manual, Crestmont: two 128 bit FMA pipes, with VNNI.
    "avx2_crestmont": {Precision.FP32: 16, Precision.INT8: 64},
    # AMD Software Optimization Guides, families 17h model 30h (Zen 2) and 19h (Zen 3): two 256 bit
    # FMA pipes; no bf16, no VNNI.
    "avx2": {Precision.FP32: 32},
    # The same, Zen 4: 512 bit in two halves; VDPBF16PS one a cycle = 64 (measured 200-216 GFLOP/s
    # at 3.3 GHz), VPDPBUSD 128.
    "avx512_zen4": {Precision.FP32: 32, Precision.BF16: 64, Precision.INT8: 128},
    # AMD Software Optimization Guide, family 1Ah (Zen 5): full 512 bit pipes.
    "avx512_zen5": {Precision.FP32: 64, Precision.BF16: 128, Precision.INT8: 256},
    # Arm Neoverse N1 Optimization Guide: two 128 bit pipes; fp16 FMLA 32, SDOT 64. It has no bf16:
    # engines compute in fp16, whose rate stands here.
    "neon_n1": {Precision.FP32: 16, Precision.BF16: 32, Precision.INT8: 64},
    # Ampere-1A/1B as LLVM's scheduling model has them: two 128 bit pipes with BFMMLA and SMMLA.
    "neon_ampere1": {Precision.FP32: 16, Precision.BF16: 64, Precision.INT8: 128},
    # Arm Neoverse N2 Optimization Guide: two 128 bit SVE2 pipes with BFMMLA and SMMLA.
    "sve_n2": {Precision.FP32: 16, Precision.BF16: 64, Precision.INT8: 128},
    # Arm Neoverse V1 Optimization Guide: two 256 bit SVE pipes with BFMMLA and SMMLA.
    "sve_v1": {Precision.FP32: 32, Precision.BF16: 128, Precision.INT8: 256},
    # Arm Neoverse V2 Optimization Guide: four 128 bit pipes with BFMMLA and SMMLA.
    "sve_v2": {Precision.FP32: 32, Precision.BF16: 128, Precision.INT8: 256},
}

# Instruction sets as ``/proc/cpuinfo`` names them.
INSTRUCTION_SETS: Mapping[str, frozenset[str]] = {
    "avx512": frozenset({"avx2", "avx512f"}),
    "avx512_1fma": frozenset({"avx2", "avx512f"}),
    "avx512_vnni_1fma": frozenset({"avx2", "avx512f", "avx512_vnni"}),
    "avx512_vnni": frozenset({"avx2", "avx512f", "avx512_vnni"}),
    "amx": frozenset(
        {"avx2", "avx512f", "avx512_vnni", "avx512_bf16", "avx512_fp16", "amx_bf16", "amx_int8"}
    ),
    "avx2_crestmont": frozenset({"avx2", "avx_vnni"}),
    "avx2": frozenset({"avx2"}),
    "avx512_zen4": frozenset({"avx2", "avx512f", "avx512_vnni", "avx512_bf16"}),
    "avx512_zen5": frozenset({"avx2", "avx512f", "avx512_vnni", "avx512_bf16"}),
    "neon_n1": frozenset({"neon", "asimddp", "fphp"}),
    "neon_ampere1": frozenset({"neon", "asimddp", "fphp", "bf16", "i8mm"}),
    "sve_n2": frozenset({"neon", "sve", "sve2", "bf16", "i8mm"}),
    "sve_v1": frozenset({"neon", "sve", "bf16", "i8mm"}),
    "sve_v2": frozenset({"neon", "sve", "sve2", "bf16", "i8mm"}),
}
