"""What is listed twice counts once."""

from budsim.hardware_ops.inventory import read_inventory
from tests.hardware_ops.inventories import H100, SLICE, inventory


def test_nothing_is_listed_twice() -> None:
    """What is named twice would count twice: the second is unusable and says where the first is."""
    one, other = inventory(SLICE), inventory(H100)
    other[0]["id"] = "d"
    for payload, path in (
        (one + inventory(H100), "clusters[1].id"),
        (one + other, "clusters[1].nodes[0].id"),
        (inventory(SLICE, SLICE), "clusters[0].nodes[0].devices[1].device_uuid"),
    ):
        first, second = (pool for cluster in read_inventory(payload) for _, pool in cluster.pools())
        assert first.available == 1
        assert second.available == 0
        assert second.unavailable_reason.startswith(f"{path}: is ")
        assert "once" in second.unavailable_reason
