"""How engines are told to keep KV cache in host memory."""

from __future__ import annotations

import pytest

from budsim.commons.units import GIB
from budsim.engine_ops import serving_engines
from budsim.engine_ops.base import ArgumentValue
from budsim.model_ops.registry import resolve_model
from tests.engine_ops.samples import real_arguments, replica


def arguments(engine: str, size_gib: float) -> dict[str, ArgumentValue]:
    """Return what starts Llama 8B on two H100."""
    model = resolve_model("meta-llama/Llama-3.1-8B-Instruct")
    config = replica("H100-SXM", tp=2, kv_offload_bytes=size_gib * GIB)
    return dict(serving_engines[engine].launch(model, config).args)


def test_vllm_is_told_gib_of_all_ranks() -> None:
    """One size for both devices, and its own connector."""
    stated = arguments("vllm", 300.0)
    assert stated["kv-offloading-size"] == 300.0
    assert stated["kv-offloading-backend"] == "native"


def test_sglang_is_told_gb_of_each_rank() -> None:
    """300 GiB are 322 GB: 161 for each of two devices."""
    stated = arguments("sglang", 300.0)
    assert stated["enable-hierarchical-cache"] is True
    assert stated["hicache-size"] == 161


@pytest.mark.parametrize("engine", ["vllm", "sglang"])
def test_without_host_memory_nothing_is_said(engine: str) -> None:
    """Engines keep nothing on the host by themselves."""
    assert not any("offload" in flag or "hi" in flag[:2] for flag in arguments(engine, 0.0))


@pytest.mark.parametrize("engine", ["vllm", "sglang"])
def test_every_flag_is_one_of_the_parser(engine: str) -> None:
    """The engine's own list has it."""
    assert set(arguments(engine, 300.0)) <= real_arguments(engine).keys()
