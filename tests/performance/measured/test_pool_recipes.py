"""How disaggregated runs were started, where rows do not say it."""

from __future__ import annotations

import numpy as np
import pandas as pd

from budsim.performance.measured.pool_measurements import PoolMeasurements, read_pools
from budsim.performance.measured.pool_recipes import NUMBERS, recipes
from tests.performance.measured.test_pool_columns import DISAGGREGATED

# `ctx1_gen1_dep32_batch16_eplb0_mtp0_564`: one prefill worker of eight, one decode worker of 32.
WIDE = {
    **DISAGGREGATED,
    "source": "inferencex",
    "engine": "dynamo-trtllm",
    "device_name": "GB200",
    "precision": "fp8",
    "input_tokens": "1024",
    "output_tokens": "8192",
    "concurrency": "564",
    "date": "2026-02-05",
    "notes": "dp_attention; prefill tp8 x1 workers, decode tp32 x1",
}
# The same run in a table that states neither workers nor guesses: one recipe guesses nothing, one
# guesses three tokens.
NAMELESS = {"source": "aiconfigurator_silicon", "notes": "disagg: prefill tp8 dp1, decode tp32 dp1"}
ALONE = NAMELESS | {"concurrency": "1127", "output_tokens": "1024"}


def read(*rows: dict[str, str]) -> PoolMeasurements:
    """Return measurements of rows that differ from the wide run."""
    return read_pools(pd.DataFrame([WIDE | row for row in rows]).fillna(""))


def test_requests_beyond_the_places_of_a_recipe_wait() -> None:
    """564 requests, started for 16 sequences on each of 32 ranks: 512 decode at a time."""
    told = read({}).pools.most_decoding
    assert told is not None
    assert told.tolist() == [512.0]


def test_a_step_of_prefill_holds_what_its_recipe_says() -> None:
    """16,384 tokens and 16 prompts on each of eight attention ranks, though the row names none."""
    prefill = read({"notes": "dp_attention; prefill tp8 x1 workers, decode tp32 x1"}).pools.prefill
    assert [prefill.dp[0], prefill.token_budget[0], prefill.max_num_seqs[0]] == [8, 16384, 16]


def test_rows_of_one_recipe_are_as_good_as_those_that_state_it() -> None:
    """1,127 requests ran one way, 564 two: these get the one without guesses, and stay unsure."""
    found = read(ALONE, NAMELESS, {})
    assert found.stated.tolist() == [True, False, True]
    assert found.by_recipe.tolist() == [True, False, False]
    assert found.pools.decode.tp.tolist() == [32, 32, 32]
    assert found.pools.decode.draft_tokens.tolist() == [0, 0, 0]


def test_sizes_written_as_one_say_nothing() -> None:
    """A table that writes every size as 1 is told by the load alone."""
    ones = ALONE | {"notes": "disagg: prefill tp1 dp1, decode tp1 dp1"}
    assert read(ones).pools.decode.tp.tolist() == [32]


def test_experts_are_spread_as_recipes_say() -> None:
    """Eight attention ranks, and yet each expert is split over all eight devices."""
    row = {
        "engine": "dynamo-sglang",
        "device_name": "B200-SXM",
        "input_tokens": "8192",
        "output_tokens": "1024",
        "concurrency": "1024",
        "date": "2026-03-18",
        "notes": "dp_attention; prefill tp8 x3 workers, decode tp8 x1",
    }
    prefill = read(row).pools.prefill
    assert (prefill.dp[0], prefill.ep[0]) == (8, 1)


def test_guesses_are_those_of_the_recipe() -> None:
    """A row that says `mtp` is told how many tokens: three at 564 requests."""
    assert read({"notes": "spec=mtp; " + WIDE["notes"]}).pools.decode.draft_tokens.tolist() == [3]


def test_strangers_have_no_recipe() -> None:
    """Another party, another load and another device keep what their rows say."""
    others = {"source": "x"}, {"concurrency": "565"}, {"device_name": "H100-SXM"}
    told = read(*others).pools.most_decoding
    assert told is not None
    assert np.isinf(told).all()


def test_the_catalog_is_whole() -> None:
    """Workers are whole numbers, ranks divide a worker's devices, dates are in order."""
    every = [each for some in recipes().values() for each in some]
    assert len(every) > 1000
    for each in every:
        numbers = {name: getattr(each, name) for name in NUMBERS}
        assert all(np.isnan(value) or value % 1 == 0 for value in numbers.values()), numbers
        assert min(each.prefill_workers, each.decode_workers) >= 1, numbers
        assert each.prefill_dp in (1, each.prefill_devices), numbers
        assert each.decode_dp in (1, each.decode_devices), numbers
        assert "2025-12-01" <= each.since <= each.until, numbers
