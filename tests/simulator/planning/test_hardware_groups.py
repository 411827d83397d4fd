"""Which devices may be used, and what groups they make."""

from dataclasses import replace

import pytest

from budsim.hardware_ops.cluster import Cluster, HardwareMode, Node
from budsim.simulator.planning.hardware_groups import HardwareGroup, usable, with_whole_nodes
from budsim.simulator.planning.placement import place
from tests.simulator.situations import make_cluster, make_pool, time_sliced

DEDICATED, SHARED = HardwareMode.DEDICATED, HardwareMode.SHARED


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
    """Devices of a node that is down.

    CPUs of a master, are rejected by count with the reason.
    """
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


def test_mig_slices_join_no_replica():
    """Four slices hold four replicas of one device, and none of two."""
    cluster = make_cluster((("NVIDIA H100 80GB HBM3 MIG 3g.40gb", 4),))
    (group,) = usable(cluster, DEDICATED, skip_master_cpus=True).groups
    assert (group.largest_node, group.capacity(1, 1)) == (1, 4)
    assert group.capacity(2, 1) == group.capacity(1, 2) == 0


def test_an_unknown_device_is_called_unknown():
    """A device the catalog lacks is rejected as unknown; nobody else's figures stand in for it."""
    found = usable(make_cluster((("Frobnicator-9000", 2),)), DEDICATED, skip_master_cpus=True)
    assert not found.groups
    assert "unknown device" in found.rejections[0].reason
    mistyped = usable(make_cluster((("H100SMX", 2),)), DEDICATED, skip_master_cpus=True)
    assert mistyped.rejections[0].reason.endswith("; close to it: H100-SXM, H800-SXM, H200-SXM")


def test_time_sliced_devices_keep_what_others_left():
    """Shared mode offers all four GPUs.

    The better ones alone with the memory and compute they have left.
    """
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


def test_capacity_is_computed_from_node_sizes_not_nodes():
    """Two thousand nodes of one size are one entry to compute with."""
    group = usable(make_cluster(*[(("L40S", 4),)] * 2000), DEDICATED, skip_master_cpus=True).groups[
        0
    ]
    assert group.sizes == ((4, 2000),)
    assert group.capacity(4, 1) == 2000


@pytest.mark.parametrize(("busy", "used"), [(0.0, True), (0.049, True), (0.05, False)])
def test_a_busy_processor_is_not_used_as_a_dedicated_device(busy, used):
    """Below 5 % of its cores a processor's other work is its node's own.

    From there on it is left alone.
    """
    pool = make_pool("Xeon 6972P", 2, compute_free_share=1.0 - busy)
    node = Node(node_id="c0", name="cpu-0", pools=(pool,))
    found = usable(
        Cluster(cluster_id="lab", name="lab", nodes=(node,)), DEDICATED, skip_master_cpus=True
    )
    assert bool(found.groups) is used
    assert [each.devices for each in found.rejections] == ([] if used else [2])


def test_a_processor_can_be_shared():
    """In shared mode a processor is offered with what its node's other work leaves of it."""
    pool = make_pool("Xeon 6972P", 2, compute_free_share=0.6)
    node = Node(node_id="c0", name="cpu-0", pools=(pool,))
    found = usable(
        Cluster(cluster_id="lab", name="lab", nodes=(node,)), SHARED, skip_master_cpus=True
    )
    assert [(group.devices, group.compute_share) for group in found.groups] == [(2, 0.6)]


def group_of(device: str, *counts: int) -> HardwareGroup:
    """Return the group of one node for each count of devices."""
    cluster = make_cluster(*(((device, count),) for count in counts))
    return with_whole_nodes(usable(cluster, DEDICATED, skip_master_cpus=True).groups[0])


def test_whole_nodes_make_groups_of_sixteen_and_more():
    """Four nodes of eight H200 hold groups of 16 and 32; a node of six is no part of them."""
    assert group_of("H200-SXM", 8, 8, 8, 8).wide_sizes == (16, 32)
    assert group_of("H200-SXM", 8, 6, 8).wide_sizes == (16,)
    assert group_of("H200-SXM", 8).wide_sizes == ()


def test_a_wide_group_takes_whole_nodes():
    """L8: groups of 16 on five nodes of eight are two, each on two nodes of its own."""
    group = group_of("H200-SXM", 8, 8, 8, 8, 8)
    assert group.capacity(16, 1) == 2
    placed = place(group, 16, 1, 2)
    where = [[(part.node_id, part.devices) for part in replica] for replica in placed]
    assert where == [[("n0", 8), ("n1", 8)], [("n2", 8), ("n3", 8)]]
    assert group.capacity(16, 2) == 0


def test_a_wide_group_stays_in_its_link_domain():
    """19 trays of four GB200 are a domain of 72 devices and a tray: one group of 64, no second."""
    group = group_of("GB200", *[4] * 19)
    assert group.is_linked(64)
    assert group.capacity(64, 1) == 1
    assert group.capacity(8, 1) == 9
    assert not group_of("H200-SXM", 8, 8).is_linked(16)


def test_taken_nodes_hold_no_wide_group():
    """Without three devices of the second of three nodes, one group of 16 is left."""
    group = group_of("H200-SXM", 8, 8, 8).without([("n1", 0, 3)])
    assert group.capacity(16, 1) == 1
    assert [part.node_id for part in place(group, 16, 1, 1)[0]] == ["n0", "n2"]


def test_a_link_joins_the_devices_of_its_node_only():
    """Of two nodes of four H100, NVLink joins four devices; the eight of one node are all joined.

    Each of four MI300X has three of the seven links it has among eight; an NVL72 joins its nodes.
    """
    halves, whole, mesh, rack = (
        usable(make_cluster(*[((name, count),)] * 2), DEDICATED, skip_master_cpus=True).groups[0]
        for name, count in (("H100-SXM", 4), ("H100-SXM", 8), ("MI300X", 4), ("GB200", 4))
    )
    joined = [each.device.scale_up.domain_devices for each in (halves, whole, mesh, rack)]
    assert joined == [4, 8, 4, 72]
    alone = make_cluster((("MI300X", 8),))
    (full,) = usable(alone, DEDICATED, skip_master_cpus=True).groups
    links = [each.device.scale_up.bandwidth_bytes_per_s for each in (mesh, full)]
    assert links[0] == pytest.approx(3 / 7 * links[1])


def test_dense_models_do_not_span_halves_of_a_server():
    """Eight devices of two nodes of four are no tensor-parallel group of one fast link."""
    halves = make_cluster(*[(("H100-SXM", 4),)] * 2)
    (group,) = usable(halves, DEDICATED, skip_master_cpus=True).groups
    wide = with_whole_nodes(group)
    assert wide.is_wide(8)
    assert not wide.is_linked(8)
    assert wide.device_of_whole_servers.scale_up.domain_devices == 8


def test_what_is_left_of_two_servers_is_not_one_link():
    """Four free devices on each of two nodes of eight are joined by the network."""
    cluster = make_cluster(*[(("H100-SXM", 8),)] * 2)
    busy = tuple(
        replace(node, pools=tuple(replace(pool, available=4) for pool in node.pools))
        for node in cluster.nodes
    )
    left = usable(replace(cluster, nodes=busy), DEDICATED, skip_master_cpus=True).groups[0]
    assert with_whole_nodes(left).is_wide(8)
    assert not with_whole_nodes(left).is_linked(8)
    assert not left.is_one_domain
