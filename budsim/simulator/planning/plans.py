"""Plans as values.

Replicas placed on real nodes, what they will do, and reasons for what was rejected.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

from budsim.engine_ops.base import Launch, Metadata, PoolRole, ReplicaConfig
from budsim.hardware_ops.cluster import DeviceLabel
from budsim.hardware_ops.device import DeviceKind, PriceKind
from budsim.performance.predictions import Basis
from budsim.performance.serving.replay import Spread, Timeline
from budsim.performance.speculation import Speculation

HOURS_PER_MONTH: Final = 730.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Figure:
    """One predicted number with its 80 % and 90 % intervals, in the unit of its field's name."""

    value: float
    low80: float
    high80: float
    low90: float
    high90: float

    @classmethod
    def certain(cls, value: float) -> Figure:
        """Return a figure that is known: both intervals are the number itself."""
        return cls(value=value, low80=value, high80=value, low90=value, high90=value)


@dataclass(frozen=True, slots=True, kw_only=True)
class PredictedService:
    """What one request will see, how that is known, and what bounds it.

    ``requests_per_s`` is one replica's. ``bases`` tells of "ttft" and "tpot" apart what they rest
    on; ``basis`` is "measured" only where both were.
    """

    ttft_s: Figure
    tpot_s: Figure
    e2e_s: Figure
    tokens_per_s_per_user: Figure
    requests_per_s: Figure
    basis: Basis
    in_range: bool
    bound_by: str
    bases: Mapping[str, Basis] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class PredictedMemory:
    """Memory of one device of a replica, bytes, and the tokens the replica's KV cache holds."""

    weight_bytes: float
    kv_cache_bytes: float
    activation_bytes: float
    reserved_bytes: float
    budget_bytes: float
    kv_capacity_tokens: float

    @property
    def total_bytes(self) -> float:
        """All that is used: weights, cache, activations and reserve."""
        used = self.weight_bytes + self.kv_cache_bytes + self.activation_bytes
        return used + self.reserved_bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class NextReplica:
    """What one more replica would make of a group that keeps its requests.

    ``is_free`` says whether the cluster has it.
    """

    devices: int
    is_free: bool
    ttft_s: float
    tokens_per_s_per_user: float
    e2e_s: float
    cost_per_million_tokens_usd: float


@dataclass(frozen=True, slots=True, kw_only=True)
class HostTierEffect:
    """Where the prefixes of requests are found, and what host memory and a shared store gain.

    Attributes
    ----------
    host_bytes : float
        Host memory of one replica's KV cache; 0: it keeps none there.
    device_share, host_share : float
        Shares (0..1) of the shared prefix tokens found on the device, and only in host memory.
    ttft_without_s : float
        Mean TTFT without host memory and store, seconds; nan where the traffic is then not carried.
    store_bytes : float
        Capacity of the store that all replicas share; 0: this replica reads none.
    store_share : float
        Share (0..1) found only in that store.
    """

    host_bytes: float
    device_share: float
    host_share: float
    ttft_without_s: float
    store_bytes: float = 0.0
    store_share: float = 0.0

    @property
    def missed_share(self) -> float:
        """Share (0..1) of the shared prefix tokens that is computed again."""
        return max(1.0 - self.device_share - self.host_share - self.store_share, 0.0)


@dataclass(frozen=True, slots=True, kw_only=True)
class Explanation:
    """Why a group is as good as it is.

    ``time_shares`` says where a request's time goes (summing to 1). ``headroom`` has, for every
    target by its name in `Targets`, by what share the predicted figure may get worse before the
    target is missed; below 0 it is missed. Towers take ``encoder_s`` for the images, video and
    audio of one request, if no prefix cache holds them. ``host_tier`` is None where prefixes are
    always found.
    """

    time_shares: Mapping[str, float]
    headroom: Mapping[str, float]
    next_replica: NextReplica | None
    encoder_s: float = 0.0
    host_tier: HostTierEffect | None = None

    @property
    def binding(self) -> str:
        """The target that is nearest to being missed, or missed most."""
        return min(self.headroom, key=lambda name: self.headroom[name], default="")


@dataclass(frozen=True, slots=True, kw_only=True)
class ReplayedRequests:
    """What the replayed requests of one replica saw.

    Attributes
    ----------
    ttft_s, itl_s, tpot_s, e2e_s : Spread
        Mean and percentiles over requests (``itl_s``: over gaps between tokens), seconds.
    requests_per_s : float
        Requests finished per second.
    good_share : float
        Share of requests (0..1) within the limits of a goodput target; 1 without one.
    running, waiting : float
        Mean requests being served, and waiting.
    cache_share, utilisation : float
        Mean share (0..1) of the KV cache in use, and of the time the engine computes.
    preemptions : float
        Preemptions a request.
    rate, largest_stable_rate : float
        Requests per second that come, and that it carries in the long run; nan in a closed loop.
    timeline : Timeline, optional
        Load over time.
    """

    ttft_s: Spread
    itl_s: Spread
    tpot_s: Spread
    e2e_s: Spread
    requests_per_s: float
    good_share: float
    running: float
    waiting: float
    cache_share: float
    utilisation: float
    preemptions: float
    rate: float
    largest_stable_rate: float
    timeline: Timeline | None = None

    @property
    def margin(self) -> float:
        """Share of the largest stable rate that is left; nan in a closed loop."""
        return 1.0 - self.rate / self.largest_stable_rate


@dataclass(frozen=True, slots=True, kw_only=True)
class Placement:
    """Where one replica's devices are: ``devices`` of one pool of one node."""

    node_id: str
    node_name: str
    pool: int
    devices: int


@dataclass(frozen=True, slots=True, kw_only=True)
class ReplicaGroup:
    """Equal replicas on equal devices; of disaggregated plans the workers of one pool.

    Both pools of such a plan state the service of whole requests. ``placements`` has one tuple per
    replica: a replica spans several entries only when its pipeline crosses nodes. ``concurrency``
    is per replica. ``cost_per_million_tokens_usd`` counts output tokens, of pooling models those
    they read. ``speculation`` is how its replicas guess tokens ahead, None where they do not.
    """

    config_id: str
    engine: str
    kind: DeviceKind
    label: DeviceLabel
    config: ReplicaConfig
    placements: tuple[tuple[Placement, ...], ...]
    service: PredictedService
    memory: PredictedMemory
    launch: Launch
    metadata: Metadata
    explanation: Explanation
    error_rate: float
    cost_usd_per_h: float
    cost_per_million_tokens_usd: float
    chance: float = 1.0
    shortfall: float = 0.0
    replayed: ReplayedRequests | None = None
    speculation: Speculation | None = None

    @property
    def replicas(self) -> int:
        """Number of replicas."""
        return len(self.placements)

    @property
    def role(self) -> PoolRole:
        """The part of each request that these replicas serve."""
        return self.config.role

    @property
    def devices(self) -> int:
        """Number of devices all replicas use."""
        return self.replicas * self.config.tp * self.config.pp


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """A deployment on one cluster.

    Groups of equal replicas, each of another device type or layout, that share the traffic.

    Each figure is that of the group where it is worst: no user sees worse. A router has to send
    each replica requests in proportion to its ``service.requests_per_s``. ``is_knee`` marks the
    best compromise of cost, devices and latency on the cluster's Pareto front.

    A disaggregated plan has two groups instead, the prefill workers first: every request goes
    through both.
    """

    cluster_id: str
    groups: tuple[ReplicaGroup, ...]
    ttft_s: float
    tokens_per_s_per_user: float
    e2e_s: float
    error_rate: float
    cost_usd_per_h: float
    cost_per_million_tokens_usd: float
    is_knee: bool = False

    @property
    def chance(self) -> float:
        """Chance (0..1) that every target is met.

        Groups err for the same reasons, so that the least of theirs is the plan's.
        """
        return min(group.chance for group in self.groups)

    @property
    def shortfall(self) -> float:
        """How far from meeting every target with the chance that was asked for; 0: it does."""
        return max(group.shortfall for group in self.groups)

    @property
    def meets_targets(self) -> bool:
        """Whether every target is met with the chance that was asked for."""
        return self.shortfall == 0.0

    @property
    def is_disaggregated(self) -> bool:
        """Whether prefill and decode have workers of their own."""
        return any(group.role is PoolRole.PREFILL for group in self.groups)

    @property
    def answering(self) -> tuple[ReplicaGroup, ...]:
        """The groups that finish requests: all but prefill workers, which hand them on."""
        return tuple(group for group in self.groups if group.role is not PoolRole.PREFILL)

    @property
    def slowest(self) -> ReplicaGroup:
        """The group nearest to missing its targets, or missing them most.

        Without targets the one of the longest latency.
        """
        return max(
            self.answering,
            key=lambda group: (
                group.shortfall,
                -min(group.explanation.headroom.values(), default=0.0),
                group.service.e2e_s.value,
            ),
        )

    @property
    def prompt_reader(self) -> ReplicaGroup:
        """The group whose prompts are explained: the prefill workers, else the slowest group."""
        return self.groups[0] if self.is_disaggregated else self.slowest

    @property
    def cost_usd_per_month(self) -> float:
        """What a month of 730 hours costs, USD: a deployment is paid for day and night."""
        return self.cost_usd_per_h * HOURS_PER_MONTH

    @property
    def has_estimated_price(self) -> bool:
        """Whether the price of a device is an estimate, for want of a published rent."""
        origins = [group.config.device.price_origin for group in self.groups]
        return any(origin and origin.kind is PriceKind.ESTIMATED for origin in origins)

    @property
    def requests_per_s(self) -> float:
        """Requests all replicas finish per second."""
        each = self.answering
        return sum(group.replicas * group.service.requests_per_s.value for group in each)

    @property
    def devices(self) -> int:
        """Number of devices in use."""
        return sum(group.devices for group in self.groups)


@dataclass(frozen=True, slots=True, kw_only=True)
class Rejection:
    """Why something that was asked about is not in the answer.

    ``subject`` names it (a cluster, a device, an engine on a device), ``devices`` counts the
    devices it stands for.
    """

    cluster_id: str
    subject: str
    reason: str
    devices: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """The answer.

    Plans best first (several per cluster), and at least one reason where there is no plan.

    ``evaluations`` counts distinct candidates that were predicted.
    """

    plans: tuple[Plan, ...]
    rejections: tuple[Rejection, ...]
    evaluations: int
