"""DeepSeek V4's cache pages, as vLLM groups them."""

from __future__ import annotations

import numpy as np
import pytest

from budsim.commons.units import GIB
from budsim.model_ops.registry import resolve_model
from budsim.performance.physics.compressed_caches import WindowGroup, paging

FLASH = resolve_model("deepseek-ai/DeepSeek-V4-Flash")


def test_v4_flash_has_five_groups_of_pages_of_a_mebibyte() -> None:
    """43 windows in two groups of 22, states of 21 and 20 layers in one each, beside the entries.

    A page has room for 22 layers of 64 entries of 584 bytes (37,440 aligned), of 64 index keys of
    132 bytes (8,640) and of 2 entries (1,728).
    """
    found = paging(FLASH)
    assert found is not None
    assert found.page_bytes == 22 * (37_440 + 8_640 + 1_728)
    assert found.windows == (
        WindowGroup(window=128, page_tokens=64, groups=2),
        WindowGroup(window=8, page_tokens=4, groups=1),
        WindowGroup(window=128, page_tokens=8, groups=1),
    )


def test_a_sequence_needs_what_vllm_logged() -> None:
    """30,000 tokens need 6.66 GiB with 16,384 in flight, 13,528 tokens 5.44 GiB."""
    found = paging(FLASH)
    assert found is not None
    needed = found.admitted_bytes(np.array([30_000.0, 13_528.0]), np.array([16_384.0, 16_384.0]))
    assert needed / GIB == pytest.approx([6.66, 5.44], abs=0.005)


def test_a_short_running_sequence_costs_some_thirty_pages() -> None:
    """2,048 tokens: 8 pages of entries, 3 for each window group, 3 and 17 for states."""
    found = paging(FLASH)
    assert found is not None
    pages = found.admitted_bytes(np.array([2048.0]), np.array([0.0]))[0] / found.page_bytes
    assert pages == 8 + 2 * 3 + 3 + 17


def test_other_models_are_not_so_paged() -> None:
    """DeepSeek V3.2 compresses nothing."""
    assert paging(resolve_model("deepseek-ai/DeepSeek-V3.2")) is None
