"""MIG slices and NUMA nodes are devices of their own, with a share of the whole's figures."""

from __future__ import annotations

import pytest

from budsim.commons.precision import Precision
from budsim.commons.units import GIB
from budsim.hardware_ops.catalog import devices
from budsim.hardware_ops.device_names import find_device
from budsim.hardware_ops.device_parts import mig_profile, mig_slice, numa_node, without_profile
from budsim.hardware_ops.pricing import Pricing, basis_named


@pytest.mark.parametrize(
    ("name", "whole", "units", "eighths"),
    [
        ("NVIDIA H100 80GB HBM3 MIG 3g.40gb", "H100-SXM", 60, 4),
        ("NVIDIA H100 80GB HBM3 MIG 1g.20gb", "H100-SXM", 16, 2),
        ("NVIDIA-A100-SXM4-80GB-MIG-1g.10gb", "A100-80GB", 14, 1),
        ("NVIDIA H200 MIG 3g.71gb", "H200-SXM", 60, 4),
        ("NVIDIA B200 MIG 1g.23gb", "B200-SXM", 18, 1),
        ("NVIDIA A30 MIG 2g.12gb", "A30", 28, 4),
        ("NVIDIA H100 NVL MIG 1g.12gb+me", "H100-NVL", 16, 1),
        ("NVIDIA RTX PRO 6000 Blackwell Server Edition MIG 1g.24gb", "RTX-PRO-6000", 46, 2),
        ("H100-SXM MIG 7g.80gb", "H100-SXM", 132, 8),
    ],
)
def test_a_slice_has_its_eighths_of_the_memory(
    name: str, whole: str, units: int, eighths: int
) -> None:
    """nvidia-smi prints 60 of an H100's 132 multiprocessors for 3g.40gb, and half its memory."""
    found, device = find_device(name), devices()[whole]
    assert found is not None
    assert found.whole is not None
    assert (found.whole.name, found.compute_units) == (whole, units)
    assert found.memory_bytes == pytest.approx(device.memory_bytes * eighths / 8)
    assert found.memory_bandwidth_bytes_per_s == pytest.approx(
        device.memory_bandwidth_bytes_per_s * eighths / 8
    )
    assert found.peak_flops_per_s(Precision.BF16) == pytest.approx(
        device.peak_flops_per_s(Precision.BF16) * units / device.compute_units
    )
    assert found.works_alone


@pytest.mark.parametrize("profile", ["5g.40gb", "3g.20gb", "1g.40gb", "3g", ""])
def test_gpus_are_not_cut_into_other_slices(profile: str) -> None:
    """An H100 of 80 GB has no 3g.20gb; an L4 has no slices."""
    assert mig_slice(devices()["H100-SXM"], profile) is None
    assert mig_slice(devices()["L4"], "1g.3gb") is None


def test_profiles_are_read_off_names() -> None:
    """nvidia-smi, labels of nodes and Kubernetes resources write a profile each in its way."""
    for name in ("NVIDIA H200 MIG 3g.71gb", "NVIDIA-H200-MIG-3g.71gb", "nvidia.com/mig-3g.71gb"):
        assert mig_profile(name) == "3g.71gb"
    assert not mig_profile("NVIDIA H200")
    assert without_profile("NVIDIA-H200-MIG-3g.71gb") == "NVIDIA-H200"
    assert without_profile("nvidia.com/mig-3g.71gb") == ""


def test_a_resource_alone_does_not_say_of_which_gpu_it_is() -> None:
    """A100 and H100 of 80 GB both have 3g.40gb."""
    assert find_device("nvidia.com/mig-3g.40gb") is None
    found = find_device("nvidia.com/mig-3g.40gb", "NVIDIA-H100-80GB-HBM3")
    assert found is not None
    assert found.name == "H100-SXM MIG 3g.40gb"


def test_a_numa_node_has_its_share_of_the_socket() -> None:
    """A third of 96 cores, of the memory, bandwidth and price: engines run one rank a node."""
    socket = devices()["Xeon 6972P"]
    node = numa_node(socket, 3)
    assert (node.compute_units, node.numa_nodes) == (32, 1)
    for figure in ("memory_bytes", "memory_bandwidth_bytes_per_s", "tdp_w", "price_usd_per_h"):
        assert getattr(node, figure) == pytest.approx(getattr(socket, figure) / 3)
    assert not node.works_alone
    assert numa_node(socket, 1).compute_units == 96


@pytest.mark.parametrize("basis", ["rent", "own"])
def test_parts_cost_their_share_of_the_whole(basis: str) -> None:
    """Half of an H100's memory costs half of an H100, rented or owned."""
    pricing = Pricing(basis=basis_named(basis))
    device = devices()["H100-SXM"]
    part = mig_slice(device, "3g.40gb")
    assert part is not None
    priced = pricing.priced(part)
    assert priced.price_usd_per_h == pytest.approx(pricing.priced(device).price_usd_per_h / 2)
    assert "0.5 of H100-SXM" in priced.sources["price_usd_per_h"]
    assert pricing.why_not(part) == pricing.why_not(device)
    assert priced.memory_bytes < 40 * GIB
