"""A cluster lists its pools node by node."""

from __future__ import annotations

from budsim.hardware_ops.cluster import Cluster, DeviceLabel, DevicePool, HardwareMode, Node


def pool(name: str) -> DevicePool:
    """Return a pool of one device that the catalog does not know."""
    label = DeviceLabel(name=name, raw_name=name, device_model="", wire_type="cuda")
    return DevicePool(device=None, label=label, total=1, available=1, memory_free_bytes=0.0)


def test_pools_come_with_their_node_in_inventory_order() -> None:
    """Two pools of the first node, then one of the second."""
    nodes = (
        Node(node_id="1", name="one", pools=(pool("a"), pool("b"))),
        Node(node_id="2", name="two", pools=(pool("c"),)),
    )
    cluster = Cluster(cluster_id="c", name="c", nodes=nodes)
    listed = [(node.name, each.label.name) for node, each in cluster.pools()]
    assert listed == [("one", "a"), ("one", "b"), ("two", "c")]


def test_devices_are_used_whole_unless_the_inventory_says_otherwise() -> None:
    """Nothing stated: dedicated devices with all of their arithmetic, on a node that is up."""
    cluster = Cluster(cluster_id="c", name="c", nodes=())
    assert cluster.mode is HardwareMode.DEDICATED
    assert pool("a").compute_free_share == 1.0
    assert Node(node_id="1", name="one", pools=()).is_up
