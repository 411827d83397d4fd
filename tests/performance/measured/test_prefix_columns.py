"""Rows may say how large their prefixes are, and how much host memory keeps them."""

from __future__ import annotations

import pandas as pd
import pytest

from budsim.commons.units import GIB
from budsim.performance.measured.clients import client_traffic
from budsim.performance.measured.measurements import read_measurements
from budsim.performance.prefixes import PrefixSet

ROW = {
    "device_name": "H100-SXM",
    "engine": "vllm",
    "model_hf": "meta-llama/Llama-3.1-8B-Instruct",
    "tp": "2",
    "input_tokens": "1000",
    "output_tokens": "50",
    "concurrency": "4",
    "mode": "serving",
}
SET = {**ROW, "prefix_hit_share": "0.8", "prefix_set_tokens": "1e6", "kv_offload_gib": "200"}


def test_sets_and_host_memory_are_read() -> None:
    """200 GiB of one replica are 100 for each of two devices; the second row finds all."""
    found = read_measurements(pd.DataFrame([SET, ROW]).fillna(""))
    table = found.candidates
    assert table.prefix_set_tokens is not None
    assert table.tier_bytes is not None
    assert table.prefix_set_tokens.tolist() == [1e6, 0.0]
    assert table.unshared_tokens is not None
    assert table.unshared_tokens[0] == pytest.approx(1000 * 0.2 + 50)
    assert table.tier_bytes.tolist() == [100 * GIB, 0.0]
    assert client_traffic(found)[0].prefix == PrefixSet(share=0.8, tokens=1e6)


def test_without_the_columns_prefixes_are_always_found() -> None:
    """Tables of today have neither."""
    table = read_measurements(pd.DataFrame([ROW])).candidates
    assert table.prefix_set_tokens is None
    assert table.tier_bytes is None


@pytest.mark.parametrize("share", ["", "0"])
def test_a_set_of_nothing_is_refused(share: str) -> None:
    """The row's problem names the column."""
    problems = read_measurements(pd.DataFrame([{**SET, "prefix_hit_share": share}])).problems
    assert problems[0].startswith("prefix_set_tokens")


def test_a_store_of_all_replicas_is_read() -> None:
    """20 GB/s of one replica are 10 for each of two devices; the second row has none."""
    store = {**SET, "kv_store_gib": "3000", "kv_store_gb_per_s": "20"}
    table = read_measurements(pd.DataFrame([store, SET]).fillna("")).candidates
    assert table.store_bytes is not None
    assert table.store_bytes_per_s is not None
    assert table.store_bytes.tolist() == [3000 * GIB, 0.0]
    assert table.store_bytes_per_s.tolist() == [1e10, 0.0]


@pytest.mark.parametrize("speed", ["", "0"])
def test_a_store_that_delivers_nothing_is_refused(speed: str) -> None:
    """The row's problem names the column."""
    row = {**SET, "kv_store_gib": "3000", "kv_store_gb_per_s": speed}
    problems = read_measurements(pd.DataFrame([row])).problems
    assert problems[0].startswith("kv_store_gb_per_s")
