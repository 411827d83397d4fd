"""Workers of both pools, as notes and columns state them."""

from __future__ import annotations

import pandas as pd
import pytest

from budsim.performance.measured.pool_columns import stated_pools
from budsim.performance.measured.pool_measurements import read_pools
from budsim.performance.predictor import AnalyticPredictor
from budsim.performance.training.score import predict_table
from tests.performance.measured.measured_rows import ROW

DISAGGREGATED = {
    **ROW,
    "mode": "serving_disagg",
    "model_hf": "deepseek-ai/DeepSeek-R1-0528",
    "n_devices": "",
    "tp": "",
    "engine": "dynamo-sglang",
    "notes": "prefill tp8 x1 workers, decode tp8 x2",
}


def sizes(notes: str, devices: float = float("nan"), precision: str = "fp8") -> list[float]:
    """Return devices and workers of prefill, then of decode, and attention ranks of decode."""
    row = {"notes": notes, "n_devices": devices, "precision": precision}
    found = stated_pools(pd.DataFrame([row]))
    return [
        float(each[0])
        for each in (
            found.prefill_devices,
            found.prefill_workers,
            found.decode_devices,
            found.decode_workers,
            found.decode_dp,
        )
    ]


def test_workers_are_read_from_notes() -> None:
    """One prefill worker of 8 devices, two decode workers of 8."""
    assert sizes("prefill tp8 x1 workers, decode tp8 x2") == [8, 1, 8, 2, 1]


def test_attention_ranks_alone_take_the_devices_that_are_left() -> None:
    """72 devices, six prefill workers of 4: 48 are left for one decode worker."""
    notes = "dp_attention; prefill tp1 x6 workers, decode tp1 x1"
    assert sizes(notes, 72.0, "fp4") == [4, 6, 48, 1, 48]


def test_experts_over_a_node_take_its_devices() -> None:
    """24 devices of one prefill and two decode workers, written as tp 1: eight each."""
    assert sizes("prefill tp1 x1 workers, decode tp1 x2", 24.0) == [8, 1, 8, 2, 1]


def test_rows_of_ranks_state_no_workers() -> None:
    """One of each is taken, and the row says so."""
    found = stated_pools(
        pd.DataFrame([{"notes": "disagg: prefill tp8 dp1, decode tp1 dp32", "n_devices": "",
                       "precision": "fp8"}])
    )  # fmt: skip
    assert (found.decode_devices[0], found.decode_dp[0]) == (32.0, 32.0)
    assert found.stated[0] == 0.0


def test_columns_state_the_pools() -> None:
    """Callers name both pools in columns of their own."""
    own = dict.fromkeys(("prefill_tp", "decode_tp"), "4") | {
        "prefill_workers": "3",
        "decode_workers": "2",
    }
    found = stated_pools(pd.DataFrame([{"notes": "", "n_devices": "", "precision": "", **own}]))
    assert (found.prefill_workers[0], found.decode_devices[0]) == (3.0, 4.0)


def test_pools_of_no_whole_size_are_not_stated() -> None:
    """Half a device serves nothing: such a row says why it has no prediction."""
    own = {"notes": "", "prefill_workers": "1", "decode_tp": "1", "decode_workers": "1"}
    counts = ["1.5", "0", "-1", "nan", "inf", "5000", ""]
    table = pd.DataFrame([{**DISAGGREGATED, **own, "prefill_tp": count} for count in counts])
    told = predict_table(table.fillna(""), AnalyticPredictor()).pred_error
    assert told.str.contains("whole sizes and workers of both pools, 1 to 4096").all()


def test_disaggregated_rows_are_predicted() -> None:
    """A row of two pools has means, an interval and percentiles; one without pools says why."""
    table = pd.DataFrame([DISAGGREGATED, {**DISAGGREGATED, "notes": ""}, ROW]).fillna("")
    predicted = predict_table(table, AnalyticPredictor())
    first, second, third = (predicted.iloc[row] for row in range(3))
    assert first.pred_error == ""
    assert (
        float(first.pred_tpot_ms_lo90) < float(first.pred_tpot_ms) < float(first.pred_tpot_ms_hi90)
    )
    assert "workers of both pools" in second.pred_error
    assert third.pred_error == ""


def test_each_worker_has_its_share_of_the_load() -> None:
    """16 requests on two decode workers: 8 each."""
    pools = read_pools(pd.DataFrame([DISAGGREGATED]).fillna("")).pools
    assert pools.decode.concurrency.tolist() == pytest.approx([8.0])
    assert pools.prefill.concurrency.tolist() == pytest.approx([16.0])


@pytest.mark.parametrize(("devices", "told"), [("8", "n_devices: 8 are not the 24"), ("24", "")])
def test_devices_are_those_of_all_workers(devices: str, told: str) -> None:
    """One prefill worker and two decode workers of eight are 24 devices."""
    own = {"prefill_tp": "8", "prefill_workers": "1", "decode_tp": "8", "decode_workers": "2"}
    found = read_pools(pd.DataFrame([DISAGGREGATED | own | {"n_devices": devices}]))
    assert found.problems[0].startswith(told)
    assert bool(found.problems[0]) == bool(told)


def test_layouts_and_flags_of_each_pool_may_be_stated() -> None:
    """A pipeline of two stages, attention ranks and experts; each pool has flags of its own."""
    row = {
        **DISAGGREGATED,
        "arrival": "steady",
        **dict(zip(("prefill_tp", "prefill_workers", "prefill_pp"), "412", strict=True)),
        **dict(zip(("decode_tp", "decode_workers", "decode_dp", "decode_ep"), "8188", strict=True)),
        "notes": "prefill args: --max-num-seqs 4 decode args: --max-num-seqs 64",
        "engine": "vllm",
    }
    found = read_pools(pd.DataFrame([row]))
    assert not found.problems[0]
    prefill, decode = found.pools.prefill, found.pools.decode
    assert [int(each[0]) for each in (prefill.tp, prefill.pp, prefill.ep)] == [4, 2, 1]
    assert [int(each[0]) for each in (decode.tp, decode.pp, decode.dp, decode.ep)] == [8, 1, 8, 8]
    assert [int(each.max_num_seqs[0]) for each in (prefill, decode)] == [4, 64]
    assert found.steady[0]


def test_rows_at_a_rate_are_refused_by_name() -> None:
    """Pools are replayed for requests in flight: the reason says which column, and what else."""
    row = {**DISAGGREGATED, "concurrency": "", "request_rate": "2", "arrival": "poisson"}
    found = predict_table(pd.DataFrame([row]), AnalyticPredictor())
    assert "concurrency: is blank" in found.pred_error[0]
    assert "request_rate" in found.pred_error[0]
