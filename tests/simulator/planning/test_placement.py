"""Which devices may be used, and where replicas go."""

from collections import Counter
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from budsim.hardware_ops.cluster import HardwareMode
from budsim.simulator.planning.hardware_groups import usable
from budsim.simulator.planning.placement import place
from tests.simulator.situations import make_cluster, make_pool

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
    """Two nodes of four hold one pipeline of two stages of four, one on each.

    A stage of eight fits nowhere.
    """
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
