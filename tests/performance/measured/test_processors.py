"""Processes on a processor have their share of its cores and its memory."""

from __future__ import annotations

import numpy as np
import pytest

from tests.performance.measured.measured_rows import read

PROCESSOR = {
    "device_type": "cpu",
    "device_name": "m7i.24xlarge",
    "engine": "llama.cpp",
    "model_hf": "meta-llama/Llama-3.2-1B-Instruct",
}


def test_a_process_has_as_many_cores_as_its_share_of_the_socket() -> None:
    """12 processes of 8 threads on 48 cores run two threads a core: four cores each.

    4 processes of 8 threads have eight each.
    """
    notes = "threads per process=8, processes={0}, batch per process=1"
    rows = [
        {**PROCESSOR, "tp": "1", "n_devices": "1", "dp": dp, "notes": notes.format(dp)}
        for dp in ("12", "4")
    ]
    assert read(*rows).candidates.cores.tolist() == [4.0, 8.0]


def test_memory_bound_to_one_of_two_nodes_is_read_from_afar() -> None:
    """Memory bound to node 0 of two gives one process less than half the bandwidth.

    The more processes share a last-level cache, the better off all are together; on a machine of
    one node nothing changes.
    """
    rows = [
        {
            **PROCESSOR,
            "source": source,
            "device_name": device,
            "dp": dp,
            "notes": f"threads per process=8, processes={dp}",
        }
        for source, device in (
            ("ampere_llamacpp", "m6i.32xlarge"),
            ("other", "m6i.32xlarge"),
            ("ampere_llamacpp", "m7i.24xlarge"),
        )
        for dp in ("1", "12")
    ]
    together = read(*rows).candidates.compute_share * np.array([1.0, 12.0] * 3)
    assert together[0] < 0.5 * together[1] < 0.5
    assert together[2:].tolist() == pytest.approx([1.0] * 4)
