"""What changed knobs would do to a group of whole replicas while every other stays as it is."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import fields, replace

import numpy as np

from budsim.commons.errors import InvalidInput
from budsim.commons.units import GIB
from budsim.engine_ops import serving_engines
from budsim.engine_ops.base import ReplicaConfig, ServingEngine
from budsim.hardware_ops.cluster import Cluster
from budsim.performance.predictions import MemoryUse
from budsim.performance.predictor import Predictor
from budsim.simulator.planning.choices import PRECISIONS, Choices, ServingOption, make_option
from budsim.simulator.planning.hardware_groups import HardwareGroup, usable, with_whole_nodes
from budsim.simulator.planning.knob_changes import (
    FIELD,
    TRAFFIC,
    KnobChange,
    knob_name,
    roomy,
    whole,
    with_knob,
    with_traffic,
)
from budsim.simulator.planning.placement import devices_of
from budsim.simulator.planning.plans import Plan, ReplicaGroup
from budsim.simulator.planning.question import Question
from budsim.simulator.planning.replica_groups import memory_of_row, predict_choices
from budsim.simulator.planning.scoring import Scoring


def change_group(
    question: Question, plan: Plan, predictor: Predictor, changes: Mapping[str, str]
) -> KnobChange:
    """Return what the slowest group of a plan of whole replicas does with knobs changed.

    Errors as those of `what_if`.
    """
    before = plan.slowest
    engine = serving_engines[before.engine]
    named = {knob_name(knob, engine, before): value for knob, value in changes.items()}
    asked, replicas = question_of_group(question, plan, before), before.replicas
    config = before.config
    for name, value in named.items():
        asked, replicas, config = _with(asked, replicas, config, name, value)
    hardware = hardware_of_group(question, plan, before)
    for name in named:
        check_knob(asked, engine, hardware, config, name)
    check_room(hardware, replicas, config)
    scoring = Scoring(asked, (make_option(asked, hardware, engine, (config.weight_precision,)),))
    choices = row_of(config, replicas)
    cluster = question.cluster(plan.cluster_id)
    changed = predict_choices(cluster, scoring, choices, [hardware], predictor)
    problem = why_too_large(changed.scoring, changed.choices, changed.memory)
    after = None if problem else changed.replica_group(0, float(changed.in_flight([0])[0]))
    return KnobChange(
        knob=", ".join(named),
        value=", ".join(named.values()),
        before=before,
        after=after,
        problem=problem,
    )


def option_of_group(
    question: Question, devices: HardwareGroup, group: ReplicaGroup
) -> ServingOption:
    """Return a group's engine on its devices, in its format."""
    engine, weights = serving_engines[group.engine], group.config.weight_precision
    return make_option(question, devices, engine, (weights,))


def question_of_group(question: Question, plan: Plan, group: ReplicaGroup) -> Question:
    """Return the question one group of a plan answers: with its share of the traffic."""
    alone = len(plan.groups) == 1
    if alone:
        return question
    if question.traffic.is_open:
        return question.at_rate(group.replicas * group.service.requests_per_s.value)
    return question.with_concurrency(group.replicas * group.config.concurrency)


def _with(
    question: Question, replicas: int, config: ReplicaConfig, name: str, value: str
) -> tuple[Question, int, ReplicaConfig]:
    """Return question, replicas and configuration with one knob changed."""
    before = config
    if name in TRAFFIC:
        question = with_traffic(question, name, value)
    elif name == "replicas":
        replicas = whole(name, value)
    else:
        config = with_knob(config, name, value)
    config = replace(config, concurrency=-(-question.concurrency // replicas))
    return question, replicas, config if name == "max_num_seqs" else roomy(before, config)


def hardware_of_group(question: Question, plan: Plan, group: ReplicaGroup) -> HardwareGroup:
    """Return the devices the group's replicas may lie on.

    The best that include those they lie on, without other groups'.
    """
    others = (
        replica for other in plan.groups if other is not group for replica in other.placements
    )
    mine = _holding(question, question.cluster(plan.cluster_id), [group])
    return mine.without(devices_of(others))


def hardware_of_pools(question: Question, plan: Plan) -> tuple[HardwareGroup, HardwareGroup]:
    """Return the devices workers of both pools may lie on: the same twice, or two types."""
    cluster = question.cluster(plan.cluster_id)
    prefill, decode = plan.groups
    if prefill.config.device == decode.config.device:
        both = _holding(question, cluster, plan.groups)
        # Pools that lie in one rack were searched there: its link hands their caches over.
        rack = both.largest_domain
        mine = rack if all(_holds(rack, group) for group in plan.groups) else both
        return mine, mine
    return _holding(question, cluster, [prefill]), _holding(question, cluster, [decode])


def _holding(question: Question, cluster: Cluster, groups: Sequence[ReplicaGroup]) -> HardwareGroup:
    """Return the best devices that include those groups of replicas lie on."""
    found = usable(cluster, question.mode, skip_master_cpus=question.skip_master_cpus).groups
    holding = [each for each in found if all(_holds(each, group) for group in groups)]
    mine = min(holding, key=lambda each: each.devices)
    is_wide = any(group.config.tp > mine.largest_node for group in groups)
    return with_whole_nodes(mine) if is_wide else mine


def _holds(hardware: HardwareGroup, group: ReplicaGroup) -> bool:
    """Return whether devices include all those that a group of replicas lies on."""
    where = {(part.node_id, part.pool) for replica in group.placements for part in replica}
    pools = {(node.node.node_id, pool) for node in hardware.nodes for pool, _ in node.pools}
    return hardware.device == group.config.device and where <= pools


def check_knob(
    question: Question,
    engine: ServingEngine,
    hardware: HardwareGroup,
    config: ReplicaConfig,
    name: str,
) -> None:
    """Refuse what the engine cannot do.

    Raises
    ------
    InvalidInput
        Naming the knob, and what would be right.
    """
    architecture, device = question.architecture, hardware.device
    legal: Mapping[str, tuple[object, ...]] = {
        "tp": engine.tp_sizes(architecture, hardware.largest_node),
        "pp": engine.pp_sizes(architecture, hardware.devices),
        "weight_precision": engine.precisions(architecture, device, may_quantize=True),
        "kv_precision": engine.kv_precisions(architecture, device),
    }
    if name in legal and getattr(config, name) not in legal[name]:
        expected = ", ".join(str(value) for value in legal[name])
        raise InvalidInput(
            FIELD,
            f"{engine.name} cannot run {name}={getattr(config, name)} here",
            f"one of {expected}",
        )
    try:
        engine.launch(architecture, config)
    except InvalidInput as error:
        raise InvalidInput(FIELD, f"{error.field} {error.problem}", error.expected) from error


def check_room(hardware: HardwareGroup, replicas: int, config: ReplicaConfig) -> None:
    """Refuse more replicas than the cluster holds, as `InvalidInput`."""
    most = hardware.capacity(config.tp, config.pp)
    if most < replicas:
        raise InvalidInput(
            FIELD,
            f"{replicas} replicas of tp={config.tp}, pp={config.pp} are more than "
            "the cluster holds",
            f"at most {most}",
        )


def row_of(config: ReplicaConfig, replicas: int) -> Choices:
    """Return a configuration as a table of one row, of the first option."""
    values = {
        "option": 0,
        "replicas": replicas,
        "weights": PRECISIONS.index(config.weight_precision),
        "kv": PRECISIONS.index(config.kv_precision),
    }
    names = [column.name for column in fields(Choices)]
    return Choices(
        **{
            name: np.array([values[name] if name in values else getattr(config, name)])
            for name in names
        }
    )


def why_too_large(scoring: Scoring, choices: Choices, memory: MemoryUse) -> str:
    """Return why the only row does not fit in memory, or nothing."""
    if scoring.violation(choices, memory)[0] <= 0:
        return ""
    needs = memory_of_row(memory, 0, float(memory.kv_bytes[0]))
    used = (needs.weight_bytes + needs.activation_bytes + needs.reserved_bytes) / GIB
    held = max(0.0, needs.kv_capacity_tokens)
    return (
        f"does not fit: weights, activations and reserve take {used:.1f} "
        f"of {needs.budget_bytes / GIB:.1f} GiB of a device, and the KV cache holds {held:.0f} "
        f"of the {scoring.context_tokens} tokens of a sequence"
    )
