"""The one interface every engine stands behind, and the values it speaks in."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Protocol

from budsim.commons.precision import Precision
from budsim.engine_ops.memory_rules import MemoryRule
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


class Attended(StrEnum):
    """Which cached tokens an engine's attention multiplies, needed or masked.

    ``PAST``: those before the token. ``STEP``: also the rest of its prompt in the same step, masked. ``CACHE``: the whole cache,
    other sequences too.
    """

    PAST = "past"
    STEP = "step"
    CACHE = "cache"


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
    memory : MemoryRule
        What that fraction is a share of, and what else it has to hold.
    step_overhead_s : float
        Host time per step that the device waits for.
    sequence_overhead_s : float
        The same for each running sequence.
    block_tokens : int
        Tokens in one block of the KV cache.
    source : str
        Where the figures were read, with the version.
    attended : Attended
        Which cached tokens attention multiplies.
    cache_is_stated : bool
        Whether the KV cache is a size one states, not what is left of the memory.
    small_limits : (bytes, generations, tokens, sequences), optional
        Devices with less memory than ``bytes``, or of these generations, get these tokens and sequences by default instead.
    """

    name: str
    batching: Batching
    token_budget: int
    max_sequences: int
    memory_fraction: float
    memory: MemoryRule
    step_overhead_s: float
    block_tokens: int
    source: str
    sequence_overhead_s: float = 0.0
    attended: Attended = Attended.PAST
    cache_is_stated: bool = False
    small_limits: tuple[float, frozenset[str], int, int] | None = None

    def limits_on(self, device: Device) -> tuple[int, int]:
        """Return the tokens of a step and the running sequences the engine allows on a device unless told otherwise."""
        if self.small_limits is None:
            return self.token_budget, self.max_sequences
        enough_bytes, generations, tokens, sequences = self.small_limits
        small = device.memory_bytes < enough_bytes or device.generation in generations
        return (tokens, sequences) if small else (self.token_budget, self.max_sequences)


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
    ``concurrency`` is what this replica serves at a time, ``context_tokens`` the longest sequence it must hold; ``max_num_seqs``
    and ``max_num_batched_tokens`` bound each attention rank; ``max_loras`` adapters of at most ``max_lora_rank`` are served at a
    time, 0 for none.
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
    max_loras: int = 0
    max_lora_rank: int = 16


@dataclass(frozen=True, slots=True, kw_only=True)
class Launch:
    """What starts one replica: container image, environment, arguments (flag names without dashes), and the full command.

    ``model`` is what the engine loads: the checkpoint, or the quantized one made of it.
    """

    image: str
    model: str
    command: tuple[str, ...]
    args: Mapping[str, ArgumentValue] = field(default_factory=dict)
    envs: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Seat:
    """Where one process of a replica runs, beside others of its own replica and of others.

    Attributes
    ----------
    port : int
        Where it listens for requests.
    nodes : int
        How many such processes the replica has; 1 where it is not spread over nodes.
    rank : int or str
        Which of them this is, from 0; or a variable like ``$(LWS_WORKER_INDEX)`` that becomes a number where it runs.
    leader : str
        Address of the process of rank 0, or a variable that becomes it.
    rendezvous_port : int
        Where the processes of one replica meet, on the leader's address.
    cores : tuple of str
        Core ranges of the ranks in this process (CPU only), empty where they are not known.
    """

    port: int
    nodes: int = 1
    rank: int | str = 0
    leader: str = "127.0.0.1"
    rendezvous_port: int = 29500
    cores: tuple[str, ...] = ()


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

    def precisions(
        self, architecture: Architecture, device: Device, *, may_quantize: bool
    ) -> tuple[Precision, ...]:
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

    def ep_sizes(self, architecture: Architecture, tp: int) -> tuple[int, ...]:
        """Return over how many of ``tp`` ranks experts may be spread, ascending: 1 (each is split), ``tp``, or only one of these.

        Never empty for a size of `tp_sizes`.
        """
        ...

    def dp_sizes(self, architecture: Architecture, tp: int) -> tuple[int, ...]:
        """Return the legal numbers of attention ranks inside a group of ``tp`` devices, ascending; (1,) for dense models."""
        ...

    def knobs(self, kind: DeviceKind) -> tuple[Knob, ...]:
        """Return the settings the search may turn on hardware of ``kind``."""
        ...

    def launch(self, architecture: Architecture, config: ReplicaConfig) -> Launch:
        """Return what starts one replica; every argument exists in the engine's own parser."""
        ...

    def adapters(self, count: int, rank: int) -> Mapping[str, ArgumentValue]:
        """Return the arguments that let ``count`` LoRA adapters of at most ``rank`` be served at a time.

        Raises
        ------
        InvalidInput
            Fewer than one, or a rank the engine has no kernels for.
        """
        ...

    @property
    def port(self) -> int:
        """Port the engine listens on unless told otherwise; it answers ``GET /health`` there once it can serve."""
        ...

    def seat(self, launch: Launch, seat: Seat) -> Launch:
        """Return the part of a replica that runs at ``seat``: its port, its place among nodes, its cores.

        The command is made anew of ``launch.model`` and ``launch.args``, which are checked again: they may come from a file.

        Raises
        ------
        InvalidInput
            An argument the engine's parser would not take.
        """
        ...

    def metadata(self, architecture: Architecture) -> Metadata:
        """Return what callers deploy beside the command."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class RouteTarget:
    """One replica a router may send requests to: its address and its share of the deployment's speed (any positive scale)."""

    api_base: str
    engine: str
    weight: float
    tokens_per_min: int | None = None
    requests_per_min: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ProviderPrice:
    """What a provider's model costs; its latency is unknown and stays so.

    ``input_usd_per_token`` and ``output_usd_per_token`` are USD; ``source`` names the table, its version and date.
    """

    model: str
    provider: str
    input_usd_per_token: float
    output_usd_per_token: float
    max_input_tokens: int
    max_output_tokens: int
    source: str

    def usd_per_million_output_tokens(self, input_tokens: float, output_tokens: float) -> float:
        """Return what a million generated tokens cost in USD when every request also sends ``input_tokens``."""
        request_usd = (
            input_tokens * self.input_usd_per_token + output_tokens * self.output_usd_per_token
        )
        return request_usd / output_tokens * 1e6


@dataclass(frozen=True, slots=True, kw_only=True)
class CompressionJob:
    """One way to quantize a checkpoint: what is served afterwards, what the job needs, and its recipe.

    ``device_bytes`` and ``host_bytes`` are peaks on one accelerator and its host; ``hours`` is wall time on one accelerator.
    """

    scheme: str
    method: str
    precision: Precision
    kv_precision: Precision
    device_bytes: float
    host_bytes: float
    hours: float
    cost_usd: float
    recipe_yaml: str


class Router(Engine, Protocol):
    """An engine that spreads requests over replicas, or calls a provider."""

    def proxy_config(
        self,
        model_name: str,
        targets: Sequence[RouteTarget],
        *,
        strategy: str,
        fallbacks: Sequence[str] = (),
    ) -> Mapping[str, object]:
        """Return the router's configuration for replicas of one model; ``fallbacks`` are provider models tried when all fail."""
        ...

    def provider_config(self, model: str, *, fallbacks: Sequence[str] = ()) -> Mapping[str, object]:
        """Return the router's configuration for a provider's model."""
        ...

    def price(self, model: str) -> ProviderPrice:
        """Return what a provider's model costs."""
        ...


class Compressor(Engine, Protocol):
    """An engine that changes a model's precision before candidates exist."""

    def why_not(self, architecture: Architecture, device: Device, scheme: str) -> str | None:
        """Return why quantizing the model to ``scheme`` for the device is of no use, or None when it is."""
        ...

    def schemes(self, device: Device) -> tuple[str, ...]:
        """Return the schemes whose format the device multiplies natively, or stores in less memory."""
        ...

    def job(
        self,
        architecture: Architecture,
        scheme: str,
        *,
        device: Device,
        method: str | None = None,
        kv8: bool = False,
    ) -> CompressionJob:
        """Size the job that quantizes the model on one ``device`` and write its recipe."""
        ...
