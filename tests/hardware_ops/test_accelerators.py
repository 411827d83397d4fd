"""Figures of accelerators are dense, and differ where the boards do."""

import pytest

from budsim.commons.precision import Precision
from budsim.hardware_ops.catalog import devices


def test_peaks_are_dense() -> None:
    """H100: 989 TFLOPS bf16, half of the sparse 1,979 on the data sheet's first page."""
    assert devices()["H100-SXM"].flops_per_s[Precision.BF16] == pytest.approx(989.4e12)


def test_export_models_differ_in_their_links() -> None:
    """H800 and A800 multiply as H100 and A100 do; their NVLink sends 200 GB/s each way."""
    for cut, whole in (("H800-SXM", "H100-SXM"), ("A800-SXM4-80GB", "A100-80GB")):
        assert devices()[cut].flops_per_s == devices()[whole].flops_per_s
        assert devices()[cut].scale_up.bandwidth_bytes_per_s == 200e9


def test_a_power_capped_board_computes_less_and_reads_as_fast() -> None:
    """Half the power takes clocks, not memory."""
    whole, capped = devices()["H100-SXM"], devices()["H100-SXM(power-capped)"]
    assert capped.tdp_w == whole.tdp_w / 2
    assert capped.flops_per_s[Precision.BF16] < 0.8 * whole.flops_per_s[Precision.BF16]
    assert capped.memory_bandwidth_bytes_per_s == whole.memory_bandwidth_bytes_per_s
