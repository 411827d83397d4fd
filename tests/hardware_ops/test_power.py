"""Power of devices under load and of the machines around them."""

import pytest

from budsim.commons.errors import InvalidInput
from budsim.hardware_ops.catalog import devices
from budsim.hardware_ops.power import PowerSite, device_w, host_w


def test_a_server_takes_power_of_its_own() -> None:
    """H100-SXM: 40 + 0.3 x 700 = 250 W for each."""
    assert host_w(devices()["H100-SXM"]) == 250.0


def test_power_is_between_idle_and_the_tdp() -> None:
    """An idle H100 draws 84 W, one that reads memory all the time 637 W, none more than 700 W."""
    h100 = devices()["H100-SXM"]
    assert device_w(h100, memory=0.0, compute=0.0) == pytest.approx(84.0)
    assert device_w(h100, memory=1.0, compute=0.0) == pytest.approx(637.0)
    assert device_w(h100, memory=0.5, compute=0.5) == 700.0
    assert device_w(h100, memory=1.0, compute=0.0, busy=0.5) == pytest.approx(360.5)


@pytest.mark.parametrize(("name", "value"), [("pue", 0.5), ("g_co2_per_kwh", -1.0)])
def test_a_wrong_site_is_refused(name: str, value: float) -> None:
    """The message names the value that is out of range."""
    with pytest.raises(InvalidInput, match=f"^{name}: is {value}"):
        PowerSite(**{name: value})
