"""Which devices may be used, and where replicas go."""

from collections import Counter
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from budsim.hardware_ops.cluster import HardwareMode
from budsim.simulator.planning.placement import place, usable
from tests.simulator.situations import make_cluster, make_pool, time_sliced

DEDICATED, SHARED = HardwareMode.DEDICATED, HardwareMode.SHARED


def test_replicas_fill_nodes_without_crossing_them():
    """Nodes of 8 and 4 devices hold two plus one replicas of four; node 1's lies on node 1."""
    group = usable(
        make_cluster((("H100-SXM", 8),), (("H100-SXM", 4),)), DEDICATED, skip_master_cpus=True
    ).groups[0]
    assert group.capacity(4, 1) == 3
    assert [
        [(part.node_id, part.devices) for part in replica] for replica in place(group, 4, 1, 3)
    ] == [
        [("n0", 4)],
        [("n0", 4)],
        [("n1", 4)],
    ]


def test_a_pipeline_crosses_nodes_where_a_stage_does_not():
    """Two nodes of four hold one pipeline of two stages of four, one on each; a stage of eight fits nowhere."""
    group = usable(
        make_cluster((("H100-SXM", 4),), (("H100-SXM", 4),)), DEDICATED, skip_master_cpus=True
    ).groups[0]
    assert group.capacity(8, 1) == 0
    assert [
        [(part.node_id, part.devices) for part in replica] for replica in place(group, 4, 2, 1)
    ] == [[("n0", 4), ("n1", 4)]]


def test_a_pipeline_stays_on_a_node_without_a_link():
    """Devices without a link out of their node never share a pipeline across nodes."""
    group = usable(
        make_cluster((("H100-SXM", 4),), (("H100-SXM", 4),)), DEDICATED, skip_master_cpus=True
    ).groups[0]
    link = replace(group.device.scale_out, bandwidth_bytes_per_s=0.0)
    alone = replace(group, device=replace(group.device, scale_out=link))
    assert alone.capacity(4, 2) == 0
    with pytest.raises(ValueError, match="do not fit"):
        place(alone, 4, 2, 1)


def test_different_devices_of_one_node_are_never_mixed():
    """A node with four A100 and two T4 makes two groups of four and two."""
    groups = usable(
        make_cluster((("A100-SXM4-80GB", 4), ("T4", 2))), DEDICATED, skip_master_cpus=True
    ).groups
    assert [(group.device.name, group.devices) for group in groups] == [("A100-80GB", 4), ("T4", 2)]


@pytest.mark.parametrize(
    ("change", "reason"),
    [({"is_up": False}, "down"), ({"is_master": True}, "master")],
    ids=["down", "master"],
)
def test_nodes_are_left_alone_for_a_reason(change, reason):
    """Devices of a node that is down, and CPUs of a master, are rejected by count with the reason."""
    whole = make_cluster((("Xeon 6972P", 2),))
    changed = replace(whole, nodes=(replace(whole.nodes[0], **change),))
    found = usable(changed, DEDICATED, skip_master_cpus=True)
    assert not found.groups
    assert [(each.devices, reason in each.reason) for each in found.rejections] == [(2, True)]


def test_masters_lend_their_cpus_when_told():
    """Without `skip_master_cpus` a master's CPUs are used like any other."""
    whole = make_cluster((("Xeon 6972P", 2),))
    master = replace(whole, nodes=(replace(whole.nodes[0], is_master=True),))
    assert usable(master, DEDICATED, skip_master_cpus=False).groups[0].devices == 2


def test_an_unknown_device_is_called_unknown():
    """A device the catalog lacks is rejected as unknown; nobody else's figures stand in for it."""
    found = usable(make_cluster((("Frobnicator-9000", 2),)), DEDICATED, skip_master_cpus=True)
    assert not found.groups
    assert "unknown device" in found.rejections[0].reason


def test_time_sliced_devices_keep_what_others_left():
    """Shared mode offers all four GPUs, and the better ones alone with the memory and compute they have left."""
    groups = usable(time_sliced(), SHARED, skip_master_cpus=True).groups
    assert {group.devices: round(group.compute_share, 2) for group in groups} == {
        2: 1.0,
        3: 0.6,
        4: 0.15,
    }
    assert max(group.memory_free_bytes for group in groups) == groups[0].device.memory_bytes


def test_time_sliced_devices_form_tensor_parallel_groups():
    """Two GPUs of one node with an inventory entry each make one replica of two."""
    group = usable(time_sliced(), SHARED, skip_master_cpus=True).groups[0]
    assert [(part.pool, part.devices) for part in place(group, 2, 1, 1)[0]] == [(0, 1), (1, 1)]


def test_modes_do_not_mix():
    """Dedicated mode takes whole devices only, shared mode time-sliced ones only."""
    assert (
        sum(r.devices for r in usable(time_sliced(), DEDICATED, skip_master_cpus=True).rejections)
        == 2
    )
    assert not usable(make_cluster((("H100-SXM", 8),)), SHARED, skip_master_cpus=True).groups


NODES = st.lists(st.tuples(st.integers(0, 9), st.integers(0, 9)), min_size=1, max_size=8)


@settings(max_examples=60)
@given(nodes=NODES, tp=st.integers(1, 9), pp=st.integers(1, 4))
def test_no_device_is_in_two_replicas(nodes, tp, pp):
    """L8: no device is in two replicas; a tensor-parallel group does not cross nodes."""
    whole = make_cluster(*[(("H100-SXM", 8),)] * len(nodes))
    made = tuple(
        replace(node, pools=tuple(make_pool("H100-SXM", 9, available=free) for free in frees))
        for node, frees in zip(whole.nodes, nodes, strict=True)
    )
    groups = usable(replace(whole, nodes=made), DEDICATED, skip_master_cpus=True).groups
    if not groups:
        assert not any(map(sum, nodes))
        return
    used: Counter[tuple[str, int]] = Counter()
    for replica in place(groups[0], tp, pp, groups[0].capacity(tp, pp)):
        on_node: Counter[str] = Counter()
        for part in replica:
            used[part.node_id, part.pool] += part.devices
            on_node[part.node_id] += part.devices
        assert sum(on_node.values()) == tp * pp
        assert all(devices % tp == 0 for devices in on_node.values())
    free = {
        (f"n{k}", index): count
        for k, frees in enumerate(nodes)
        for index, count in enumerate(frees)
    }
    assert all(count <= free[where] for where, count in used.items())


def test_capacity_is_computed_from_node_sizes_not_nodes():
    """Two thousand nodes of one size are one entry to compute with."""
    group = usable(make_cluster(*[(("L40S", 4),)] * 2000), DEDICATED, skip_master_cpus=True).groups[
        0
    ]
    assert group.sizes == ((4, 2000),)
    assert group.capacity(4, 1) == 2000
