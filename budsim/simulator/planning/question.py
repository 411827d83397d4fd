"""One request as the core understands it; a question that exists can be asked."""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace
from enum import StrEnum

from budsim.commons.errors import InvalidInput, NotFound
from budsim.commons.precision import Precision
from budsim.commons.units import GIB
from budsim.engine_ops import serving_engines
from budsim.engine_ops.kv_store import KvStore
from budsim.engine_ops.limits import DEFAULT_MAX_LORA_RANK
from budsim.engine_ops.shared.checks import check_adapters
from budsim.hardware_ops.cluster import Cluster, HardwareMode
from budsim.hardware_ops.power import PowerSite
from budsim.model_ops.architecture import Architecture
from budsim.performance.prefixes import PrefixSet, PrefixShare
from budsim.performance.speculation import Speculation
from budsim.performance.traffic import ClosedLoop, Traffic
from budsim.simulator.planning.targets import GAPS, Targets

# Chance of meeting all targets a plan has to have unless told otherwise.
USUAL_CHANCE = 0.8

CAUTIOUS_CHANCE = 0.95
# The slowest service considered where requests come at a rate and no target bounds their latency:
# about the speed people read at (250 words a minute), after ten seconds of waiting.
SLOWEST_TOKENS_PER_S = 5.0
LONGEST_WAIT_S = 10.0
# Most host memory of a node that may be asked for; servers of 2026 hold up to 16 TiB.
MOST_OFFLOAD_BYTES = 64 * 1024.0 * GIB


class Risk(StrEnum):
    """Words for two chances: compare the best estimates, or ask for nearly certain ones."""

    EXPECTED = "expected"
    CAUTIOUS = "cautious"

    @property
    def chance(self) -> float:
        """The chance of meeting all targets that it asks for; 0 compares the best estimates."""
        return 0.0 if self is Risk.EXPECTED else CAUTIOUS_CHANCE


class Disaggregation(StrEnum):
    """Whether prefill and decode may have workers of their own.

    ``OFF``: every replica does both. ``ALSO``: pools are shown where they are better than that.
    ``ONLY``: nothing else is tried.
    """

    OFF = "off"
    ALSO = "also"
    ONLY = "only"


def disaggregation_of(name: str | None) -> Disaggregation:
    """Return what a caller allows by its name; none means off.

    Raises
    ------
    InvalidInput
        It is no such name.
    """
    wanted = (name or Disaggregation.OFF).strip().lower()
    if wanted not in set(Disaggregation):
        expected = f"one of {', '.join(Disaggregation)}"
        raise InvalidInput("disaggregated", f"{name!r} is not known", expected)
    return Disaggregation(wanted)


def chance_of(risk: str | float | None) -> float:
    """Return the chance a caller asks for: a number from 0 to 1, or a `Risk` by name.

    Raises
    ------
    InvalidInput
        It is neither.
    """
    if risk is None:
        return USUAL_CHANCE
    if isinstance(risk, str) and risk.strip().lower() in set(Risk):
        return Risk(risk.strip().lower()).chance
    try:
        chance = float(risk)
    except ValueError:
        chance = math.nan
    if not 0.0 <= chance < 1.0:
        raise InvalidInput(
            "risk", f"{risk!r} is no chance", "a number from 0 to below 1, expected or cautious"
        )
    return chance


@dataclass(frozen=True, slots=True, kw_only=True)
class ParallelLayout:
    """Devices of one replica: ``tp`` tensor-parallel ranks in each of ``pp`` pipeline stages."""

    tp: int
    pp: int


@dataclass(frozen=True, slots=True, kw_only=True)
class FixedKnobs:
    """What whoever starts the engines passes to them in place of the searched values.

    Attributes
    ----------
    memory_fraction : float
        Share of an accelerator's memory the engine takes (0..1).
    engines : frozenset of str
        Engines that are started so; their ``max_num_seqs`` is the requests of a replica.
    max_loras, max_lora_rank : int
        LoRA slots a replica is started with where the question names none and the engine serves
        adapters of the model; 0 for none. Slots take memory from the start. Requests that name no
        adapter are not slower for them: vLLM captures its CUDA graphs without adapters as well.
    """

    memory_fraction: float
    engines: frozenset[str]
    max_loras: int = 0
    max_lora_rank: int = DEFAULT_MAX_LORA_RANK


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """What to serve, for which traffic, how well, and on what.

    Attributes
    ----------
    engines : frozenset of str
        Restricts the search to these engines; empty: all.
    may_quantize : bool
        Whether weights and KV cache of fewer bits than the model's own may be used.
    weight_precision : Precision, optional
        Asks for a quantized variant of the model.
    max_context_tokens : int, optional
        Caps the length of a sequence below the model's own limit.
    analytic_only : bool
        Leaves the regressors out and tries every layout with default knobs instead of searching
        (the wire's ``simulation_method`` "heuristic").
    layout : ParallelLayout, optional
        Serve in this parallel layout only.
    power_site : PowerSite
        Where the devices stand, for energy and CO2.
    plain_layouts : bool
        Pipelines only of whole data centre nodes, at most four: what people run who can choose
        their devices.
    allow_mixed : bool
        Whether one deployment may have replicas of several kinds (device types or layouts).
    fixed_knobs : FixedKnobs, optional
        Knobs that are not searched because somebody else sets them at launch.
    skip_master_cpus : bool
        Leaves the CPUs of master nodes to the cluster.
    chance : float
        Least chance (0..1) of meeting all targets with which a plan counts as meeting them; 0
        compares best estimates, which half of the measurements are worse than.
    parsed_as : str
        Hub id by which tool-call and reasoning parsers are chosen where the model's own name says
        nothing (the wire's ``model_uri``).
    max_loras, max_lora_rank : int
        Every replica serves so many adapters of at most that rank at a time: their weights and
        flags are counted, their arithmetic is not modelled.
    speculations : tuple of Speculation
        Ways in which replicas may guess tokens ahead; each takes the best where it gains.
    disaggregation : Disaggregation
        Whether prefill and decode may have workers of their own.
    kv_offload_bytes : float
        Host memory of each node that replicas may keep KV cache in, bytes; 0: none.
    kv_store : KvStore, optional
        Store of KV cache that all replicas share.
    seed : int
        Seed of the search and of replayed requests: same question and seed, same answer.

    Raises
    ------
    InvalidInput
        A number is out of range, the sequences are longer than the model's context, or no engine
        has kernels for the adapters.
    NotFound
        ``engines`` names one we do not have.
    """

    architecture: Architecture
    traffic: Traffic
    targets: Targets
    clusters: tuple[Cluster, ...]
    mode: HardwareMode = HardwareMode.DEDICATED
    engines: frozenset[str] = frozenset()
    may_quantize: bool = False
    weight_precision: Precision | None = None
    max_context_tokens: int | None = None
    analytic_only: bool = False
    layout: ParallelLayout | None = None
    power_site: PowerSite = field(default_factory=PowerSite)
    plain_layouts: bool = False
    allow_mixed: bool = True
    fixed_knobs: FixedKnobs | None = None
    skip_master_cpus: bool = True
    parsed_as: str = ""
    chance: float = USUAL_CHANCE
    max_loras: int = 0
    max_lora_rank: int = DEFAULT_MAX_LORA_RANK
    speculations: tuple[Speculation, ...] = ()
    disaggregation: Disaggregation = Disaggregation.OFF
    kv_offload_bytes: float = 0.0
    kv_store: KvStore | None = None
    seed: int = 0

    def __post_init__(self) -> None:
        """Refuse what cannot be asked, so that nobody further down has to check again."""
        self._check_traffic()
        self._check_context()
        self._check_prefixes()
        if not 0.0 <= self.chance < 1.0:
            raise InvalidInput("risk", f"{self.chance} is no chance", "a number from 0 to below 1")
        if self.max_loras:
            check_adapters(self.max_loras, self.max_lora_rank)
        elif self.max_lora_rank != DEFAULT_MAX_LORA_RANK:
            problem = "is given without adapters"
            raise InvalidInput("max_lora_rank", problem, "`max_loras` of 1 or more beside it")
        self._check_offload()
        for name in sorted(self.engines - serving_engines.keys()):
            raise NotFound("engine", name, f"one of {', '.join(serving_engines)}")

    @property
    def context_limit(self) -> int:
        """Longest sequence that may be asked for, tokens."""
        longest = self.architecture.max_context_tokens
        return min(longest, self.max_context_tokens or longest)

    @property
    def concurrency(self) -> int:
        """Requests in flight: those of a closed loop, or the most that a rate allows.

        By Little's law so many requests are in flight as come in the time that one takes: 3
        requests/s that may take 20 s each are at most 60. A deployment that serves 60 requests in
        flight within 20 s finishes at least 3 of them every second.
        """
        if not self.traffic.is_open:
            return self.traffic.concurrency
        return max(1, math.ceil(self.traffic.rate * self.longest_e2e_s))

    @property
    def longest_e2e_s(self) -> float:
        """Mean end-to-end latency beyond which some target is missed, seconds.

        Where no target bounds it: that of the slowest service considered.
        """
        means = self.targets.on_means(self.traffic.output_tokens)
        tokens_per_s = means.tokens_per_s_per_user or SLOWEST_TOKENS_PER_S
        decoding_s = max(self.traffic.output_tokens - 1.0, 0.0) / tokens_per_s
        return min(means.e2e_s or math.inf, (means.ttft_s or LONGEST_WAIT_S) + decoding_s)

    @property
    def mean_targets(self) -> Targets:
        """The targets as far as means tell whether they can be met, for the search.

        Requests that come at a rate also have to be finished as fast as they come.
        """
        if self.traffic.is_open:
            return self.targets.on_means(self.traffic.output_tokens, self.longest_e2e_s)
        if self.targets.need_replay:
            return self.targets.on_means(self.traffic.output_tokens)
        return self.targets

    @property
    def needs_replay(self) -> bool:
        """Whether the answer depends on single requests: their arrivals or their percentiles."""
        return self.traffic.is_open or self.targets.need_replay

    def with_concurrency(self, requests: int) -> Question:
        """Return the question for a closed loop of so many requests in flight."""
        return replace(self, traffic=replace(self.traffic, arrivals=self._closed(requests)))

    def at_rate(self, requests_per_s: float) -> Question:
        """Return the question for another rate of the same requests."""
        return replace(self, traffic=self.traffic.at(requests_per_s))

    def _closed(self, requests: int) -> ClosedLoop:
        arrivals = self.traffic.arrivals
        if isinstance(arrivals, ClosedLoop):
            return replace(arrivals, concurrency=requests)
        return ClosedLoop(concurrency=requests)

    def cluster(self, cluster_id: str) -> Cluster:
        """Return the cluster of this id, which is one of the question's."""
        return next(each for each in self.clusters if each.cluster_id == cluster_id)

    def for_partition(self, name: str) -> Question:
        """Return the question with only the cluster that the partition of this name is in.

        See `partition_name`.
        """
        chosen = (each for each in self.clusters if name.startswith(f"{each.cluster_id}/"))
        return replace(self, clusters=tuple(chosen))

    def _check_prefixes(self) -> None:
        """Refuse prefixes that no engine keeps, and a set smaller than the prefix of a request."""
        prefix, model = self.traffic.prefix, self.architecture
        stated = isinstance(prefix, PrefixShare | PrefixSet) and prefix.share > 0.0
        if stated and (model.reads_encoder or model.is_bidirectional):
            raise InvalidInput("prefix_hits", _keeps_none(model), "0")
        if not isinstance(prefix, PrefixSet):
            return
        shared = self.traffic.prompt.mean * prefix.share
        if prefix.tokens < shared:
            problem = f"{prefix.tokens:g} are fewer than each request shares, {shared:g}"
            raise InvalidInput("prefix_set_tokens", problem, f"at least {shared:g}")

    def _check_traffic(self) -> None:
        # Without a duration there is no rate to keep up with.
        if self.traffic.is_open and math.isinf(self.traffic.rate):
            problem = "of requests that are all sent in the same instant has no rate"
            raise InvalidInput("trace", problem, "requests at two times or more")
        output, pooling = self.traffic.output, self.architecture.is_embedding
        if not pooling and output.mean < 1:
            raise InvalidInput(
                "output_tokens", f"{output.mean:g} is not a positive number", "at least 1"
            )
        if pooling and output.most:
            raise InvalidInput(
                "output_tokens", f"{output.mean:g} of a model that generates none", "0"
            )
        if pooling:
            self._check_no_targets_on("tokens_per_s_per_user", *GAPS)
        elif output.most == 1:
            self._check_no_targets_on(*GAPS)

    def _check_no_targets_on(self, *figures: str) -> None:
        """Refuse targets on tokens of a model that generates none, or on gaps between one."""
        model, problem = self.architecture, "bounds gaps between tokens, and answers have one token"
        if model.is_embedding:
            problem = f"bounds output tokens, and {model.model_id} generates none"
        for name in self.targets.given:
            if name.startswith(figures):
                raise InvalidInput(name, problem, "targets on ttft or e2e")

    def _check_offload(self) -> None:
        """Refuse host memory and a store for what has no KV cache that could be found again."""
        wanted, model = self.kv_offload_bytes, self.architecture
        if not 0.0 <= wanted <= MOST_OFFLOAD_BYTES:
            most = f"0 to {MOST_OFFLOAD_BYTES / GIB:g} GiB"
            raise InvalidInput("kv_offload_gib", f"is {wanted / GIB:g}", most)
        if not wanted and self.kv_store is None:
            return
        field = "kv_offload_gib" if wanted else "kv_store_gib"
        if model.is_embedding or model.is_bidirectional:
            problem = f"{model.model_id} keeps no KV cache between requests"
            raise InvalidInput(field, problem, "0, or a model that generates text")
        if model.reads_encoder:
            raise InvalidInput(field, _keeps_none(model), "0, or a model that reads text alone")
        if model.state_bytes_per_sequence():
            problem = f"{model.model_id} keeps a recurrent state, which is not offloaded"
            raise InvalidInput(field, problem, "0, or a model of attention layers alone")

    def _check_context(self) -> None:
        limit, longest = self.context_limit, self.traffic.context_tokens
        if longest > limit:
            raise InvalidInput(
                "input_tokens",
                f"{_lengths(self.traffic)} exceed the context of {limit} tokens",
                f"input_tokens + output_tokens of at most {limit}",
            )


def _keeps_none(model: Architecture) -> str:
    """Return that no engine finds prefixes of a model again, and why."""
    why = "positions of an encoder" if model.reads_encoder else "tokens after them"
    return f"{model.model_id} keeps no prefixes: they depend on {why}"


def _lengths(traffic: Traffic) -> str:
    """Return the longest request in words: 512 + 128 tokens."""
    prompt, output = traffic.prompt.most, traffic.output.most
    if prompt + output != traffic.context_tokens:
        return f"{traffic.context_tokens} tokens of the longest request"
    return f"{prompt}" + (f" + {output}" if output else "") + " tokens"


def partition_name(cluster_id: str, device: str, engine: str, digest: str) -> str:
    """Return the name of what is searched by itself; see `budsim.simulator.planning.partitions`."""
    return f"{cluster_id}/{device}/{engine}/{digest}"
