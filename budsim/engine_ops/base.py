"""The one interface every engine implements, and the values it takes and returns."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Protocol

from budsim.commons.precision import Precision
from budsim.engine_ops.engine_profile import EngineProfile
from budsim.engine_ops.kv_store import KvStore
from budsim.engine_ops.limits import (
    DEFAULT_MAX_LORA_RANK,
    DEFAULT_MAX_NUM_BATCHED_TOKENS,
    DEFAULT_MAX_NUM_SEQS,
    DEFAULT_MEMORY_FRACTION,
)
from budsim.engine_ops.memory_rule import VersionedRules
from budsim.engine_ops.metrics import ServerMetrics
from budsim.engine_ops.pool_router import PoolRouter
from budsim.hardware_ops.device import Device, DeviceKind
from budsim.model_ops.architecture import Architecture
from budsim.model_ops.media import TEXT_ONLY, Media

ArgumentValue = str | int | float | bool


class Stage(StrEnum):
    """When an engine acts: before candidates exist, as a candidate, or over replicas."""

    COMPRESS = "compress"
    SERVE = "serve"
    ROUTE = "route"


@dataclass(frozen=True, slots=True, kw_only=True)
class Knob:
    """One setting the search turns.

    ``name`` is a field of `ReplicaConfig`, ``flag`` the engine's own spelling without dashes;
    ``values`` what is worth trying, ascending; ``kinds`` the hardware it exists on.
    """

    name: str
    flag: str
    values: tuple[ArgumentValue, ...]
    default: ArgumentValue
    kinds: frozenset[DeviceKind]


@dataclass(frozen=True, slots=True, kw_only=True)
class Drafting:
    """How a replica guesses tokens ahead.

    ``method`` is ``mtp``, ``eagle3``, ``draft_model`` or ``ngram``; ``tokens`` are guessed for each
    step; ``model`` is what guesses, empty where the checkpoint or the text so far does.
    """

    method: str
    tokens: int
    model: str = ""


class PoolRole(StrEnum):
    """Which part of a request a replica serves.

    ``WHOLE``: all of it. ``PREFILL``: it reads the prompt and hands on the KV cache. ``DECODE``: it
    takes over the cache and generates.
    """

    WHOLE = "whole"
    PREFILL = "prefill"
    DECODE = "decode"


@dataclass(frozen=True, slots=True, kw_only=True)
class ReplicaConfig:
    """One way to run one replica, as an engine launches it.

    Attributes
    ----------
    tp, pp : int
        The replica has ``tp x pp`` devices.
    ep, dp : int
        Spread inside them: ``ep`` = tp when experts are spread, ``dp`` attention ranks.
    concurrency : int
        Requests this replica serves at a time.
    context_tokens : int
        The longest sequence it must hold.
    max_num_seqs, max_num_batched_tokens : int
        Bounds of each attention rank.
    max_loras, max_lora_rank : int
        Adapters served at a time, 0 for none, and the largest rank of one.
    drafting : Drafting, optional
        How tokens are guessed ahead; None where they are not.
    role : PoolRole
        Part of each request that the replica serves.
    from_stages : bool
        Whether caches are handed over from the stages of pipelines; both pools are told.
    kv_space_bytes : float
        KV cache of one CPU rank, bytes; 0 on accelerators.
    cores : int
        Physical cores of one CPU rank; 0 where they are not known.
    media : Media
        Images, video and audio one request holds at most.
    kv_offload_bytes : float
        Host memory of all devices' KV cache, bytes; 0: none.
    kv_store : KvStore, optional
        Store of KV cache that all replicas share.
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
    memory_fraction: float = DEFAULT_MEMORY_FRACTION
    max_num_seqs: int = DEFAULT_MAX_NUM_SEQS
    max_num_batched_tokens: int = DEFAULT_MAX_NUM_BATCHED_TOKENS
    chunked_prefill: bool = True
    prefix_caching: bool = True
    kv_space_bytes: float = 0.0
    cores: int = 0
    max_loras: int = 0
    max_lora_rank: int = DEFAULT_MAX_LORA_RANK
    drafting: Drafting | None = None
    media: Media = TEXT_ONLY
    kv_offload_bytes: float = 0.0
    kv_store: KvStore | None = None
    role: PoolRole = PoolRole.WHOLE
    from_stages: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Launch:
    """What starts one replica: image, environment, arguments and the full command.

    ``args`` are flag names without dashes. ``model`` is what the engine loads: the checkpoint, or
    the quantized one made of it.
    """

    image: str
    model: str
    command: tuple[str, ...]
    args: Mapping[str, ArgumentValue] = field(default_factory=dict)
    envs: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class ReplicaProcess:
    """Where one process of a replica runs, beside the replica's other processes.

    Attributes
    ----------
    port : int
        Where it listens for requests.
    nodes : int
        How many such processes the replica has; 1 where it is not spread over nodes.
    rank : int or str
        Which of them this is, from 0; or a variable like ``$(LWS_WORKER_INDEX)`` that becomes a
        number where it runs.
    leader : str
        Address of the process of rank 0, or a variable that becomes it.
    rendezvous_port : int
        Where the processes of one replica meet, on the leader's address.
    cores : tuple of str
        Core ranges of the ranks in this process (CPU only), empty where they are not known.
    address : str
        Where workers of another pool reach it, or a variable that becomes it.
    """

    port: int
    nodes: int = 1
    rank: int | str = 0
    leader: str = "127.0.0.1"
    rendezvous_port: int = 29500
    cores: tuple[str, ...] = ()
    address: str = "127.0.0.1"


@dataclass(frozen=True, slots=True, kw_only=True)
class Metadata:
    """What callers deploy beside the command: parsers, template and the family's abilities."""

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

    @property
    def port(self) -> int:
        """Port it listens on unless told otherwise.

        It answers ``GET /health`` there as soon as it can serve.
        """
        ...

    @property
    def metrics(self) -> ServerMetrics:
        """What its running server exports to Prometheus."""
        ...

    @property
    def profiles(self) -> tuple[EngineProfile, ...]:
        """Profiles of this engine by the names measurements spell, its usual one first."""
        ...

    @property
    def memory_rules(self) -> Mapping[str, VersionedRules]:
        """How versions of its builds (``vllm``, ``vllm-gaudi``) divide a device, newest first."""
        ...

    def profile(self, kind: DeviceKind) -> EngineProfile:
        """Return what the performance model needs to know on hardware of ``kind``."""
        ...

    def why_not(self, architecture: Architecture, device: Device) -> str | None:
        """Return why this engine cannot serve the model on the device, or None when it can."""
        ...

    def why_no_pools(
        self, architecture: Architecture, prefill: Device, decode: Device
    ) -> str | None:
        """Return why a worker on ``decode`` cannot take over KV caches of one on ``prefill``."""
        ...

    def needs_equal_pools(self, architecture: Architecture) -> bool:
        """Return whether attention must be split over equally many ranks in both pools."""
        ...

    def why_no_prefill_pipelines(self, architecture: Architecture, device: Device) -> str | None:
        """Return why prefill workers of pools cannot be pipelines, or None where they can."""
        ...

    @property
    def pool_router(self) -> PoolRouter:
        """The router before pools of its prefill and decode workers."""
        ...

    def pool_router_of(self, args: Mapping[str, ArgumentValue]) -> PoolRouter:
        """Return the router before pools whose prefill workers are told these arguments."""
        ...

    def precisions(
        self, architecture: Architecture, device: Device, *, may_quantize: bool
    ) -> tuple[Precision, ...]:
        """Return the weight formats to try, the checkpoint's own first.

        With ``may_quantize`` those the device runs natively follow.
        """
        ...

    def kv_precisions(self, architecture: Architecture, device: Device) -> tuple[Precision, ...]:
        """Return the KV cache formats to try, best quality first."""
        ...

    def min_batched_tokens(self, architecture: Architecture) -> int:
        """Return the least tokens of a step it starts the family with; 0 where any will do."""
        ...

    def cuts_prompts(self, architecture: Architecture, device: Device) -> bool:
        """Return whether it can cut a prompt over several steps on a device."""
        ...

    def keeps_prefixes(self, architecture: Architecture, device: Device) -> bool:
        """Return whether requests on a device find the prefixes of earlier ones in its cache."""
        ...

    def why_not_split(
        self, architecture: Architecture, precision: Precision, tp: int, ep: int = 1
    ) -> str | None:
        """Return why ``tp`` ranks cannot share weights stored as ``precision``, or None.

        `tp_sizes` are those of the checkpoint; one that LLMC makes of it has groups of its own.
        """
        ...

    def tp_sizes(self, architecture: Architecture, devices: int) -> tuple[int, ...]:
        """Return the legal tensor-parallel sizes up to ``devices``, ascending."""
        ...

    def pp_sizes(self, architecture: Architecture, devices: int) -> tuple[int, ...]:
        """Return the legal pipeline-parallel sizes up to ``devices``, ascending.

        (1,) where the family has no support.
        """
        ...

    def ep_sizes(self, architecture: Architecture, tp: int) -> tuple[int, ...]:
        """Return over how many of ``tp`` ranks experts may be spread, ascending.

        1 (each is split), ``tp``, or only one of these. Never empty for a size of `tp_sizes`.
        """
        ...

    def dp_sizes(self, architecture: Architecture, tp: int) -> tuple[int, ...]:
        """Return the legal numbers of attention ranks inside ``tp`` devices, ascending.

        (1,) for dense models.
        """
        ...

    def knobs(self, kind: DeviceKind) -> tuple[Knob, ...]:
        """Return the settings the search turns on hardware of ``kind``."""
        ...

    def launch(self, architecture: Architecture, config: ReplicaConfig) -> Launch:
        """Return what starts one replica; every argument exists in the engine's own parser."""
        ...

    def parsers(self, tool: str | None, reasoning: str | None) -> Mapping[str, ArgumentValue]:
        """Return the arguments that turn on parsers of tool calls and of reasoning, by name."""
        ...

    def adapters(self, count: int, rank: int) -> Mapping[str, ArgumentValue]:
        """Return the arguments that let ``count`` LoRA adapters be served at a time.

        Raises
        ------
        InvalidInput
            Fewer than one, or a ``rank`` the engine has no kernels for.
        """
        ...

    def launch_process(self, launch: Launch, process: ReplicaProcess) -> Launch:
        """Return the part of a replica that runs as ``process``: its port, rank and cores.

        The command is built again from ``launch.model`` and ``launch.args``, and these are
        checked again, because they may come from a file.

        Raises
        ------
        InvalidInput
            An argument the engine's parser would not take.
        """
        ...

    def metadata(self, architecture: Architecture, kind: DeviceKind = DeviceKind.CUDA) -> Metadata:
        """Return what callers deploy beside the command on hardware of ``kind``.

        The chat template is a path inside the image for that hardware.
        """
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class RouteTarget:
    """One replica a router may send requests to.

    ``weight`` is its share of the deployment's speed, on any positive scale.
    """

    api_base: str
    engine: str
    weight: float
    tokens_per_min: int | None = None
    requests_per_min: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ProviderPrice:
    """What a provider's model costs; its latency is unknown and stays so.

    ``input_usd_per_token`` and ``output_usd_per_token`` are USD; ``source`` names the table, its
    version and date.
    """

    model: str
    provider: str
    input_usd_per_token: float
    output_usd_per_token: float
    max_input_tokens: int
    max_output_tokens: int
    source: str

    def usd_per_million_output_tokens(self, input_tokens: float, output_tokens: float) -> float:
        """Return the price of a million generated tokens, USD, prompts of requests included."""
        prompt_usd = input_tokens * self.input_usd_per_token
        request_usd = prompt_usd + output_tokens * self.output_usd_per_token
        return request_usd / output_tokens * 1e6


@dataclass(frozen=True, slots=True, kw_only=True)
class CompressionJob:
    """One way to quantize a checkpoint: what is served afterwards, what the job needs, a recipe.

    ``device_bytes`` and ``host_bytes`` are peaks on one accelerator and its host; ``hours`` is
    wall time on one accelerator.
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
        """Return the router's configuration for replicas of one model.

        ``fallbacks`` are provider models that are tried when all replicas fail.
        """
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
        """Return why quantizing the model to ``scheme`` is of no use on the device, or None."""
        ...

    def schemes(self, device: Device) -> tuple[str, ...]:
        """Return the schemes whose format the device multiplies natively, or stores smaller."""
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
