"""Which engine can serve the model on which devices of a cluster, and why others cannot."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from budsim.commons.precision import Precision
from budsim.engine_ops import serving_engines
from budsim.engine_ops.base import ServingEngine
from budsim.hardware_ops.cluster import Cluster
from budsim.simulator.planning.choices import ServingOption, make_option, spanning_nodes
from budsim.simulator.planning.hardware_groups import HardwareGroup
from budsim.simulator.planning.host_memory import host_memory_note, prefix_note
from budsim.simulator.planning.kv_stores import store_note
from budsim.simulator.planning.plans import Rejection
from budsim.simulator.planning.question import Question
from budsim.simulator.planning.scoring import fitting_layouts_of

# Notes on what caches keep, and on KV cache beyond the device.
CACHE_NOTES = (prefix_note, host_memory_note, store_note)


def serving_options(
    question: Question, cluster: Cluster, groups: Sequence[HardwareGroup]
) -> tuple[list[ServingOption], list[Rejection]]:
    """Return every engine on every group that can serve the model, and reasons for others.

    Devices that no engine serves are counted in one rejection each; a reason about one engine of
    several counts none.
    """
    options: list[ServingOption] = []
    rejections: list[Rejection] = []
    for device in dict.fromkeys(group.device for group in groups):
        same = spanning_nodes(question, (group for group in groups if group.device == device))
        found, reasons = _on_device(question, same)
        options += found
        if not found:
            reasons = reasons or ["no engine was asked for"]
        counted = 0 if found else max(group.devices for group in same)
        rejections += _rejections_of_device(cluster, same[0], reasons, counted)
    return options, rejections


def _rejections_of_device(
    cluster: Cluster, group: HardwareGroup, reasons: Sequence[str], devices: int
) -> list[Rejection]:
    """Return one rejection for each reason, the last of which counts the devices."""
    # Each device is counted once, in the last reason, so that counts add up.
    return [
        Rejection(
            cluster_id=cluster.cluster_id,
            subject=group.label.name,
            reason=reason,
            devices=devices if reason == reasons[-1] else 0,
        )
        for reason in dict.fromkeys(reasons)
    ]


def _on_device(
    question: Question, groups: Sequence[HardwareGroup]
) -> tuple[list[ServingOption], list[str]]:
    """Return the engines that serve the model on one device type, and why others do not."""
    options: list[ServingOption] = []
    reasons: list[str] = []
    for name, engine in serving_engines.items():
        if question.engines and name not in question.engines:
            continue
        weights, reason = _weight_formats(question, groups[0], engine)
        found = (make_option(question, group, engine, weights) for group in groups if weights)
        options += [_with_caches_that_fit(question, option) for option in found]
        notes = (note(question, groups[0], engine) for note in CACHE_NOTES)
        reasons += filter(None, (reason, *notes))
    return options, reasons


def _with_caches_that_fit(question: Question, option: ServingOption) -> ServingOption:
    """Return the option, with quantized KV caches too where the plain one fits in no layout.

    A cache in FP8 keeps most of the quality; it is better than no answer, and the plan names it.
    """
    device = option.group.device
    formats = option.engine.kv_precisions(question.architecture, device)
    if option.kv == formats or question.architecture.is_embedding:
        return option
    most = replace(option, memory_fraction=(max(option.memory_fraction),))
    return option if fitting_layouts_of(question, most) else replace(option, kv=formats)


def _weight_formats(
    question: Question, group: HardwareGroup, engine: ServingEngine
) -> tuple[tuple[Precision, ...], str]:
    """Return the weight formats to try, or none and the reason."""
    architecture, device = question.architecture, group.device
    reason = engine.why_not(architecture, device) or _why_not_layout(question, engine)
    if reason:
        return (), reason if engine.name in reason else f"{engine.name}: {reason}"
    # An engine without adapters for a family would start and then refuse every adapter.
    if _lacks_lora(question, engine):
        return (), f"{engine.name} serves no LoRA adapters of {architecture.family}"
    formats = engine.precisions(architecture, device, may_quantize=question.may_quantize)
    wanted = question.weight_precision
    if wanted is None:
        return formats, "" if formats else f"{engine.name} has no weight format for {device.name}"
    if wanted in formats:
        return (wanted,), ""
    offered = ", ".join(formats) or "none"
    problem = f"{engine.name} does not run {wanted} weights on {device.name}"
    return (), f"{problem}; it offers {offered}"


def _lacks_lora(question: Question, engine: ServingEngine) -> bool:
    """Return whether the question has LoRA adapters that the engine cannot serve."""
    return bool(question.max_loras) and not engine.metadata(question.architecture).supports_lora


def _why_not_layout(question: Question, engine: ServingEngine) -> str | None:
    """Return why an engine cannot serve the model in the question's own layout, or None."""
    layout, architecture = question.layout, question.architecture
    if layout is None:
        return None
    if layout.tp not in engine.tp_sizes(architecture, layout.tp):
        return f"{engine.name} cannot split this model over {layout.tp} devices"
    if layout.pp not in engine.pp_sizes(architecture, layout.tp * layout.pp):
        return f"{engine.name} cannot run this model in a pipeline of {layout.pp}"
    return None
