"""The manifest says what a trained model is."""

from __future__ import annotations

import numpy as np

from budsim.hardware_ops.device import DeviceKind
from budsim.performance.learned.features import feature_names
from budsim.performance.training.fit import Trained


def test_a_manifest_says_what_was_trained_on(trained: dict[DeviceKind, Trained]) -> None:
    """Devices, models, rows, seed, and hashes of data and artefacts."""
    cuda = trained[DeviceKind.CUDA]
    manifest = cuda.manifest
    assert manifest["devices"] == ["H100-SXM", "H200-SXM"]
    assert manifest["rows"] == len(cuda.rows)
    assert manifest["parameters"]["seed"] == 0
    hashes = [manifest["data_sha256"], *(a["sha256"] for a in manifest["artefacts"].values())]
    assert {len(each) for each in hashes} == {64}


def test_ranges_are_those_of_the_rows(trained: dict[DeviceKind, Trained]) -> None:
    """Concurrency went from 1 to 64, in logarithms; a year nobody stated has no range."""
    manifest = trained[DeviceKind.CUDA].manifest
    at = feature_names().index("log_concurrency")
    assert np.isclose(manifest["feature_low"][at], 0.0)
    assert np.isclose(manifest["feature_high"][at], np.log(64.0))
    assert manifest["feature_low"][feature_names().index("stack_year")] is None
