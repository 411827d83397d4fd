"""Kernels: what a device must have, and how a format runs on it."""

from __future__ import annotations

import pytest

from budsim.commons.precision import Precision
from budsim.engine_ops.shared.kernels import (
    Mode,
    Requirement,
    compute_capability,
    kv_formats,
    native_precisions,
    weight_mode,
)
from tests.engine_ops.samples import device


@pytest.mark.parametrize(
    ("name", "capability"), [("H100-SXM", 90), ("T4", 75), ("B200-SXM", 100), ("MI300X", 0)]
)
def test_the_compute_capability_is_read_from_the_generation(name: str, capability: int) -> None:
    """sm90 is 90; hardware of others has none."""
    assert compute_capability(device(name)) == capability


def test_a_requirement_holds_by_capability_generation_and_instructions() -> None:
    """Each field that is set must be met; an empty one asks for nothing."""
    assert Requirement().met_by(device("T4"))
    assert not Requirement(min_sm=80).met_by(device("T4"))
    assert not Requirement(max_sm=89).met_by(device("H100-SXM"))
    assert Requirement(generations=frozenset({"gfx942"})).met_by(device("MI300X"))
    assert not Requirement(instruction_sets=frozenset({"amx_bf16"})).met_by(device("EPYC 7713"))


def test_sglang_reads_mxfp4_on_amds_gfx95_alone() -> None:
    """SGLang 0.5.23 does not register the method on MI300X: gpt-oss stops as the server starts."""
    modes = [weight_mode("sglang", device(name), Precision.MXFP4) for name in ("MI355X", "MI300X")]
    assert modes == [Mode.NATIVE, None]
    assert weight_mode("vllm", device("MI300X"), Precision.MXFP4) is Mode.WEIGHT_ONLY


def test_a_format_is_multiplied_natively_or_unpacked() -> None:
    """FP8 is native from Ada on, unpacked on Ampere, absent on Turing."""
    modes = [weight_mode("vllm", device(name), Precision.FP8) for name in ("L4", "A100-80GB", "T4")]
    assert modes == [Mode.NATIVE, Mode.WEIGHT_ONLY, None]
    assert Precision.FP8 in native_precisions("vllm", device("L4"))


def test_engines_spell_the_cache_format_differently() -> None:
    """VLLM says fp8, SGLang fp8_e4m3."""
    spelled = [
        kv_formats(engine, device("H100-SXM"))[Precision.FP8] for engine in ("vllm", "sglang")
    ]
    assert spelled == ["fp8", "fp8_e4m3"]
