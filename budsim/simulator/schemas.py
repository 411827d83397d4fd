"""The wire: names, units, bounds and envelopes callers rely on; only here do ms and GB become seconds and bytes."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from enum import StrEnum
from hashlib import sha256
from typing import TYPE_CHECKING, Annotated, Any, Literal, Self
from uuid import UUID

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, field_validator, model_validator
from pydantic_core import PydanticCustomError

from budsim.commons.precision import Precision, bytes_per_value
from budsim.commons.units import GIB, KILO, MILLI
from budsim.engine_ops.base import ReplicaConfig
from budsim.engine_ops.limits import DEFAULT_MAX_LORA_RANK
from budsim.engine_ops.llmc import job_for
from budsim.hardware_ops.cluster import HardwareMode, Node
from budsim.model_ops.architecture import Architecture
from budsim.performance.workload import MOST_REQUESTS, MOST_TOKENS
from budsim.simulator.http import examples
from budsim.simulator.planning import plans
from budsim.simulator.planning.plans import Figure, Outcome, Plan, Rejection, ReplicaGroup
from budsim.simulator.planning.question import Question, Risk
from budsim.simulator.planning.targets import Targets
from budsim.simulator.storage.records import (
    WORKFLOW_NAME,
    Feedback,
    Json,
    PlanFilter,
    Run,
    Status,
    StoredGroup,
    StoredPlan,
)

if TYPE_CHECKING:
    from budsim.simulator.planning.layouts import DeviceLayouts

WIRE_GB = GIB
"""The inventory's writer calls a GiB a GB (an 80 GB device reports 80); callers hand our figures on in the same unit."""

MAX_TEXT = 1024
MAX_RECOMMENDED_CLUSTERS = 10
ENVELOPE_KEYS = ("topic", "pubsubname", "data")
POOLING_ENDPOINTS = frozenset({"EMBEDDING", "CLASSIFY", "RERANK"})
ENDPOINTS = POOLING_ENDPOINTS | {"LLM", "AUDIO"}
STEPS = (
    ("validation", "Validation", "Check the request, the model and the hardware inventory"),
    (
        "performance_estimation",
        "Performance estimation",
        "Predict and search deployments on every cluster",
    ),
    ("ranking", "Ranking", "Rank the deployments that were found"),
)


def _no_bool(value: object) -> object:
    if isinstance(value, bool):
        raise ValueError("must be a number, not true or false")
    return value


Text = Annotated[str, Field(min_length=1, max_length=MAX_TEXT)]
Tokens = Annotated[int, Field(ge=1, le=MOST_TOKENS), BeforeValidator(_no_bool)]
Concurrency = Annotated[int, Field(ge=1, le=MOST_REQUESTS), BeforeValidator(_no_bool)]
Parallel = Annotated[int, Field(ge=1, le=1024), BeforeValidator(_no_bool)]
Loras = Annotated[int, Field(ge=0, le=1024), BeforeValidator(_no_bool)]
LoraRank = Annotated[int, Field(ge=1, le=512), BeforeValidator(_no_bool)]
Target = Annotated[float, Field(ge=0, le=1e9, allow_inf_nan=False), BeforeValidator(_no_bool)]
Threshold = Annotated[float, Field(ge=0, le=1e6, allow_inf_nan=False)]


class Category(StrEnum):
    """How a notification is shown."""

    INAPP = "inapp"
    INTERNAL = "internal"
    EMAIL = "email"


class NotificationMetadata(BaseModel):
    """What the caller wants echoed in every event."""

    model_config = ConfigDict(extra="ignore")

    notification_type: Literal["event", "topic", "broadcast"] = "event"
    name: str | None = Field(None, max_length=MAX_TEXT)
    workflow_id: str | None = Field(None, max_length=MAX_TEXT)
    subscriber_ids: str | list[str] | None = None
    actor: str | None = Field(None, max_length=MAX_TEXT)
    topic_keys: str | list[str] | list[dict[str, str]] | None = None
    category: Category = Category.INTERNAL


class Body(BaseModel):
    """A request body, plain or in a CloudEvent; unknown fields are refused in the first form and ignored in the second."""

    model_config = ConfigDict(extra="forbid", protected_namespaces=())

    specversion: str | None = Field(None, max_length=MAX_TEXT)
    topic: str | None = Field(None, max_length=MAX_TEXT)
    pubsubname: str | None = Field(None, max_length=MAX_TEXT)
    source: str | None = Field(None, max_length=MAX_TEXT)
    source_topic: str | list[str] | None = None
    data: Any = None
    traceid: str | None = Field(None, max_length=MAX_TEXT)
    tracestate: str | None = Field(None, max_length=MAX_TEXT)
    traceparent: str | None = Field(None, max_length=MAX_TEXT)
    type: str | None = Field(None, max_length=MAX_TEXT)
    time: str | None = Field(None, max_length=MAX_TEXT)
    id: str | None = Field(None, max_length=MAX_TEXT)
    datacontenttype: str | None = Field(None, max_length=MAX_TEXT)
    debug: bool = False
    notification_metadata: NotificationMetadata | None = None

    @model_validator(mode="before")
    @classmethod
    def _open_cloud_event(cls, value: object) -> object:
        _refuse_unstorable(value)
        if not isinstance(value, Mapping) or any(value.get(key) is None for key in ENVELOPE_KEYS):
            return value
        inside = _event_content(value["data"])
        merged = {**value, **inside, "data": None}
        # The event's own id and source recognize a repeated delivery; what the request calls itself does not.
        merged |= {
            key: value[key]
            for key in ("id", "topic", "pubsubname", "type", "traceparent", "tracestate")
            if key in value
        }
        return {key: content for key, content in merged.items() if key in cls.model_fields}

    @property
    def topics(self) -> tuple[str, ...]:
        """Topics every event of this request is published on, each once."""
        named = (
            [self.source_topic] if isinstance(self.source_topic, str) else self.source_topic or []
        )
        return tuple(dict.fromkeys(topic for topic in named if topic))

    @field_validator("source_topic")
    @classmethod
    def _check_topics(cls, value: str | list[str] | None) -> str | list[str] | None:
        named = value if isinstance(value, list) else [value or ""]
        if len(named) > 16 or any(len(topic) > 255 for topic in named):
            raise ValueError("at most 16 topics of at most 255 characters each")
        return value


class RunRequest(Body):
    """What should be deployed for which traffic and targets (`POST /simulator/run`)."""

    model_config = ConfigDict(
        extra="forbid",
        protected_namespaces=(),
        json_schema_extra={"examples": [examples.RUN]},
    )

    pretrained_model_uri: Text = Field(
        description="Hugging Face id, or a path under MODEL_REGISTRY_DIR"
    )
    model_uri: str | None = Field(
        None,
        max_length=MAX_TEXT,
        description="Hugging Face id, for engine compatibility and parsers",
    )
    is_proprietary_model: bool = Field(description="cloud model, called through LiteLLM")
    input_tokens: Tokens = Field(description="mean prompt tokens")
    output_tokens: Tokens = Field(
        description="mean generated tokens; of no matter for pooling models, which generate none"
    )
    concurrency: Concurrency = Field(description="concurrent requests")
    target_ttft: Target | None = Field(
        None, description="longest time to first token, ms; null or 0: no target"
    )
    target_throughput_per_user: Target | None = Field(
        None, description="fewest output tokens/s per user; null or 0: no target"
    )
    target_e2e_latency: Target | None = Field(
        None, description="longest end-to-end latency, s; null or 0: no target"
    )
    cluster_id: UUID | None = Field(None, description="restrict to one cluster")
    is_quantization: bool = Field(False, description="simulate the quantized model")
    quantization_method: str | None = Field(None, max_length=MAX_TEXT)
    quantization_type: str | None = Field(None, max_length=MAX_TEXT)
    simulation_method: Literal["regressor", "heuristic"] | None = Field(
        None, description="null: regressor"
    )
    risk: Risk = Field(
        Risk.EXPECTED,
        description="judge targets by what is expected, or by the worse end of the 90 % intervals",
    )
    hardware_mode: HardwareMode = HardwareMode.DEDICATED
    model_endpoints: str | None = Field(
        None,
        max_length=MAX_TEXT,
        description="comma list of LLM, EMBEDDING, AUDIO, CLASSIFY, RERANK; without LLM and AUDIO the model need not generate",
    )
    model_max_context_length: Tokens | None = Field(
        None, description="caps the sequence length, tokens"
    )
    max_loras: Loras = Field(0, description="LoRA adapters every replica serves at a time; 0: none")
    max_lora_rank: LoraRank = Field(DEFAULT_MAX_LORA_RANK, description="highest rank of an adapter")

    @field_validator("hardware_mode", mode="before")
    @classmethod
    def _default_mode(cls, value: object) -> object:
        return HardwareMode.DEDICATED if value is None else value

    @property
    def pooling(self) -> bool:
        """Whether only vectors and scores are wanted of the model, no text."""
        wanted = _endpoints(self.model_endpoints)
        return bool(wanted) and wanted <= POOLING_ENDPOINTS

    @field_validator("model_endpoints")
    @classmethod
    def _check_endpoints(cls, value: str | None) -> str | None:
        unknown = _endpoints(value) - ENDPOINTS
        if unknown:
            raise ValueError(
                f"{', '.join(sorted(unknown))} not known; expected a comma list of {', '.join(sorted(ENDPOINTS))}"
            )
        return value

    @model_validator(mode="after")
    def _require_targets(self) -> Self:
        wanted = ("target_ttft", "target_throughput_per_user", "target_e2e_latency")
        missing = [name for name in wanted if name not in self.model_fields_set]
        if missing and not self.is_proprietary_model:
            raise _wrong(
                missing[0],
                f"{', '.join(missing)} required for open models; null or 0 means no target",
            )
        return self

    @property
    def targets(self) -> Targets:
        """Targets in base units; null and 0 are no target."""
        return Targets(
            ttft_s=self.target_ttft * MILLI if self.target_ttft else None,
            tokens_per_s_per_user=self.target_throughput_per_user or None,
            e2e_s=self.target_e2e_latency or None,
        )

    def fingerprint(self) -> str:
        """Return a digest of what is asked; how it was sent does not count: a repeated delivery has other trace ids."""
        asked = self.model_dump(mode="json", exclude=set(Body.model_fields))
        return sha256(json.dumps(asked, sort_keys=True).encode()).hexdigest()

    def stored(self) -> Json:
        """Return the request as JSON that validates to an equal one."""
        fields = self.model_fields_set | {"hardware_mode"}
        return self.model_dump(mode="json", include=set(fields) - {"data", "topic", "pubsubname"})


class FeedbackItem(BaseModel):
    """What became of one deployed configuration."""

    model_config = ConfigDict(extra="forbid")

    config_id: Text
    failed: bool
    reason: str | None = Field(None, max_length=10_000)

    def value(self) -> Feedback:
        """Return it in the core's words."""
        return Feedback(config_id=self.config_id, failed=self.failed, reason=self.reason or "")


class ConfigurationsRequest(Body):
    """Which run's best remaining configuration is wanted (`POST /simulator/configurations`)."""

    model_config = ConfigDict(json_schema_extra={"examples": [examples.CONFIGURATIONS]})

    workflow_id: UUID
    cluster_id: UUID | None = None
    error_rate_threshold: Threshold = 0.5
    concurrency: Concurrency | None = None
    feedback: Annotated[list[FeedbackItem], Field(max_length=1000)] | None = None

    def wanted(self) -> PlanFilter:
        """Return which stored plans fit."""
        return plan_filter(self.cluster_id, self.concurrency, self.error_rate_threshold)


class HostsRequest(Body):
    """Fields `node-configurations` and `benchmark-config` share."""

    model_id: Text
    cluster_id: UUID
    hostnames: Annotated[list[Text], Field(min_length=1, max_length=10_000)]
    hardware_mode: HardwareMode = HardwareMode.DEDICATED
    input_tokens: Tokens = 1024
    output_tokens: Tokens = 512
    concurrency: Concurrency = 10
    model_uri: str | None = Field(None, max_length=MAX_TEXT)
    model_max_context_length: Tokens | None = None


class NodeConfigurationsRequest(HostsRequest):
    """Which parallel layouts fit on the named hosts."""

    model_config = ConfigDict(json_schema_extra={"examples": [examples.HOSTS]})


class BenchmarkRequest(HostsRequest):
    """A layout the caller chose, to be turned into node groups."""

    model_config = ConfigDict(json_schema_extra={"examples": [examples.BENCHMARK]})

    device_type: Text
    tp_size: Parallel
    pp_size: Parallel = 1
    replicas: Parallel = 1


class Info(BaseModel):
    """A message."""

    object: Literal["info"] = "info"
    message: str
    param: Json | None = None


class Error(BaseModel):
    """Why a request was refused."""

    object: Literal["error"] = "error"
    message: str
    type: str
    param: str | None = None
    code: int


class WorkflowStep(BaseModel):
    """One step of a workflow."""

    id: str
    title: str
    description: str


class WorkflowMetadata(BaseModel):
    """A workflow and its state."""

    object: Literal["workflow_metadata"] = "workflow_metadata"
    workflow_id: UUID
    workflow_name: str = WORKFLOW_NAME
    steps: list[WorkflowStep] = [
        WorkflowStep(id=name, title=title, description=text) for name, title, text in STEPS
    ]
    status: Status
    eta: int | None = None

    @classmethod
    def of(cls, run: Run) -> WorkflowMetadata:
        """Return the metadata of a run."""
        return cls(workflow_id=UUID(run.run_id), status=run.status, eta=run.eta_minutes)


class EngineMetadata(BaseModel):
    """What callers deploy beside the command."""

    engine_version: str | None = None
    tool_calling_parser_type: str | None = None
    reasoning_parser_type: str | None = None
    architecture_family: str | None = None
    chat_template: str | None = None
    supports_lora: bool = False
    supports_pipeline_parallelism: bool = False


class Labels(BaseModel):
    """Labels of a node group; all of them text."""

    device_name: str
    concurrency: str


class Range(BaseModel):
    """An 80 % prediction interval, in the unit of the figure it belongs to."""

    low: float
    high: float


class Confidence(BaseModel):
    """How sure the figures beside it are."""

    basis: str
    in_range: bool
    bound_by: str
    ttft: Range
    throughput_per_user: Range
    e2e_latency: Range


class NextReplica(BaseModel):
    """What one more replica would make of a node group that keeps its requests; units as in the node group."""

    devices: int
    is_free: bool
    ttft: float
    throughput_per_user: float
    e2e_latency: float
    cost_per_million_tokens: float


class Explanation(BaseModel):
    """Why a node group is as good as it is.

    ``time_shares`` of a request sum to 1; ``headroom`` is by what share a figure may get worse before its target is missed,
    below 0 it is; ``binding_target`` has the least.
    """

    time_shares: dict[str, float]
    headroom: dict[str, float]
    binding_target: str | None
    next_replica: NextReplica | None


class NodeShare(BaseModel):
    """How many devices of one node a replica uses; ``first`` is the number of the pool's first device of that kind there."""

    node: str
    devices: int = Field(ge=1, le=1024)
    first: int = Field(0, ge=0, le=1_000_000)


class Compression(BaseModel):
    """The job that quantizes the checkpoint before it can be served: LLM Compressor's recipe and what the job needs."""

    checkpoint: str
    scheme: str
    method: str
    recipe: str
    device_memory_gb: float
    host_memory_gb: float
    hours: float
    cost_usd: float


class NodeGroup(EngineMetadata):
    """Equal replicas, ready to deploy.

    ``model`` is what the engine loads; ``placements`` has the nodes of each replica, its pipeline in their order;
    ``requests_per_s`` is what all replicas finish. Pooling models generate no tokens (``throughput_per_user`` 0) and are priced
    by the tokens they read.
    """

    config_id: str
    name: str
    labels: Labels
    type: str
    engine_type: str
    tp_size: int
    pp_size: int
    envs: dict[str, str]
    args: dict[str, str | int | float | bool]
    replicas: int
    image: str
    memory: float
    hardware_mode: HardwareMode
    ttft: float | None
    throughput_per_user: float | None
    e2e_latency: float | None
    error_rate: float
    cost_per_million_tokens: float
    requests_per_s: float | None = None
    device_name: str
    device_model: str
    raw_name: str
    weight_memory_gb: float
    kv_cache_memory_gb: float
    cores: int | None = None
    socket_cores: int | None = None
    max_loras: int | None = None
    model: str | None = None
    placements: list[list[NodeShare]] = []
    compression: Compression | None = None
    confidence: Confidence | None = None
    explanation: Explanation | None = None


class DeviceTypeMetrics(BaseModel):
    """One node group's share of a recommendation, in the order of the node groups."""

    device_type: str
    num_replicas: int
    concurrency: int
    cost_per_million_tokens: float


class Metrics(BaseModel):
    """Predicted service: ttft in ms, throughput in output tokens/s, latency in s, cost in USD; null where it is unknown."""

    device_types: list[DeviceTypeMetrics]
    replica: int
    concurrency: int
    ttft: float | None
    throughput_per_user: float | None
    e2e_latency: float | None
    error_rate: float
    cost_per_million_tokens: float


class ClusterMetrics(EngineMetadata):
    """One recommended deployment on one cluster."""

    cluster_id: str
    metrics: Metrics
    quantized_metrics: Metrics | None = None

    @classmethod
    def of(cls, plan: StoredPlan) -> ClusterMetrics:
        """Return a stored plan as callers read it."""
        metrics = _metrics(plan)
        return cls(
            cluster_id=plan.cluster_id,
            metrics=metrics,
            quantized_metrics=metrics if plan.quantized else None,
            **_metadata(plan),
        )


class Reason(BaseModel):
    """Why something that was asked about is not recommended."""

    cluster_id: str
    subject: str
    reason: str
    devices: int = 0

    @classmethod
    def of(cls, rejection: Rejection) -> Reason:
        """Return a rejection as callers read it."""
        return cls(
            cluster_id=rejection.cluster_id,
            subject=rejection.subject,
            reason=rejection.reason,
            devices=rejection.devices,
        )


class Recommendations(BaseModel):
    """The answer of a run: the best deployment of each cluster, best first, and why others are missing."""

    object: Literal["cluster_recommendations"] = "cluster_recommendations"
    workflow_id: UUID
    recommendations: list[ClusterMetrics]
    created: int
    reasons: list[Reason] = []


class RecommendationPage(BaseModel):
    """One page of a run's plans, best first."""

    object: Literal["cluster_recommendations"] = "cluster_recommendations"
    page: int
    limit: int
    total_items: int
    total_pages: int
    items: list[ClusterMetrics]


class DeploymentConfiguration(EngineMetadata):
    """A plan ready to deploy."""

    object: Literal["deployment_configuration"] = "deployment_configuration"
    id: str
    nodes: None = None
    node_groups: list[NodeGroup]
    replica: int
    concurrency: int
    ttft: float | None
    throughput_per_user: float | None
    e2e_latency: float | None
    error_rate: float
    cost_per_million_tokens: float

    @classmethod
    def of(cls, plan: StoredPlan) -> DeploymentConfiguration:
        """Return a stored plan as callers deploy it."""
        metrics = _metrics(plan)
        return cls(
            id=plan.cluster_id,
            node_groups=[NodeGroup.model_validate(group.document) for group in plan.groups],
            **metrics.model_dump(exclude={"device_types"}),
            **_metadata(plan),
        )


class ModelSize(BaseModel):
    """A model and the least it needs."""

    model_config = ConfigDict(protected_namespaces=())

    model_id: str
    model_name: str
    model_uri: str | None
    estimated_weight_memory_gb: float
    min_tp_for_model: int | None


class ParallelOption(BaseModel):
    """One layout that fits."""

    tp_size: int
    pp_size: int
    max_replicas: int
    total_devices_needed: int
    description: str


class DeviceConfiguration(BaseModel):
    """What one kind of device on the selected hosts can do."""

    device_type: str
    device_name: str
    device_model: str
    total_devices: int
    nodes_count: int
    max_devices_per_node: int
    memory_per_device_gb: float
    tp_pp_options: list[ParallelOption]
    min_tp_required: int | None
    supports_pipeline_parallelism: bool


class NodeConfigurations(BaseModel):
    """Layouts that fit on the selected hosts."""

    model_config = ConfigDict(protected_namespaces=())

    object: Literal["node_configurations"] = "node_configurations"
    cluster_id: str
    model_info: ModelSize
    device_configurations: list[DeviceConfiguration]
    selected_nodes: list[str]
    hardware_mode: HardwareMode


class BenchmarkConfiguration(BaseModel):
    """Node groups for the layout the caller chose."""

    model_config = ConfigDict(protected_namespaces=())

    object: Literal["benchmark_config"] = "benchmark_config"
    cluster_id: str
    model_id: str
    node_groups: list[NodeGroup]


class Delivery(BaseModel):
    """What the broker should do with a message."""

    status: Literal["SUCCESS", "RETRY", "DROP"]


def plan_filter(cluster_id: UUID | None, concurrency: int | None, threshold: float) -> PlanFilter:
    """Return a filter over stored plans from wire values."""
    return PlanFilter(
        cluster_id=str(cluster_id) if cluster_id else None,
        concurrency=concurrency,
        error_rate_threshold=threshold,
    )


def stored_plans(outcome: Outcome, question: Question, *, keep: int) -> tuple[StoredPlan, ...]:
    """Return the best ``keep`` plans of an outcome as they are stored."""
    native = native_precision(question.architecture)
    return tuple(
        _stored_plan(rank, plan, question, native) for rank, plan in enumerate(outcome.plans[:keep])
    )


def recommendations(
    run: Run, plans: Sequence[StoredPlan], reasons: Sequence[Reason] = ()
) -> Recommendations:
    """Return the best plan of each of the first ten clusters; ``plans`` are best first."""
    best: dict[str, StoredPlan] = {}
    for plan in plans:
        best.setdefault(plan.cluster_id, plan)
    return Recommendations(
        workflow_id=UUID(run.run_id),
        recommendations=[
            ClusterMetrics.of(plan) for plan in list(best.values())[:MAX_RECOMMENDED_CLUSTERS]
        ],
        created=int(run.created_s),
        reasons=list(reasons),
    )


def node_group(group: ReplicaGroup, question: Question) -> NodeGroup:
    """Return a replica group as callers deploy it."""
    service, memory = group.service, group.memory
    return NodeGroup(
        config_id=group.config_id,
        name=group.label.name,
        labels=Labels(device_name=group.label.name, concurrency=str(group.config.concurrency)),
        type=group.label.wire_type,
        engine_type=group.engine,
        tp_size=group.config.tp,
        pp_size=group.config.pp,
        envs=dict(group.launch.envs),
        args=dict(group.launch.args),
        replicas=group.replicas,
        image=group.launch.image,
        memory=_gigabytes(
            memory.weight_bytes
            + memory.kv_cache_bytes
            + memory.activation_bytes
            + memory.reserved_bytes
        ),
        hardware_mode=question.mode,
        ttft=service.ttft_s.value * KILO,
        throughput_per_user=service.tokens_per_s_per_user.value,
        e2e_latency=service.e2e_s.value,
        error_rate=group.error_rate,
        cost_per_million_tokens=group.cost_per_million_tokens_usd,
        requests_per_s=group.replicas * service.requests_per_s.value,
        device_name=group.label.name,
        device_model=group.label.device_model,
        raw_name=group.label.raw_name,
        weight_memory_gb=_gigabytes(memory.weight_bytes),
        kv_cache_memory_gb=_gigabytes(memory.kv_cache_bytes),
        cores=group.config.cores or None,
        socket_cores=group.config.device.compute_units if group.config.cores else None,
        max_loras=group.config.max_loras or None,
        model=group.launch.model,
        placements=_placements(group, question),
        compression=_compression(question.architecture, group.config),
        confidence=_confidence(group),
        explanation=_explanation(group.explanation),
        engine_version=group.metadata.engine_version,
        tool_calling_parser_type=group.metadata.tool_calling_parser_type,
        reasoning_parser_type=group.metadata.reasoning_parser_type,
        architecture_family=group.metadata.architecture_family,
        chat_template=group.metadata.chat_template,
        supports_lora=group.metadata.supports_lora,
        supports_pipeline_parallelism=group.metadata.supports_pipeline_parallelism,
    )


def node_configurations(
    request: NodeConfigurationsRequest,
    question: Question,
    found: Sequence[DeviceLayouts],
) -> NodeConfigurations:
    """Return fitting layouts as callers read them."""
    architecture = question.architecture
    smallest = [layouts.min_tp for layouts in found if layouts.min_tp is not None]
    return NodeConfigurations(
        cluster_id=str(request.cluster_id),
        model_info=ModelSize(
            model_id=request.model_id,
            model_name=architecture.model_id,
            model_uri=request.model_uri,
            estimated_weight_memory_gb=_gigabytes(
                architecture.weight_bytes(native_precision(architecture))
            ),
            min_tp_for_model=min(smallest, default=None),
        ),
        device_configurations=[_device_configuration(layouts) for layouts in found],
        selected_nodes=[node.name for cluster in question.clusters for node in cluster.nodes],
        hardware_mode=request.hardware_mode,
    )


def native_precision(architecture: Architecture) -> Precision:
    """Return the format of the checkpoint's own weights."""
    return (
        architecture.quantization.precision
        if architecture.quantization
        else architecture.native_precision
    )


def _device_configuration(found: DeviceLayouts) -> DeviceConfiguration:
    group = found.group
    return DeviceConfiguration(
        device_type=group.label.wire_type,
        device_name=group.label.name,
        device_model=group.label.device_model,
        total_devices=group.devices,
        nodes_count=len(group.slots),
        max_devices_per_node=group.largest_node,
        memory_per_device_gb=_gigabytes(group.memory_free_bytes),
        tp_pp_options=[
            ParallelOption(
                tp_size=layout.tp,
                pp_size=layout.pp,
                max_replicas=layout.max_replicas,
                total_devices_needed=layout.tp * layout.pp,
                description=f"{layout.tp} devices per pipeline stage, {layout.pp} stages",
            )
            for layout in found.layouts
        ],
        min_tp_required=found.min_tp,
        supports_pipeline_parallelism=found.supports_pipeline,
    )


def _endpoints(named: str | None) -> set[str]:
    return {part.strip().upper() for part in (named or "").split(",") if part.strip()}


def _wrong(field: str, message: str) -> PydanticCustomError:
    """Return an error of a check over several fields that names the one to look at."""
    return PydanticCustomError("wrong_field", "{message}", {"field": field, "message": message})


def _refuse_unstorable(value: object) -> None:
    """Databases store neither NUL characters nor half surrogate pairs, which JSON can spell."""
    if _is_storable(value):
        return
    fields = value if isinstance(value, Mapping) else {}
    field = next(
        (str(name) for name, content in fields.items() if not _is_storable(content)), "body"
    )
    raise _wrong(
        field if field.isprintable() else "body",
        "text must be Unicode without NUL characters and half surrogate pairs",
    )


def _is_storable(value: object) -> bool:
    try:
        text = json.dumps(value, ensure_ascii=False, default=str)
        text.encode()
    except UnicodeEncodeError:
        return False
    return "\\u0000" not in text


def _event_content(data: object) -> Mapping[str, Any]:
    if isinstance(data, str):
        try:
            data = json.loads(data)
        except (ValueError, RecursionError):
            data = None
    if not isinstance(data, Mapping):
        raise _wrong("data", "data of a CloudEvent must be a JSON object: the request")
    return data


def _stored_plan(rank: int, plan: Plan, question: Question, native: str) -> StoredPlan:
    groups = [node_group(group, question) for group in plan.groups]
    return StoredPlan(
        rank=rank,
        cluster_id=plan.cluster_id,
        replicas=sum(group.replicas for group in plan.groups),
        concurrency=sum(group.replicas * group.config.concurrency for group in plan.groups),
        ttft_s=plan.ttft_s,
        tokens_per_s_per_user=plan.tokens_per_s_per_user,
        e2e_s=plan.e2e_s,
        error_rate=plan.error_rate,
        cost_per_million_tokens_usd=plan.cost_per_million_tokens_usd,
        cost_usd_per_h=plan.cost_usd_per_h,
        quantized=any(
            bytes_per_value(g.config.weight_precision)
            < min(bytes_per_value(Precision(native)), 2.0)
            for g in plan.groups
        ),
        groups=tuple(
            StoredGroup(config_id=group.config_id, document=group.model_dump(mode="json"))
            for group in groups
        ),
    )


def _metrics(plan: StoredPlan) -> Metrics:
    groups = [group.document for group in plan.groups]
    return Metrics(
        device_types=[
            DeviceTypeMetrics(
                device_type=group["type"],
                num_replicas=group["replicas"],
                concurrency=int(group["labels"]["concurrency"]) * group["replicas"],
                cost_per_million_tokens=group["cost_per_million_tokens"],
            )
            for group in groups
        ],
        replica=plan.replicas,
        concurrency=plan.concurrency,
        ttft=None if plan.ttft_s is None else plan.ttft_s * KILO,
        throughput_per_user=plan.tokens_per_s_per_user,
        e2e_latency=plan.e2e_s,
        error_rate=plan.error_rate,
        cost_per_million_tokens=plan.cost_per_million_tokens_usd,
    )


def _metadata(plan: StoredPlan) -> dict[str, Any]:
    return EngineMetadata.model_validate(plan.groups[0].document).model_dump()


def _placements(group: ReplicaGroup, question: Question) -> list[list[NodeShare]]:
    """Return the nodes of each replica in pipeline order, one share for each pool of devices."""
    used = {part.node_id for replica in group.placements for part in replica}
    nodes = {
        node.node_id: node
        for cluster in question.clusters
        for node in cluster.nodes
        if node.node_id in used
    }
    firsts = {
        (node.node_id, pool): first
        for node in nodes.values()
        for pool, first in _first_devices(node)
    }
    return [
        [
            NodeShare(
                node=part.node_name,
                devices=part.devices,
                first=firsts.get((part.node_id, part.pool), 0),
            )
            for part in replica
        ]
        for replica in group.placements
    ]


def _first_devices(node: Node) -> Iterator[tuple[int, int]]:
    """Yield the index of each pool and the number of its first device, counting those of its kind on the node."""
    counted: Counter[str] = Counter()
    for index, pool in enumerate(node.pools):
        kind = pool.label.wire_type.removesuffix("_high")
        yield index, counted[kind]
        counted[kind] += pool.total


def _compression(architecture: Architecture, config: ReplicaConfig) -> Compression | None:
    job = job_for(architecture, config.weight_precision, config.device)
    if job is None:
        return None
    return Compression(
        checkpoint=architecture.model_id,
        scheme=job.scheme,
        method=job.method,
        recipe=job.recipe_yaml,
        device_memory_gb=_gigabytes(job.device_bytes),
        host_memory_gb=_gigabytes(job.host_bytes),
        hours=round(job.hours, 3),
        cost_usd=round(job.cost_usd, 2),
    )


def _confidence(group: ReplicaGroup) -> Confidence:
    service = group.service
    return Confidence(
        basis=service.basis,
        in_range=service.in_range,
        bound_by=service.bound_by,
        ttft=_range(service.ttft_s, KILO),
        throughput_per_user=_range(service.tokens_per_s_per_user, 1.0),
        e2e_latency=_range(service.e2e_s, 1.0),
    )


TARGET_NAMES = {
    "ttft_s": "ttft",
    "e2e_s": "e2e_latency",
    "tokens_per_s_per_user": "throughput_per_user",
}


def _explanation(found: plans.Explanation) -> Explanation:
    return Explanation(
        time_shares={cause: round(share, 4) for cause, share in found.time_shares.items()},
        headroom={TARGET_NAMES[name]: room for name, room in found.headroom.items()},
        binding_target=TARGET_NAMES.get(found.binding),
        next_replica=_next_replica(found.next_replica) if found.next_replica else None,
    )


def _next_replica(following: plans.NextReplica) -> NextReplica:
    return NextReplica(
        devices=following.devices,
        is_free=following.is_free,
        ttft=following.ttft_s * KILO,
        throughput_per_user=following.tokens_per_s_per_user,
        e2e_latency=following.e2e_s,
        cost_per_million_tokens=following.cost_per_million_tokens_usd,
    )


def _range(figure: Figure, factor: float) -> Range:
    return Range(low=figure.low80 * factor, high=figure.high80 * factor)


def _gigabytes(size_bytes: float) -> float:
    return round(size_bytes / WIRE_GB, 3)
