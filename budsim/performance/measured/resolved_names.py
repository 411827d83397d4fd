"""Names in measured rows as models, devices, engines and formats."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from typing import Any, TypeVar

import numpy as np
import pandas as pd

from budsim.commons.errors import BudsimError, InvalidInput, NotFound
from budsim.commons.precision import Precision, bytes_per_value
from budsim.engine_ops import serving_engines
from budsim.engine_ops.engine_profile import EngineProfile, version_pair
from budsim.engine_ops.profiles import profile_for, profiles
from budsim.engine_ops.shared.formats import kv_precisions
from budsim.hardware_ops.device import Device, DeviceKind
from budsim.hardware_ops.device_names import find_device
from budsim.model_ops.architecture import Architecture
from budsim.model_ops.registry import resolve_model
from budsim.performance.candidates import Booleans

# Spellings of formats in the tables; a method such as AWQ stands for the format it stores.
PRECISIONS: dict[str, Precision] = {
    "fp32": Precision.FP32,
    "fp16": Precision.FP16,
    "float16": Precision.FP16,
    "bf16": Precision.BF16,
    "bfloat16": Precision.BF16,
    "fp8": Precision.FP8,
    "fp4": Precision.NVFP4,
    "nvfp4": Precision.NVFP4,
    "mxfp4": Precision.MXFP4,
    "int8": Precision.INT8,
    "w8a8": Precision.INT8,
    "gptq-int8": Precision.INT8,
    "int4": Precision.INT4,
    "uint4": Precision.INT4,
    "awq": Precision.INT4,
    "gptq": Precision.INT4,
    "gptq-int4": Precision.INT4,
    "q8_0": Precision.Q8_0,
    "q8r16": Precision.Q8R16,
    "q4_k_m": Precision.Q4_K_M,
    "q4_k_4": Precision.Q4_K_4,
}

# Engine, kind of hardware and start of the date, with the profile of the engine as it was then.
OF_A_YEAR = {
    ("vllm", DeviceKind.CUDA.value, "2023"): "vllm(2023)",
    ("vllm", DeviceKind.CUDA.value, "2024"): "vllm(2024)",
    ("vllm", DeviceKind.ROCM.value, "2024"): "vllm(rocm 2024)",
    ("trtllm", DeviceKind.CUDA.value, "2024"): "trtllm(2024)",
}

# vLLM has attention kernels of its own for ROCm since 0.6 (vllm-project/vllm#8310), before 2025.
FIRST_ROCM_KERNELS = (0, 6)

# TensorRT-LLM multiplied experts in blocks of FP8 on Blackwell by DeepGEMM before 1.2 (InferenceX's
# perf-changelog.yaml: "Change default MOE backend from DEEPGEMM to TRTLLM", with 1.2.0rc6). Rows
# without a version are older than that benchmark's first run with it.
BLOCK_MODELS = "DeepSeek|Qwen3"
LAST_DEEPGEMM, FIRST_WITHOUT_DEEPGEMM = (1, 1), "2026-01-29"

# vLLM parsed the chat template anew for every request in this release (see its profiles). Harmony
# renders the prompts of gpt-oss, without a template.
TEMPLATE_RELEASE = "0.11.0"

# vLLM's V1 engine is the usual one since 0.8, and schedules ahead by itself since 0.14.
FIRST_V1, FIRST_ASYNCHRONOUS = (0, 8), (0, 14)

WITHOUT_TEMPLATE = "gpt-oss"

# llama.cpp gives each sequence a cache of its own since pull request 14363 (July 2025, about build
# 5900).
SPLIT_CACHE_BUILD = 5900

# Ampere's builds: 3.4.0 does, 2.0.0 does not (its decode slows with the square of the batch). A
# bare commit has no date; those in public tables behave as 2.0.0.
SPLIT_CACHE_RELEASE = 3

# Usual engine of each kind of hardware, for rows that name none.
DEFAULT_ENGINES = {
    DeviceKind.CUDA: "vllm",
    DeviceKind.ROCM: "vllm",
    DeviceKind.HPU: "optimum-habana",
    DeviceKind.CPU: "vllm-cpu",
    DeviceKind.XPU: "vllm",
}
Value = TypeVar("Value")


def resolve_all(
    names: pd.Series, resolve: Callable[[str], Value], problems: pd.Series, field: str = ""
) -> list[Value]:
    """Resolve each distinct name once; a name that cannot be resolved is a problem of its rows."""
    codes, distinct = names.factorize()
    known: list[Any] = [_attempt(resolve, str(name), field) for name in distinct]
    reasons = np.array(
        [str(value) if isinstance(value, BudsimError) else "" for value in known], dtype=object
    )[codes]
    failed = (reasons != "") & (problems == "").to_numpy()
    problems[failed] = reasons[failed]
    return [known[code] for code in codes]


@lru_cache(maxsize=8192)
def _attempt(resolve: Callable[[str], object], name: str, field: str) -> object:
    """Return the meaning of a name, or the error. Cached, because long tables are read in parts."""
    try:
        return resolve(name)
    except KeyError:
        return InvalidInput(field, f"{name!r} is not known", "a known name")
    except BudsimError as error:
        return error


def engine_profile(name: str) -> EngineProfile | None:
    """Return the profile of an engine; None for a blank name."""
    return profiles()[name] if name else None


def engine_names(text: pd.DataFrame) -> pd.Series:
    """Return the names of engine profiles.

    llama.cpp on processors has a profile by version, other engines one by year where that matters.
    """
    version = text.engine_version
    build = pd.to_numeric(version.str.extract(r"_b(\d{4,})$")[0])
    release = pd.to_numeric(version.str.extract(r"_r(\d+)\.")[0])
    commit = version.str.contains(r"_[0-9a-f]{7}$") & build.isna()
    old = (build < SPLIT_CACHE_BUILD) | (release < SPLIT_CACHE_RELEASE) | commit
    on_processor = (text.engine == "llama.cpp") & (text.device_type == DeviceKind.CPU.value)
    named = text.engine.mask(on_processor, "llama.cpp-cpu").mask(
        on_processor & old, "llama.cpp-cpu(one cache)"
    )
    for (engine, kind, year), profile in OF_A_YEAR.items():
        named = named.mask(
            (text.engine == engine) & (text.device_type == kind) & text.date.str.startswith(year),
            profile,
        )
    named = named.mask((named == "vllm(rocm 2024)") & _has_rocm_kernels(version), "vllm(2024)")
    named = named.mask(_uses_deepgemm(text), "trtllm(deepgemm)")
    named = named.mask(_writes_awq_out(text), "sglang(awq written out)")
    named = named.mask(_is_synchronous(text) & (named == "vllm"), "vllm(synchronous)")
    return named.mask(
        _reads_templates(text) & (named == "vllm(synchronous)"), "vllm(chat templates)"
    )


def _writes_awq_out(text: pd.DataFrame) -> pd.Series:
    """Return which rows state a serve command of SGLang that keeps AWQ weights from Marlin."""
    asked = text.notes.str.contains(r"args:.*--quantization[= ]awq(?:\s|;|$)")
    return asked & (text.engine == "sglang") & (text.device_type == DeviceKind.CUDA.value)


def _is_synchronous(text: pd.DataFrame) -> pd.Series:
    """Return which rows state a serve command of vLLM that schedules without looking ahead.

    What rows without a command were started with, nobody knows.
    """
    versions = [version_pair(each) or (0, 0) for each in text.engine_version]
    early = [FIRST_V1 <= each < FIRST_ASYNCHRONOUS for each in versions]
    asked = text.notes.str.contains("args:") & ~text.notes.str.contains("--async-scheduling")
    return asked & np.array(early, dtype=bool) & (text.device_type == DeviceKind.CUDA.value)


def _reads_templates(text: pd.DataFrame) -> pd.Series:
    """Return which rows are of the release of vLLM that parsed chat templates for each request."""
    release = text.engine_version.str.removeprefix("v") == TEMPLATE_RELEASE
    on_gpu = text.device_type == DeviceKind.CUDA.value
    return release & on_gpu & ~text.model.str.contains(WITHOUT_TEMPLATE, regex=False)


def _has_rocm_kernels(versions: pd.Series) -> Booleans:
    """Return which versions of vLLM state that they have kernels of their own for ROCm."""
    found = [version_pair(each) for each in versions]
    return np.array([each is not None and each >= FIRST_ROCM_KERNELS for each in found], dtype=bool)


def _uses_deepgemm(text: pd.DataFrame) -> pd.Series:
    """Return which rows are of TensorRT-LLM with DeepGEMM's experts."""
    version = [version_pair(each) for each in text.engine_version]
    early = (text.date != "") & (text.date < FIRST_WITHOUT_DEEPGEMM)
    old = np.array([each is not None and each <= LAST_DEEPGEMM for each in version], dtype=bool)
    old |= (text.engine_version == "").to_numpy() & early.to_numpy()
    blocks = (text.precision == "fp8") & text.model.str.contains(BLOCK_MODELS)
    return (text.engine == "trtllm") & text.device_name.str.contains("B200|B300") & blocks & old


def profile_of(engine: EngineProfile | None, kind: DeviceKind) -> EngineProfile:
    """Return an engine's profile on a kind of hardware; the usual engine where none is named."""
    return profile_for(engine.name if engine else DEFAULT_ENGINES[kind], kind)


def model_of(name: str) -> Architecture:
    """Return the model of a Hugging Face id."""
    if not name:
        raise InvalidInput("model", "is blank", "a Hugging Face id")
    try:
        return resolve_model(name)
    except NotFound as error:
        raise NotFound("model", name, error.hint) from error


def device_of(name: str) -> Device:
    """Return the device of the catalog."""
    device = find_device(name) if name else None
    if device is None:
        raise InvalidInput(
            "device_name",
            f"{name!r} is an unknown device" if name else "is blank",
            "a device of `budsim devices`",
        )
    return device


def precision_of(name: str) -> Precision | None:
    """Return a format; None where a row leaves it to the model."""
    if name in ("", "unset", "auto", "nan"):
        return None
    found = PRECISIONS.get(name) or PRECISIONS.get(name.replace("_e4m3", "").replace("_e5m2", ""))
    if found is None:
        raise InvalidInput(
            "precision", f"{name!r} is not known", "one of " + ", ".join(sorted(PRECISIONS))
        )
    return found


def cache_format_of(name: str) -> Precision | None:
    """Return the format of a KV cache; None where a row leaves it to the engine."""
    try:
        return precision_of(name)
    except InvalidInput as error:
        raise InvalidInput("kv_cache_dtype", error.problem, error.expected) from error


def stored_format(
    stated: str, precision: Precision | None, model: Architecture, kind: DeviceKind
) -> Precision:
    """Return the format of the weights.

    A row that names none has the model's own. On accelerators 32 bit becomes 16, as engines do
    unless told otherwise (vLLM's ``--dtype auto``, Text Generation Inference). "fp4" means MXFP4
    for models published in it and on ROCm, else NVFP4.
    """
    if stated.lower() == "fp4" and (
        model.native_precision is Precision.MXFP4 or kind is DeviceKind.ROCM
    ):
        return Precision.MXFP4
    own = model.native_precision
    if own is Precision.FP32 and kind is not DeviceKind.CPU:
        own = Precision.FP16
    return precision or own


@lru_cache(maxsize=4096)
def automatic_cache(
    engine: str, model: Architecture, device: Device, weights: Precision | None = None
) -> Precision:
    """Return the format of a KV cache nobody states: narrow where the engine picks that by itself.

    vLLM and SGLang follow checkpoints that hold FP8 scales of the cache, as plans of ours do.
    Deployments of NVFP4 ``weights`` keep an FP8 cache: checkpoints of ModelOpt state it, and
    scripts of InferenceX ask for it on three engines. With 16 bit the TPOT of those rows was 7 to
    10 % too long.
    """
    if weights is Precision.NVFP4 and device.runs_natively(Precision.NVFP4):
        return Precision.FP8
    if engine not in serving_engines:
        return Precision.BF16
    picked = kv_precisions(engine, model, device)[0]
    return picked if bytes_per_value(picked) < bytes_per_value(Precision.BF16) else Precision.BF16
