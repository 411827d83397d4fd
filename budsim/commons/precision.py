"""Number formats: the bits a stored value takes, and the format the hardware multiplies it in."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Precision(StrEnum):
    """Names of the number formats weights, activations and KV caches are stored in."""

    FP32 = "fp32"
    BF16 = "bf16"
    FP16 = "fp16"
    FP8 = "fp8"
    INT8 = "int8"
    INT4 = "int4"
    NVFP4 = "nvfp4"
    MXFP4 = "mxfp4"
    Q8_0 = "q8_0"
    Q6_K = "q6_k"
    Q4_K_M = "q4_k_m"
    Q4_K_4 = "q4_k_4"
    Q8R16 = "q8r16"


@dataclass(frozen=True, slots=True, kw_only=True)
class Format:
    """One number format.

    Attributes
    ----------
    bits : float
        Bits per stored value with its share of scales and zero points.
    compute : Precision
        Format of the multiplication when activations are quantized as the format's usual kernels
        quantize them. Weight-only formats multiply in 16 bit, llama.cpp's blocks in kernels of
        their own.
    source : str
        Where the figure comes from.
    outer : Precision or None
        Format of embeddings and head where the quantizer does not leave them in 16 bit.
    """

    bits: float
    compute: Precision
    source: str
    outer: Precision | None = None


FORMATS: dict[Precision, Format] = {
    Precision.FP32: Format(bits=32, compute=Precision.FP32, source="IEEE 754"),
    Precision.BF16: Format(bits=16, compute=Precision.BF16, source="bfloat16: 1+8+7 bits"),
    Precision.FP16: Format(
        bits=16,
        compute=Precision.BF16,
        source="IEEE 754; same rate as bf16 on every catalog device",
    ),
    Precision.FP8: Format(
        bits=8, compute=Precision.FP8, source="OCP OFP8 1.0; per-tensor or 128-block scales < 0.3 %"
    ),
    Precision.INT8: Format(bits=8, compute=Precision.INT8, source="W8A8 with a scale per channel"),
    Precision.INT4: Format(
        bits=4.25, compute=Precision.BF16, source="GPTQ/AWQ, groups of 128: 4 + (16 + 16)/128 bits"
    ),
    Precision.NVFP4: Format(
        bits=4.5, compute=Precision.NVFP4, source="NVFP4: an 8 bit scale for 16 values"
    ),
    Precision.MXFP4: Format(
        bits=4.25, compute=Precision.MXFP4, source="OCP MX 1.0: an 8 bit scale for 32 values"
    ),
    Precision.Q8_0: Format(
        bits=8.5,
        compute=Precision.Q8_0,
        outer=Precision.Q8_0,
        source="llama.cpp ggml-common.h block_q8_0: 34 bytes for 32",
    ),
    Precision.Q6_K: Format(
        bits=6.5625,
        compute=Precision.Q6_K,
        source="llama.cpp ggml-common.h block_q6_K: 210 bytes for 256",
    ),
    Precision.Q4_K_M: Format(
        bits=4.8,
        compute=Precision.Q4_K_M,
        outer=Precision.Q6_K,
        source="llama.cpp llama-quant.cpp: Q4_K (144 bytes for 256), half of value and down "
        "projections and the head Q6_K; 4.8 without the head makes the 4.92 GB of Llama-3.1-8B",
    ),
    Precision.Q4_K_4: Format(
        bits=4.8,
        compute=Precision.Q4_K_4,
        outer=Precision.Q6_K,
        source="Ampere's repacked Q4_K; size as Q4_K_M",
    ),
    Precision.Q8R16: Format(
        bits=8.5,
        compute=Precision.Q8R16,
        outer=Precision.Q8R16,
        source="Ampere's repacked Q8; size as Q8_0",
    ),
}


def bytes_per_value(precision: Precision) -> float:
    """Return the bytes one stored value takes, scales included."""
    return FORMATS[precision].bits / 8


def compute_format(precision: Precision) -> Precision:
    """Return the format the arithmetic unit multiplies in for values stored as ``precision``."""
    return FORMATS[precision].compute
