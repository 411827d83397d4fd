"""What recipes of disaggregated runs say where rows do not."""

from __future__ import annotations

import numpy as np
import pandas as pd

from budsim.performance.measured.pool_measurements import read_pools
from tests.performance.measured.test_pool_columns import DISAGGREGATED

TENSORRT = {
    **DISAGGREGATED,
    "source": "inferencex",
    "engine": "dynamo-trtllm",
    "device_name": "GB200",
    "date": "2026-02-05",
}
RANKS = "dp_attention; prefill tp8 x1 workers, decode tp32 x1"
ALONE = "prefill tp8 x1 workers, decode tp8 x3"


def places(*rows: dict[str, str]) -> list[float]:
    """Return the sequences that all decode workers of each row run at most."""
    told = read_pools(pd.DataFrame([TENSORRT | row for row in rows]).fillna("")).pools.most_decoding
    assert told is not None
    return [float(each) for each in told]


def test_requests_beyond_the_places_of_a_recipe_wait() -> None:
    """564 requests decode 512 at a time; 512 and 900 say nothing of places."""
    loads = ("564", "512", "900")
    found = places(*({"notes": RANKS, "concurrency": load} for load in loads))
    assert found == [512.0, np.inf, np.inf]
    several = RANKS.replace("tp32 x1", "tp8 x5"), RANKS.replace("tp32", "tp8")
    assert places(
        {"notes": several[0], "concurrency": "1365"}, {"notes": several[1], "concurrency": "1606"}
    ) == [1280.0, 1536.0]


def test_servers_of_one_load_have_fewer_places_than_it() -> None:
    """FP8 on GB200, three workers: 6, 18 and 30 requests have 1, 4 and 8 places on each."""
    loads = ("6", "18", "30")
    assert places(*({"notes": ALONE, "concurrency": load} for load in loads)) == [3.0, 12.0, 24.0]


def test_other_rows_say_nothing_of_places() -> None:
    """A stranger, another engine, and a server that is started for several loads."""
    others = ({"source": "x"}, {"engine": "dynamo-sglang"}, {"device_name": "B200-SXM"})
    found = places(*({"notes": ALONE, "concurrency": "18"} | other for other in others))
    assert found == [np.inf] * 3


def test_prefill_workers_of_tensorrt_have_attention_ranks() -> None:
    """Since 2026, on all devices but H200, for runs of this benchmark."""
    others = ({}, {"date": "2025-12-09"}, {"device_name": "H200-SXM"}, {"source": "x"})
    rows = [TENSORRT | {"notes": ALONE} | other for other in others]
    pools = read_pools(pd.DataFrame(rows).fillna("")).pools
    assert pools.prefill.dp.tolist() == [8, 1, 1, 1]


def test_many_sequences_on_a_rank_guess_one_token() -> None:
    """TensorRT-LLM, eight ranks: 128 requests guess three tokens, 640 one."""
    notes = "spec=mtp; dp_attention; prefill tp8 x1 workers, decode tp8 x1"
    rows = [TENSORRT | {"notes": notes, "concurrency": load} for load in ("128", "640")]
    assert read_pools(pd.DataFrame(rows).fillna("")).pools.decode.draft_tokens.tolist() == [3, 1]
