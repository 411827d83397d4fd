"""Instance types of clouds name their devices, each with a source."""

import pytest

from budsim.commons.errors import InvalidInput
from budsim.hardware_ops.device import DeviceKind
from budsim.hardware_ops.instances import find_instance, instances


@pytest.mark.parametrize(
    ("name", "count", "device"),
    [
        ("p5.48xlarge", 8, "H100-SXM"),
        ("P5EN.48xlarge", 8, "H200-SXM"),
        ("g6e.12xlarge", 4, "L40S"),
        ("a3-highgpu-8g", 8, "H100-SXM"),
        ("a4x-highgpu-4g", 4, "GB200"),
        ("g2-standard-24", 2, "L4"),
        ("Standard_ND96isr_H100_v5", 8, "H100-SXM"),
        ("ND96isr_MI300X_v5", 8, "MI300X"),
        ("NC80adis_H100_v5", 2, "H100-NVL"),
        ("BM.GPU.H200.8", 8, "H200-SXM"),
        ("BM.GPU4.8", 8, "A100-40GB"),
        ("gpu_1x_gh200", 1, "GH200-96GB"),
        ("gd-8xh100ib-i128", 8, "H100-SXM"),
        ("gx3d-160x1792x8gaudi3", 8, "Gaudi3"),
        ("m8g.48xlarge", 2, "Graviton4"),
    ],
)
def test_an_instance_type_is_its_devices(name: str, count: int, device: str) -> None:
    """As the provider's documentation lists them, in any case."""
    found = find_instance(name, "instance")
    assert (found.count, found.device.name) == (count, device)


def test_every_line_has_a_source_and_fits_its_devices() -> None:
    """Instances of processors state cores and memory; no socket has more cores than its part."""
    assert len(instances()) > 200
    for instance in instances().values():
        assert len(instance.source) > 20
        if instance.device.kind is DeviceKind.CPU:
            assert instance.cores is not None
            assert instance.memory_gb
            assert instance.cores <= instance.count * instance.device.compute_units
        else:
            assert 1 <= instance.count <= 16


def test_an_unknown_type_is_refused_with_close_ones() -> None:
    """A slip names what was meant."""
    with pytest.raises(InvalidInput, match=r"nodes\[0\]\.instance.*p5\.48xlarge"):
        find_instance("p5.47xlarge", "nodes[0].instance")
