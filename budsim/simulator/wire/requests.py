"""Requests: what callers send."""

from __future__ import annotations

import json
from enum import StrEnum
from hashlib import sha256
from typing import Annotated, Self
from uuid import UUID

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from budsim.engine_ops.limits import DEFAULT_MAX_LORA_RANK
from budsim.hardware_ops.cluster import HardwareMode
from budsim.performance.traffic import Arrivals, ClosedLoop, OpenLoop, Traffic
from budsim.simulator.http import examples
from budsim.simulator.planning.question import (
    CAUTIOUS_CHANCE,
    USUAL_CHANCE,
    Disaggregation,
    Risk,
)
from budsim.simulator.storage.records import Feedback, Json, PlanFilter
from budsim.simulator.wire.costs import CostFields
from budsim.simulator.wire.envelopes import Body
from budsim.simulator.wire.fields import (
    MAX_TEXT,
    Chance,
    Concurrency,
    Flag,
    LoraRank,
    Loras,
    Parallel,
    Text,
    Threshold,
    Tokens,
    told_as,
    wrong_field,
)
from budsim.simulator.wire.guesses import SpeculationFields
from budsim.simulator.wire.kv_stores import KvTierFields
from budsim.simulator.wire.traffic import Arrival, DailyFields, LoadFields, TrafficFields

# Endpoints whose models answer with vectors or scores.
POOLING_ENDPOINTS = frozenset({"EMBEDDING", "CLASSIFY", "RERANK"})
# Endpoints whose models generate text; callers name further ones, which decide nothing.
GENERATING_ENDPOINTS = frozenset({"LLM", "AUDIO"})

MAX_ENGINES = 16

RiskOrChance = Annotated[Risk | Chance, told_as("a number from 0 to below 1, expected or cautious")]


class SimulationMethod(StrEnum):
    """How plans are found: trained regressors and a search, or physics on a fixed grid."""

    REGRESSOR = "regressor"
    HEURISTIC = "heuristic"


class SearchRequest(TrafficFields, SpeculationFields, KvTierFields, CostFields, Body):
    """Fields of all questions that are answered by a search."""

    model_config = ConfigDict(extra="forbid", protected_namespaces=())

    pretrained_model_uri: Text = Field(
        description="Hugging Face id, or a path under MODEL_REGISTRY_DIR"
    )
    model_uri: str | None = Field(
        None,
        max_length=MAX_TEXT,
        description="Hugging Face id, for engine compatibility and parsers",
    )
    cluster_id: UUID | None = Field(None, description="restrict to one cluster")
    is_quantization: Flag = Field(False, description="simulate the quantized model")
    quantization_method: str | None = Field(None, max_length=MAX_TEXT)
    quantization_type: str | None = Field(None, max_length=MAX_TEXT)
    simulation_method: SimulationMethod | None = Field(None, description="null: regressor")
    risk: RiskOrChance | None = Field(
        None,
        description="least chance of meeting all targets a plan must have, 0 to below 1 (null: "
        f"{USUAL_CHANCE}); expected: 0, compare the best estimates; cautious: {CAUTIOUS_CHANCE}",
    )
    hardware_mode: HardwareMode = HardwareMode.DEDICATED
    model_endpoints: str | None = Field(
        None,
        max_length=MAX_TEXT,
        description="comma list of LLM, EMBEDDING, AUDIO, CLASSIFY, RERANK; with EMBEDDING, "
        "CLASSIFY or RERANK and without LLM and AUDIO the model generates no text; others ignored",
    )
    model_max_context_length: Tokens | None = Field(
        None, description="caps the sequence length, tokens"
    )
    engines: Annotated[list[Text], Field(max_length=MAX_ENGINES)] | None = Field(
        None, description="serving engines that may be used (vllm, sglang); null: all of this site"
    )
    disaggregated: Disaggregation = Field(
        Disaggregation.OFF,
        description="workers of their own for prefill and decode: off; also, where that is better; "
        "only. Such a deployment has two node groups, with their role",
    )
    max_loras: Loras = Field(0, description="LoRA adapters every replica serves at a time; 0: none")
    max_lora_rank: LoraRank = Field(DEFAULT_MAX_LORA_RANK, description="highest rank of an adapter")

    @field_validator("hardware_mode", mode="before")
    @classmethod
    def _default_mode(cls, value: object) -> object:
        return HardwareMode.DEDICATED if value is None else value

    @property
    def wanted_cluster(self) -> str | None:
        """Id of the only cluster that may be used, or None."""
        return str(self.cluster_id) if self.cluster_id else None

    @property
    def may_mix(self) -> bool:
        """Whether a deployment may have replicas of several kinds."""
        return False

    @property
    def pooling(self) -> bool:
        """Whether only vectors and scores are wanted of the model, no text."""
        wanted = _endpoints(self.model_endpoints)
        return bool(wanted & POOLING_ENDPOINTS) and not wanted & GENERATING_ENDPOINTS


class RunRequest(LoadFields, SearchRequest):
    """What should be deployed for which traffic and targets (`POST /simulator/run`)."""

    model_config = ConfigDict(json_schema_extra={"examples": [examples.RUN]})

    is_proprietary_model: Flag = Field(description="cloud model, called through LiteLLM")
    allow_mixed: Flag = Field(
        False,
        description="a deployment may have node groups of several device types or layouts; "
        "false: one node group",
    )
    offer_checkpoint: Flag = Field(
        False,
        description="also search a published quantized checkpoint of the model, and name it in "
        "`reasons` where it meets the targets for a fifth less; takes as long as the search itself",
    )

    @model_validator(mode="after")
    def _require_targets(self) -> Self:
        wanted = ("target_ttft", "target_throughput_per_user", "target_e2e_latency")
        missing = [name for name in wanted if name not in self.model_fields_set]
        if missing and not self.is_proprietary_model:
            others = f", like {' and '.join(missing[1:])}" if missing[1:] else ""
            told = f"required for open models{others}; null or 0: no target"
            raise wrong_field(missing[0], told)
        return self

    @property
    def may_mix(self) -> bool:
        """Whether a deployment may have replicas of several kinds."""
        return self.allow_mixed

    def fingerprint(self) -> str:
        """Return a digest of the question; a repeated delivery has other trace ids and the same."""
        # Without defaults: fields of later versions must leave digests of old requests alone.
        asked = self.model_dump(mode="json", exclude=set(Body.model_fields), exclude_defaults=True)
        return sha256(json.dumps(asked, sort_keys=True).encode()).hexdigest()

    def stored(self) -> Json:
        """Return the request as JSON that validates to an equal one."""
        # What was not said stays unsaid: a missing target is a mistake, a null one is a choice.
        fields = self.model_fields_set | {"hardware_mode"}
        return self.model_dump(mode="json", include=set(fields) - {"data", "topic", "pubsubname"})


class CapacityRequest(SearchRequest):
    """How many requests each cluster serves within the targets (`POST /simulator/capacity`)."""

    model_config = ConfigDict(json_schema_extra={"examples": [examples.CAPACITY]})

    arrival: Arrival | None = Field(
        None,
        description="find the largest rate of requests that come by this process: constant, "
        "poisson, gamma:VARIATION, burst:SIZE; null: the most requests in flight",
    )

    @model_validator(mode="after")
    def _require_a_latency(self) -> Self:
        if self.arrival is None and not self.targets.bound_latency:
            told = "requests in flight may wait for ever; expected target_ttft, target_e2e_latency "
            raise wrong_field("target_ttft", f"{told}or one at a percentile")
        return self

    @property
    def arrivals(self) -> Arrivals:
        """When requests come; their number or rate does not matter."""
        if self.arrival is None:
            return ClosedLoop(concurrency=1)
        return OpenLoop.named(self.arrival, 1.0)


class DayRequest(DailyFields, SearchRequest):
    """How many replicas each hour of a day needs (`POST /simulator/day`)."""

    model_config = ConfigDict(json_schema_extra={"examples": [examples.DAY]})


class FeedbackItem(BaseModel):
    """What became of one deployed configuration."""

    model_config = ConfigDict(extra="forbid")

    config_id: Text
    failed: Flag
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

    @property
    def traffic(self) -> Traffic:
        """The traffic in the core's words."""
        return Traffic.closed(
            input_tokens=self.input_tokens,
            output_tokens=self.output_tokens,
            concurrency=self.concurrency,
        )


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


def plan_filter(cluster_id: UUID | None, concurrency: int | None, threshold: float) -> PlanFilter:
    """Return a filter over stored plans from wire values."""
    return PlanFilter(
        cluster_id=str(cluster_id) if cluster_id else None,
        concurrency=concurrency,
        error_rate_threshold=threshold,
    )


def _endpoints(named: str | None) -> set[str]:
    return {part.strip().upper() for part in (named or "").split(",") if part.strip()}
