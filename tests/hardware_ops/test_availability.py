"""Who can have which device: segments and years of sale, each with a source."""

import pytest

from budsim.hardware_ops.availability import accelerator_availability
from budsim.hardware_ops.catalog import devices
from budsim.hardware_ops.device import Availability, DeviceKind, Segment


def availability(name: str) -> Availability:
    """Return what the catalog says of a device."""
    found = devices()[name].availability
    assert found is not None
    return found


@pytest.mark.parametrize(
    ("name", "segment", "is_sold"),
    [
        ("H100-SXM", Segment.DATA_CENTER, True),
        ("A100-80GB", Segment.DATA_CENTER, False),
        ("H800-SXM", Segment.DATA_CENTER, False),
        ("RTX-6000-Ada", Segment.WORKSTATION, True),
        ("RTX5070Ti", Segment.DESKTOP, True),
        ("RTX3090", Segment.DESKTOP, False),
        ("Jetson-Orin", Segment.EMBEDDED, True),
        ("MI355X", Segment.DATA_CENTER, True),
        ("EPYC 9654", Segment.DATA_CENTER, True),
        ("EPYC 9R14", Segment.DATA_CENTER, False),
        ("Graviton4", Segment.DATA_CENTER, False),
    ],
)
def test_a_device_says_what_it_is_for_and_whether_it_is_sold(
    name: str, segment: Segment, is_sold: bool
) -> None:
    """Boards past their last sale, and parts clouds keep for themselves, cannot be bought."""
    found = availability(name)
    assert (found.segment, found.is_sold) == (segment, is_sold)


def test_b100_was_never_sold() -> None:
    """It was announced and not shipped; every other product was sold or can be rented."""
    absent = {name for name in devices() if not availability(name).exists}
    # A measured site's own setting of a device is no product.
    assert absent == {"B100-SXM", "H100-SXM(power-capped)"}


def test_every_device_has_its_years_with_a_source() -> None:
    """No accelerator is left out of the table, and none is in it that the catalog lacks."""
    known = {name for name, device in devices().items() if device.kind is not DeviceKind.CPU}
    assert set(accelerator_availability()) == known
    for name in devices():
        found = availability(name)
        assert len(found.source) > 20
        if found.sold_from and found.sold_until:
            assert found.sold_from <= found.sold_until
