"""The device catalog: sourced, plausible, quick to read, found by the names machines report."""

import csv
import os
import pickle
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from budsim.commons.errors import CatalogError
from budsim.commons.precision import Precision
from budsim.hardware_ops import catalog
from budsim.hardware_ops.catalog import devices
from budsim.hardware_ops.device import Device, DeviceKind
from budsim.hardware_ops.device_builder import FIGURES
from budsim.hardware_ops.device_names import find_device

MEASUREMENTS = Path(os.environ.get("BUDSIM_DATA", Path(__file__).parents[3] / "shared" / "data"))
NOT_ONE_DEVICE = {"SN40L", "AMD Instinct MI300X 192GB HBM3 (x32)"}


def unlike(law: Callable[[Device], bool]) -> list[str]:
    """Return the names of the devices that break a law."""
    return [device.name for device in devices().values() if not law(device)]


def test_every_figure_has_a_source() -> None:
    """No figure stands without saying where it was read."""
    assert not unlike(lambda device: all(len(device.sources[each]) > 10 for each in FIGURES))


def test_figures_are_within_what_exists() -> None:
    """Memory, bandwidth, power, prices and links are positive and as machines on sale have them."""
    assert not unlike(lambda device: 4e9 < device.memory_bytes < 2e12)
    assert not unlike(lambda device: 10e9 < device.memory_bandwidth_bytes_per_s <= 8e12)
    assert not unlike(lambda device: 10 <= device.tdp_w <= 1500)
    assert not unlike(lambda device: 200 <= device.price_usd <= 100_000)
    assert not unlike(lambda device: 0.01 < device.price_usd_per_h < 20)
    assert not unlike(lambda device: device.compute_units >= 2)
    assert not unlike(lambda device: device.scale_up.bandwidth_bytes_per_s > 0)
    assert not unlike(lambda device: device.scale_out.bandwidth_bytes_per_s > 0)


def test_narrower_formats_are_never_slower() -> None:
    """Dense peaks grow as formats shrink: fp32 <= 16 bit <= fp8 <= 4 bit."""
    order = [Precision.FP32, Precision.BF16, Precision.FP8, Precision.NVFP4]

    def grows(device: Device) -> bool:
        peaks = [device.flops_per_s[each] for each in order if each in device.flops_per_s]
        return peaks == sorted(peaks)

    assert not unlike(grows)


def test_its_own_name_finds_it() -> None:
    """The canonical name, in any case, means this device."""
    assert not unlike(lambda device: find_device(device.name) is device)
    assert not unlike(lambda device: find_device(device.name.upper()) is device)


def test_prices_say_whether_they_are_list_typical_or_derived() -> None:
    """A reader can tell a published price from a guess."""
    for device in devices().values():
        assert device.sources["price_usd"].startswith(("list:", "typical", "derived:"))
        assert device.sources["price_usd_per_h"].startswith(("published:", "estimated:"))


def test_devices_travel_between_processes() -> None:
    """A search runs in a worker: a device survives the trip."""
    device = devices()["B200-SXM"]
    assert pickle.loads(pickle.dumps(device)) == device


@pytest.mark.skipif(
    not MEASUREMENTS.is_dir(), reason="the shared measurements are not in this checkout"
)
def test_every_measured_device_is_known_under_its_kind() -> None:
    """Training finds the data sheet of every row that names one kind of device."""
    for file in MEASUREMENTS.glob("*.csv"):
        with file.open(newline="") as rows:
            measured = {(row["device_type"], row["device_name"]) for row in csv.DictReader(rows)}
        for kind, name in measured:
            if name in NOT_ONE_DEVICE or " (x" in name:
                continue
            found = find_device(name)
            assert found is not None, name
            assert found.kind is DeviceKind(kind)


def test_the_catalog_is_read_in_an_instant() -> None:
    """Reading takes less than 20 ms of processor time when idle; 200 ms are allowed under load."""
    program = (
        "import time; from budsim.hardware_ops.catalog import devices; "
        "start = time.process_time(); devices(); print(time.process_time() - start)"
    )
    out = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    assert float(out.stdout) < 0.2


def test_an_entry_without_a_source_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """A figure nobody can check stops the catalog, and the message names the entry."""
    entry = {
        **catalog.load_catalog(catalog.PACKAGE, "catalog/accelerators.json")[0],
        "sources": {"tdp_w": "a data sheet"},
    }
    monkeypatch.setattr(catalog, "load_catalog", lambda package, name: [entry])
    with pytest.raises(
        CatalogError, match=r"accelerators.json\[0\] \(P100-PCIe-16GB\): no source for memory_bytes"
    ):
        catalog.devices.__wrapped__()  # past the cache, which other tests share
