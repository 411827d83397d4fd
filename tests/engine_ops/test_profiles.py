"""Profiles of launched and merely measured engines."""

from __future__ import annotations

import csv
from pathlib import Path

import pytest

from budsim.commons.errors import NotFound
from budsim.engine_ops import serving_engines
from budsim.engine_ops.engine_profile import Batching
from budsim.engine_ops.profiles import profile_for, profiles
from budsim.hardware_ops.catalog import devices
from budsim.hardware_ops.device import DeviceKind


def test_every_profile_is_filed_under_its_name_and_within_reason() -> None:
    """Shares are shares, bounds are positive, and each says where it was read."""
    for name, profile in profiles().items():
        assert profile.name == name
        assert 0.0 < profile.memory_fraction <= 1.0
        assert min(profile.max_num_batched_tokens, profile.max_num_seqs, profile.block_tokens) >= 1
        assert profile.step_overhead_s > 0.0 <= profile.memory.context_bytes
        assert profile.source
        assert profile.memory.source


def test_every_launched_engine_has_a_profile() -> None:
    """On every kind of hardware."""
    for name in serving_engines:
        for kind in DeviceKind:
            assert profile_for(name, kind).max_num_batched_tokens >= 1


def test_vllm_mixes_and_sglang_prefills_first() -> None:
    """Their defaults differ in how a step is filled."""
    assert profile_for("vllm", DeviceKind.CUDA).batching is Batching.MIXED
    assert profile_for("sglang", DeviceKind.CUDA).batching is Batching.PREFILL_FIRST
    assert profile_for("optimum-habana", DeviceKind.HPU).batching is Batching.STATIC


def test_an_unknown_engine_is_answered_with_the_known_ones() -> None:
    """The message lists what there is."""
    with pytest.raises(NotFound, match="sglang"):
        profile_for("no-such-engine", DeviceKind.CUDA)


def test_every_measured_engine_has_a_profile(shared_data: Path) -> None:
    """Each name in the measurements' engine column is known."""
    with (shared_data / "measurements.csv").open(encoding="utf-8", newline="") as file:
        measured = {row["engine"] for row in csv.DictReader(file)}
    assert measured - {""} <= set(profiles())


def test_small_devices_get_smaller_steps_by_default() -> None:
    """A vLLM step takes 8,192 tokens on an H100 and 2,048 on an L40S or any A100.

    An SGLang step takes 4,096 on an L40S.
    """
    vllm, sglang = profiles()["vllm"], profiles()["sglang"]
    limits = {
        name: vllm.limits_on(devices()[name])[0] for name in ("H100-SXM", "L40S", "A100-80GB")
    }
    assert limits == {"H100-SXM": 8192, "L40S": 2048, "A100-80GB": 2048}
    assert sglang.limits_on(devices()["L40S"]) == (4096, sglang.max_num_seqs)
