"""On which nodes each replica is placed, and which devices sets of replicas leave free."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from typing import NamedTuple

from budsim.simulator.planning.hardware_groups import (
    DeviceCount,
    HardwareGroup,
    NodeDevices,
    crosses_nodes,
)
from budsim.simulator.planning.plans import Placement

Replica = tuple[Placement, ...]


class EqualReplicas(NamedTuple):
    """A set of equal replicas of ``tp x pp`` devices each."""

    tp: int
    pp: int
    replicas: int


def place(group: HardwareGroup, tp: int, pp: int, replicas: int) -> tuple[Replica, ...]:
    """Return where each of ``replicas`` replicas lies: one tuple of placements per replica.

    A replica stays on one node where it can; otherwise its pipeline stages lie on the next nodes
    with room. Nodes are left whole where they can be: see `_in_order`. Nodes of 3 and 3 devices, TP
    1 and PP 2: one replica on each node, and the third takes the last device of both.

    Raises
    ------
    ValueError
        More replicas than `HardwareGroup.capacity` says: a bug of the caller.
    """
    if group.is_wide(tp):
        return _over_whole_nodes(group, tp, replicas)
    placed: list[Replica] = []
    left: list[list[Placement]] = []
    for node in _in_order(group, tp * pp, replicas):
        if len(placed) == replicas:
            return tuple(placed)
        stages = _stages(node, tp)
        whole = min(len(stages) // pp, replicas - len(placed))
        placed += [_merged(stages[k * pp : (k + 1) * pp]) for k in range(whole)]
        left += stages[whole * pp :]
    # Stages left over on several nodes make a pipeline only where a link connects them.
    if crosses_nodes(group.device):
        more = min(replicas - len(placed), len(left) // pp)
        placed += [_merged(left[k * pp : (k + 1) * pp]) for k in range(more)]
    if len(placed) < replicas:
        raise ValueError(
            f"{replicas} replicas of tp={tp}, pp={pp} do not fit {group.devices} devices"
        )
    return tuple(placed)


def _over_whole_nodes(group: HardwareGroup, tp: int, replicas: int) -> tuple[Replica, ...]:
    """Return replicas that each take several whole nodes of one link domain."""
    each, placed = tp // group.whole_node, list[Replica]()
    for domain in group.whole_nodes():
        for start in range(0, len(domain) - each + 1, each):
            nodes = domain[start : start + each]
            parts = (stage for node in nodes for stage in _stages(node, group.whole_node))
            placed.append(_merged(parts))
    if len(placed) < replicas:
        raise ValueError(f"{replicas} replicas of {tp} devices do not fit {group.devices} devices")
    return tuple(placed[:replicas])


def free_after(group: HardwareGroup, sets: Sequence[EqualReplicas]) -> HardwareGroup | None:
    """Return what is free once sets of replicas are placed one after another.

    None where they do not fit.
    """
    for tp, pp, replicas in sets:
        if group.capacity(tp, pp) < replicas:
            return None
        group = group.without(devices_of(place(group, tp, pp, replicas)))
    return group


def groups_for_sets(group: HardwareGroup, sets: Sequence[EqualReplicas]) -> list[HardwareGroup]:
    """Return the devices each set of replicas may be placed on.

    All that the others leave, so that no two share a device.

    Each set is placed again on what it may use, so that the sets after it know where it lies.

    Raises
    ------
    ValueError
        They do not fit: a bug of the caller; see `free_after`.
    """
    placed: list[tuple[Replica, ...]] = []
    left = group
    for each in sets:
        placed.append(place(left, *each))
        left = left.without(devices_of(placed[-1]))
    found = []
    for number, each in enumerate(sets):
        others = [replica for at, those in enumerate(placed) if at != number for replica in those]
        found.append(group.without(devices_of(others)))
        placed[number] = place(found[-1], *each)
    return found


def devices_of(replicas: Iterable[Iterable[Placement]]) -> Iterator[DeviceCount]:
    """Yield the devices replicas lie on."""
    return ((part.node_id, part.pool, part.devices) for replica in replicas for part in replica)


def _in_order(group: HardwareGroup, devices: int, replicas: int) -> list[NodeDevices]:
    """Return nodes in the order they are to be filled with replicas of so many devices.

    First the largest that are filled completely, last the smallest that is large enough for the
    rest. Nodes of 8, 4 and 8 devices: one replica of 4 goes to the second, two to the first, three
    to the first and second.
    """
    nodes = sorted(group.nodes, key=lambda node: -(node.free // devices))
    filled, spared = list[NodeDevices](), list[NodeDevices]()
    missing = replicas
    for node in nodes:
        room = node.free // devices
        if 0 < room <= missing:
            filled.append(node)
            missing -= room
        else:
            spared.append(node)
    # Of the nodes that are too large, the smallest comes first; those without room last.
    return [*filled, *sorted(spared, key=lambda node: node.free // devices or group.devices)]


def _stages(node: NodeDevices, tp: int) -> list[list[Placement]]:
    """Return tensor-parallel groups of one node, each as the pools its devices come from.

    Pools of 3 and 5 devices, TP 4: three of the first and one of the second, then four of the
    second.
    """
    stages: list[list[Placement]] = []
    stage: list[Placement] = []
    missing = tp
    node_id, name = node.node.node_id, node.node.name
    for pool, count in node.pools:
        here = count
        while here:
            taken = min(here, missing)
            stage.append(Placement(node_id=node_id, node_name=name, pool=pool, devices=taken))
            here, missing = here - taken, missing - taken
            if not missing:
                stages.append(stage)
                stage, missing = [], tp
    return stages


def _merged(stages: Iterable[Sequence[Placement]]) -> Replica:
    """Return the placements of a replica's stages, neighbours on the same pool as one."""
    merged: list[Placement] = []
    for placement in (placement for stage in stages for placement in stage):
        last = merged[-1] if merged else None
        if last and (last.node_id, last.pool) == (placement.node_id, placement.pool):
            merged[-1] = replace(last, devices=last.devices + placement.devices)
        else:
            merged.append(placement)
    return tuple(merged)
