"""Names become models, devices, engines and formats."""

from __future__ import annotations

import pytest

from budsim.commons.precision import Precision
from budsim.engine_ops.profiles import profiles
from budsim.hardware_ops.catalog import devices
from budsim.model_ops.registry import resolve_model
from budsim.performance.measured.resolved_names import automatic_cache
from budsim.performance.physics.ranks import prepare
from budsim.performance.predictor import AnalyticPredictor
from tests.performance.measured.measured_rows import read

PROCESSOR = {
    "device_type": "cpu",
    "device_name": "m7i.24xlarge",
    "engine": "llama.cpp",
    "model_hf": "meta-llama/Llama-3.2-1B-Instruct",
}


def test_four_bits_are_those_of_the_model_or_the_maker() -> None:
    """gpt-oss in "fp4" is in its own MXFP4.

    Another model is in NVFP4 on NVIDIA's devices and in MXFP4 on AMD's.
    """
    stated = {"precision": "fp4", "source": "inferencex"}
    table = read(
        {**stated, "model_hf": "openai/gpt-oss-120b"},
        stated,
        {**stated, "device_name": "MI355X", "device_type": "rocm"},
    ).candidates
    assert [table.precisions[code].value for code in table.weight_precision] == [
        "mxfp4",
        "nvfp4",
        "mxfp4",
    ]


@pytest.mark.parametrize(
    ("kind", "device", "engine", "date", "profile"),
    [
        ("rocm", "MI300X", "vllm", "2024", "vllm(rocm 2024)"),
        ("cuda", "H100-SXM", "vllm", "2024-11", "vllm(2024)"),
        ("cuda", "H100-SXM", "vllm", "2023", "vllm(2023)"),
        ("cuda", "H100-SXM", "trtllm", "2024", "trtllm(2024)"),
    ],
)
def test_an_engine_of_an_early_year_is_another_engine(
    kind: str, device: str, engine: str, date: str, profile: str
) -> None:
    """Its host kept the device waiting, or it had no kernels of its own there.

    Slower than today's, which a later date means.
    """
    row = {
        "device_type": kind,
        "device_name": device,
        "engine": engine,
        "tp": "1",
        "n_devices": "1",
        "precision": "bf16",
    }
    old, new = (read({**row, "date": each}) for each in (date, "2025-05-15"))
    assert [each.candidates.engines[0].name for each in (old, new)] == [profile, engine]
    slow, fast = (
        AnalyticPredictor().predict(each.candidates)[1].service.tpot_s[0] for each in (old, new)
    )
    assert slow > 1.01 * fast


def test_vllm_has_kernels_for_rocm_since_a_version() -> None:
    """0.5.4 and an unknown version of 2024 had none, 0.6.3 of that year had."""
    row = {"device_type": "rocm", "device_name": "MI300X", "engine": "vllm", "date": "2024-11-22"}
    found = [
        read({**row, "engine_version": each}).candidates.engines[0].name
        for each in ("", "0.5.4", "0.6.3")
    ]
    assert found == ["vllm(rocm 2024)", "vllm(rocm 2024)", "vllm(2024)"]


@pytest.mark.parametrize(
    ("version", "model", "waits"),
    [
        ("0.11.0", "Qwen/Qwen3-14B", True),
        ("0.11.2", "Qwen/Qwen3-14B", False),
        ("0.11.0", "openai/gpt-oss-20b", False),
    ],
)
def test_one_release_of_vllm_read_chat_templates_anew(
    version: str, model: str, waits: bool
) -> None:
    """A thousand requests at once then waited 8 s for that; gpt-oss has no template."""
    row = {"engine": "vllm", "engine_version": version, "model_hf": model, "model": model}
    served = {**row, "device_name": "H100-SXM", "notes": "args: vllm serve"}
    host = read(served).candidates.engines[0].first_token
    assert host is not None
    assert 1000 * host.burst_s == (8.0 if waits else 0.0)


@pytest.mark.parametrize(
    ("version", "notes", "profile"),
    [
        ("0.10.2", "args: vllm serve", "vllm(synchronous)"),
        ("0.10.2", "args: vllm serve --async-scheduling", "vllm"),
        ("0.10.2", "no command", "vllm"),
        ("0.14.0", "args: vllm serve", "vllm"),
    ],
)
def test_vllm_schedules_ahead_by_a_flag_and_since_0_14_by_itself(
    version: str, notes: str, profile: str
) -> None:
    """Else a step of 256 sequences takes its host 4.6 ms longer."""
    row = {"engine": "vllm", "engine_version": version, "device_name": "A100-80GB"}
    engine = read({**row, "model_hf": "Qwen/Qwen3-14B", "notes": notes}).candidates.engines[0]
    assert engine.name == profile
    longer_s = 256 * (engine.sequence_overhead_s - profiles()["vllm"].sequence_overhead_s)
    assert 1000 * longer_s == pytest.approx(0.0 if profile == "vllm" else 4.6, abs=0.1)


def test_sglang_told_to_take_its_awq_kernels_writes_weights_out_before_every_product() -> None:
    """Qwen2.5-7B on L4: 120.0 ms a token were measured (inference-bench), and 23 on vLLM.

    A step reads 3 GB, writes 13 GB, and reads them and the head (1 GB): 30 GB at 250 GB/s. Marlin
    reads 3 and 1 GB.
    """
    row = {"engine": "sglang", "engine_version": "0.4.6", "device_name": "L4", "tp": 1}
    row |= {"model_hf": "Qwen/Qwen2.5-7B-Instruct", "precision": "awq"}
    table = read(
        {**row, "notes": "args: --quantization awq --disable-cuda-graph; derived"},
        {**row, "notes": "args: --quantization awq_marlin --disable-cuda-graph"},
    ).candidates
    assert [each.name for each in table.engines] == ["sglang(awq written out)", "sglang"]
    held = prepare(table)
    assert held.matrices.read_bytes.sum(axis=1) == pytest.approx([14e9, 4.6e9], rel=0.05)
    assert held.matrices.written_out_bytes.sum(axis=1) == pytest.approx([16.5e9, 0.0], rel=0.05)


@pytest.mark.parametrize(
    ("version", "date", "profile"),
    [
        ("1.1.0rc2.post2", "2026-01-05", "trtllm(deepgemm)"),
        ("1.2.0rc6.post2", "2026-01-05", "trtllm"),
        ("", "2025-12-10", "trtllm(deepgemm)"),
        ("", "2026-02-10", "trtllm"),
        ("", "", "trtllm"),
    ],
)
def test_experts_in_blocks_were_slower_before_tensorrt_llm_1_2(
    version: str, date: str, profile: str
) -> None:
    """DeepGEMM multiplied them on Blackwell; without a version the date says so."""
    row = {
        "device_name": "B200-SXM",
        "engine": "trtllm",
        "model_hf": "deepseek-ai/DeepSeek-R1",
        "model": "DeepSeek-R1",
        "precision": "fp8",
        "engine_version": version,
        "date": date,
    }
    assert read(row).candidates.engines[0].name == profile


@pytest.mark.parametrize(
    ("version", "profile"),
    [
        ("", "llama.cpp-cpu"),
        ("llama.cpp_b6500", "llama.cpp-cpu"),
        ("ampere_optimized_llama.cpp_r3.4.0", "llama.cpp-cpu"),
        ("llama.cpp_b3615", "llama.cpp-cpu(one cache)"),
        ("ampere_optimized_llama.cpp_r2.0.0", "llama.cpp-cpu(one cache)"),
        ("llama.cpp_ea02c75", "llama.cpp-cpu(one cache)"),
    ],
)
def test_versions_tell_whether_sequences_share_a_cache(version: str, profile: str) -> None:
    """Builds before July 2025 keep all sequences in one cache.

    On an accelerator the version does not matter.
    """
    assert read({**PROCESSOR, "engine_version": version}).candidates.engines[0].name == profile
    assert (
        read({"engine": "llama.cpp", "engine_version": version}).candidates.engines[0].name
        == "llama.cpp"
    )


@pytest.mark.parametrize(
    ("engine", "model", "cache"),
    [
        ("vllm", "nvidia/Llama-3.1-70B-Instruct-FP8", Precision.FP8),
        ("vllm", "meta-llama/Llama-3.1-70B-Instruct", Precision.BF16),
        ("trtllm", "nvidia/Llama-3.1-70B-Instruct-FP8", Precision.BF16),
    ],
)
def test_a_cache_nobody_states_is_what_the_engine_picks(
    engine: str, model: str, cache: Precision
) -> None:
    """An engine follows checkpoints with FP8 scales of the cache, as its plans do."""
    assert automatic_cache(engine, resolve_model(model), devices()["H100-SXM"]) is cache


@pytest.mark.parametrize("engine", ["vllm", "sglang", "trtllm"])
def test_deployments_in_nvfp4_keep_an_fp8_cache(engine: str) -> None:
    """Where nobody states the cache: checkpoints in NVFP4 hold its scales, or recipes ask for it.

    Weights in FP8 say nothing of it, and devices without NVFP4 kernels unpack it to 16 bit.
    """
    model = resolve_model("MiniMaxAI/MiniMax-M2.5")
    on_b200, on_h100 = devices()["B200-SXM"], devices()["H100-SXM"]
    assert automatic_cache(engine, model, on_b200, Precision.NVFP4) is Precision.FP8
    assert automatic_cache(engine, model, on_b200, Precision.FP8) is Precision.BF16
    assert automatic_cache(engine, model, on_h100, Precision.NVFP4) is Precision.BF16
