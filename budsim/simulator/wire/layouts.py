"""Layouts on named hosts: which fit, and node groups for one the caller chose."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Literal

from pydantic import BaseModel, ConfigDict

from budsim.commons.errors import Unanswerable
from budsim.engine_ops import serving_engines
from budsim.hardware_ops.cluster import HardwareMode
from budsim.hardware_ops.device import DeviceKind
from budsim.simulator.planning.plans import ReplicaGroup
from budsim.simulator.planning.question import Question
from budsim.simulator.wire.fields import gigabytes
from budsim.simulator.wire.node_groups import (
    LaunchOverrides,
    NodeGroup,
    checkpoint_precision,
    node_group,
)
from budsim.simulator.wire.requests import BenchmarkRequest, NodeConfigurationsRequest

if TYPE_CHECKING:
    from budsim.simulator.planning.layouts import DeviceLayouts, FittingLayout


# Kinds of device on which the callers' deployer starts pipelines.
PIPELINED = frozenset({DeviceKind.CUDA})


class ModelSize(BaseModel):
    """A model and the least it needs."""

    model_config = ConfigDict(protected_namespaces=())

    model_id: str
    model_name: str
    model_uri: str | None
    estimated_weight_memory_gb: float
    min_tp_for_model: int


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
    min_tp_required: int
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


def node_configurations(
    request: NodeConfigurationsRequest,
    question: Question,
    found: Sequence[DeviceLayouts],
) -> NodeConfigurations:
    """Return fitting layouts as callers read them; devices on which nothing fits are left out.

    Raises
    ------
    Unanswerable
        Nothing fits on any device of the hosts; it says why for each.
    """
    architecture = question.architecture
    devices = [made for layouts in found if (made := _device_configuration(layouts))]
    if not devices:
        reasons = [_why_nothing_fits(layouts, question) for layouts in found]
        raise Unanswerable("; ".join(reasons) or "hostnames: they have no device that can be used")
    return NodeConfigurations(
        cluster_id=str(request.cluster_id),
        model_info=ModelSize(
            model_id=request.model_id,
            model_name=architecture.model_id,
            model_uri=request.model_uri,
            estimated_weight_memory_gb=gigabytes(
                architecture.weight_bytes(checkpoint_precision(architecture))
            ),
            min_tp_for_model=min(device.min_tp_required for device in devices),
        ),
        device_configurations=devices,
        selected_nodes=[node.name for cluster in question.clusters for node in cluster.nodes],
        hardware_mode=request.hardware_mode,
    )


def benchmark_configuration(
    request: BenchmarkRequest, question: Question, group: ReplicaGroup, overrides: LaunchOverrides
) -> BenchmarkConfiguration:
    """Return the node groups of a chosen layout as callers deploy them."""
    return BenchmarkConfiguration(
        cluster_id=str(request.cluster_id),
        model_id=request.model_id,
        node_groups=[node_group(group, question, overrides)],
    )


def _device_configuration(found: DeviceLayouts) -> DeviceConfiguration | None:
    """Return what a kind of device can do; None where nothing fits."""
    group = found.group
    # Callers read both minima as numbers: a device without any layout has no entry at all.
    has_pipelines = group.device.kind in PIPELINED
    options = [layout for layout in found.layouts if layout.pp == 1 or has_pipelines]
    if not options:
        return None
    alone = [layout.tp for layout in options if layout.pp == 1]
    return DeviceConfiguration(
        device_type=group.label.wire_type,
        device_name=group.label.name,
        device_model=group.label.device_model,
        total_devices=group.devices,
        nodes_count=len(group.nodes),
        max_devices_per_node=group.largest_node,
        memory_per_device_gb=gigabytes(group.memory_free_bytes),
        tp_pp_options=[
            ParallelOption(
                tp_size=layout.tp,
                pp_size=layout.pp,
                max_replicas=layout.max_replicas,
                total_devices_needed=layout.tp * layout.pp,
                description=_described(layout),
            )
            for layout in options
        ],
        min_tp_required=min(alone or [layout.tp for layout in options]),
        supports_pipeline_parallelism=found.supports_pipeline and has_pipelines,
    )


def _described(layout: FittingLayout) -> str:
    devices = f"{layout.tp} device{'s' if layout.tp > 1 else ''}"
    return devices if layout.pp == 1 else f"{layout.pp} pipeline stages of {devices} each"


def _why_nothing_fits(found: DeviceLayouts, question: Question) -> str:
    architecture, device, name = question.architecture, found.group.device, found.group.label.name
    refusals = [engine.why_not(architecture, device) for engine in serving_engines.values()]
    # The engines come in the order they are tried, so the first one gives the reason.
    if all(refusals):
        return f"{name}: {refusals[0]}"
    weights = gigabytes(architecture.weight_bytes(checkpoint_precision(architecture)))
    held = gigabytes(found.group.memory_free_bytes) * found.group.devices
    return (
        f"{name}: no layout holds the weights ({weights:g} GB) and one sequence of "
        f"{question.traffic.mean_tokens} tokens; its {found.group.devices} devices have "
        f"{held:g} GB"
    )
