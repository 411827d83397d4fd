"""vLLM's defaults by device and version."""

from __future__ import annotations

import pytest

from budsim.engine_ops.engine_profile import version_pair
from budsim.engine_ops.profiles import profiles
from tests.engine_ops.samples import device


@pytest.mark.parametrize(
    ("name", "version", "limits"),
    [
        ("B200-SXM", (0, 32), (16384, 1024)),
        ("B200-SXM", (0, 27), (8192, 1024)),
        ("MI300X", (0, 28), (16384, 1024)),
        ("H200", (0, 32), (8192, 1024)),
        ("A100-80GB", (0, 32), (2048, 256)),
        ("A800-SXM4-80GB", (0, 32), (8192, 1024)),
        ("A800-PCIe-40GB", (0, 32), (2048, 256)),
        ("L40S", (0, 32), (2048, 256)),
    ],
)
def test_steps_and_sequences_by_memory(
    name: str, version: tuple[int, int], limits: tuple[int, int]
) -> None:
    """Devices of 160 GiB and more take 16,384 tokens a step since 0.28.

    A100s of 80 GB stay at 2,048 by their name, which an A800 does not have.
    """
    assert profiles()["vllm"].limits_on(device(name), version) == limits


def test_versions_are_read_from_image_tags() -> None:
    """Major and minor decide; text without a version has none."""
    assert version_pair("v0.18.0-cu130") == (0, 18)
    assert version_pair("nightly") is None
