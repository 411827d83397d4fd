"""The one interface every engine stands behind, and the values it speaks in."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Protocol

from budsim.commons.precision import Precision
from budsim.hardware_ops.device import Device, DeviceKind
from budsim.model_ops.architecture import Architecture

ArgumentValue = str | int | float | bool


class Stage(StrEnum):
    """When an engine acts: before candidates exist, as a candidate, or over replicas of candidates."""

    COMPRESS = "compress"
    SERVE = "serve"
    ROUTE = "route"


class Batching(StrEnum):
    """How an engine mixes prefill and decode in its steps."""

    MIXED = "mixed"
    PREFILL_FIRST = "prefill_first"
    STATIC = "static"


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineProfile:
    """What the performance model needs to know of an engine; also kept for engines we measure but do not launch.

    Attributes
    ----------
    name : str
        ``vllm``, ``sglang``, ``trtllm``, ``llama.cpp``...
    batching : Batching
        How prefill and decode share steps.
    token_budget : int
        Default tokens one step may process (``max_num_batched_tokens``, ``chunked_prefill_size``).
    max_sequences : int
        Default bound on running sequences.
    memory_fraction : float
        Default share of device memory the engine takes (0..1).
    reserved_bytes : float
        Memory outside that share's use for weights and cache: context, CUDA graphs, communication buffers.
    step_overhead_s : float
        Host time per step that the device waits for.
    block_tokens : int
        Tokens in one block of the KV cache.
    source : str
        Where the figures were read, with the version.
    """

    name: str
    batching: Batching
    token_budget: int
    max_sequences: int
    memory_fraction: float
    reserved_bytes: float
    step_overhead_s: float
    block_tokens: int
    source: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Knob:
    """One setting the search may turn.

    ``name`` is a field of `ReplicaConfig`, ``flag`` the engine's own spelling without dashes; ``values`` what is worth trying,
    ascending; ``kinds`` the hardware it exists on.
    """

    name: str
    flag: str
    values: tuple[ArgumentValue, ...]
    default: ArgumentValue
    kinds: frozenset[DeviceKind]


@dataclass(frozen=True, slots=True, kw_only=True)
class ReplicaConfig:
    """One way to run one replica, as an engine launches it.

    ``tp x pp`` devices; ``ep`` and ``dp`` are spread inside them (``ep`` = tp when experts are spread, ``dp`` attention ranks).
    ``concurrency`` is what this replica serves at a time, ``context_tokens`` the longest sequence it must hold.
    """

    device: Device
    tp: int
    weight_precision: Precision
    kv_precision: Precision
    concurrency: int
    context_tokens: int
    pp: int = 1
    ep: int = 1
    dp: int = 1
    memory_fraction: float = 0.9
    max_num_seqs: int = 256
    max_num_batched_tokens: int = 8192
    chunked_prefill: bool = True
    prefix_caching: bool = True
    kv_space_bytes: float = 0.0
    cores: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Launch:
    """What starts one replica: container image, environment, arguments (flag names without dashes), and the full command."""

    image: str
    command: tuple[str, ...]
    args: Mapping[str, ArgumentValue] = field(default_factory=dict)
    envs: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Metadata:
    """What callers deploy beside the command: parsers, template and what the engine can do with this family."""

    engine_version: str
    tool_calling_parser_type: str | None
    reasoning_parser_type: str | None
    architecture_family: str
    chat_template: str | None
    supports_lora: bool
    supports_pipeline_parallelism: bool


class Engine(Protocol):
    """A serving engine, compressor or router."""

    @property
    def name(self) -> str:
        """Name on the wire (``vllm``)."""
        ...

    @property
    def version(self) -> str:
        """Version the arguments were read from."""
        ...

    @property
    def stage(self) -> Stage:
        """When this engine acts."""
        ...


class ServingEngine(Engine, Protocol):
    """An engine that makes candidates."""

    def profile(self, kind: DeviceKind) -> EngineProfile:
        """Return what the performance model needs to know on hardware of ``kind``."""
        ...

    def why_not(self, architecture: Architecture, device: Device) -> str | None:
        """Return why this engine cannot serve the model on the device, or None when it can."""
        ...

    def precisions(self, architecture: Architecture, device: Device, *, may_quantize: bool) -> tuple[Precision, ...]:
        """Return the weight formats to try: the checkpoint's own, and with ``may_quantize`` what the device runs natively."""
        ...

    def kv_precisions(self, device: Device) -> tuple[Precision, ...]:
        """Return the KV cache formats to try, best quality first."""
        ...

    def tp_sizes(self, architecture: Architecture, devices: int) -> tuple[int, ...]:
        """Return the legal tensor-parallel sizes up to ``devices``, ascending."""
        ...

    def pp_sizes(self, architecture: Architecture, devices: int) -> tuple[int, ...]:
        """Return the legal pipeline-parallel sizes up to ``devices``, ascending; (1,) where the family has no support."""
        ...

    def knobs(self, kind: DeviceKind) -> tuple[Knob, ...]:
        """Return the settings the search may turn on hardware of ``kind``."""
        ...

    def launch(self, architecture: Architecture, config: ReplicaConfig) -> Launch:
        """Return what starts one replica; every argument exists in the engine's own parser."""
        ...

    def metadata(self, architecture: Architecture) -> Metadata:
        """Return what callers deploy beside the command."""
        ...
