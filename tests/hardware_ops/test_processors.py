"""Figures of processors follow from cores, clock and instruction set."""

import pytest

from budsim.commons.precision import Precision
from budsim.hardware_ops.catalog import devices


def test_cpu_peaks_follow_from_cores_clock_and_instructions() -> None:
    """56 cores x 2.0 GHz x 1024 = 114.7 TFLOPS bf16; 8 channels x 4800 MT/s x 8 B = 307 GB/s."""
    socket = devices()["Xeon Platinum 8480+"]
    assert socket.flops_per_s[Precision.BF16] == pytest.approx(114.688e12)
    assert socket.memory_bandwidth_bytes_per_s == pytest.approx(307.2e9)
    assert "derived" in socket.sources["flops_per_s"]


def test_server_parts_of_one_socket_have_no_link_to_another() -> None:
    """The P of EPYC 9654P: the same chip, in single-socket servers."""
    both, single = devices()["EPYC 9654"], devices()["EPYC 9654P"]
    assert (both.scale_up.domain_devices, single.scale_up.domain_devices) == (2, 1)
    assert both.flops_per_s == single.flops_per_s
