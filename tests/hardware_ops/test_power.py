"""Power of the machines around devices."""

from budsim.hardware_ops.catalog import devices
from budsim.hardware_ops.power import host_w


def test_a_server_takes_power_of_its_own() -> None:
    """H100-SXM: 40 + 0.3 x 700 = 250 W for each."""
    assert host_w(devices()["H100-SXM"]) == 250.0
