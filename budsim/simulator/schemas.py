"""The wire contract: every request and answer, and how plans become answers.

The models are grouped by meaning in `budsim.simulator.wire`; this file names them all.
"""

from __future__ import annotations

from budsim.simulator.wire.envelopes import (
    Body,
    Category,
    NotificationMetadata,
)
from budsim.simulator.wire.fields import (
    MAX_TEXT,
    WIRE_GB,
)
from budsim.simulator.wire.layouts import (
    BenchmarkConfiguration,
    DeviceConfiguration,
    ModelSize,
    NodeConfigurations,
    ParallelOption,
    benchmark_configuration,
    node_configurations,
)
from budsim.simulator.wire.messages import (
    STEPS,
    Delivery,
    Error,
    Info,
    WorkflowMetadata,
    WorkflowStep,
)
from budsim.simulator.wire.node_groups import (
    TARGET_NAMES,
    Compression,
    Confidence,
    EngineMetadata,
    Explanation,
    Labels,
    LaunchOverrides,
    NextReplica,
    NodeGroup,
    NodeShare,
    Range,
    node_group,
    output_share,
)
from budsim.simulator.wire.recommendations import (
    MAX_RECOMMENDED_CLUSTERS,
    ClusterMetrics,
    DeploymentConfiguration,
    DeviceTypeMetrics,
    Metrics,
    Reason,
    RecommendationPage,
    Recommendations,
    found_message,
    reason_documents,
    recommendations_of,
    stored_plans,
)
from budsim.simulator.wire.requests import (
    BenchmarkRequest,
    ConfigurationsRequest,
    FeedbackItem,
    HostsRequest,
    NodeConfigurationsRequest,
    RunRequest,
    plan_filter,
)

__all__ = [
    "MAX_RECOMMENDED_CLUSTERS",
    "MAX_TEXT",
    "STEPS",
    "TARGET_NAMES",
    "WIRE_GB",
    "BenchmarkConfiguration",
    "BenchmarkRequest",
    "Body",
    "Category",
    "ClusterMetrics",
    "Compression",
    "Confidence",
    "ConfigurationsRequest",
    "Delivery",
    "DeploymentConfiguration",
    "DeviceConfiguration",
    "DeviceTypeMetrics",
    "EngineMetadata",
    "Error",
    "Explanation",
    "FeedbackItem",
    "HostsRequest",
    "Info",
    "Labels",
    "LaunchOverrides",
    "Metrics",
    "ModelSize",
    "NextReplica",
    "NodeConfigurations",
    "NodeConfigurationsRequest",
    "NodeGroup",
    "NodeShare",
    "NotificationMetadata",
    "ParallelOption",
    "Range",
    "Reason",
    "RecommendationPage",
    "Recommendations",
    "RunRequest",
    "WorkflowMetadata",
    "WorkflowStep",
    "benchmark_configuration",
    "found_message",
    "node_configurations",
    "node_group",
    "output_share",
    "plan_filter",
    "reason_documents",
    "recommendations_of",
    "stored_plans",
]
