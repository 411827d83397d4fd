"""Engines that are measured and not launched."""

from __future__ import annotations

from budsim.engine_ops import measured_only, serving_engines
from budsim.engine_ops.engine_profile import AttendedTokens, Batching
from budsim.engine_ops.profiles import profile_for
from budsim.hardware_ops.device import DeviceKind


def test_no_name_is_that_of_a_launched_engine_and_none_is_there_twice() -> None:
    """Names of profiles are keys: each belongs to one engine."""
    launched = {profile.name for engine in serving_engines.values() for profile in engine.profiles}
    names = [profile.name for profile in measured_only.PROFILES]
    assert len(set(names)) == len(names)
    assert not launched & set(names)


def test_llama_cpp_works_differently_on_processors() -> None:
    """Its steps are smaller there, and masked positions are multiplied too."""
    on_cpu = profile_for("llama.cpp", DeviceKind.CPU)
    assert (on_cpu.max_num_batched_tokens, on_cpu.attended) == (512, AttendedTokens.STEP)
    assert profile_for("llama.cpp", DeviceKind.CUDA).max_num_batched_tokens == 2048


def test_programs_of_one_static_batch_say_so() -> None:
    """They prefill everything and decode in step."""
    static = [p.name for p in measured_only.PROFILES if p.batching is Batching.STATIC]
    assert {"pytorch", "optimum-habana", "sambaflow"} <= set(static)
