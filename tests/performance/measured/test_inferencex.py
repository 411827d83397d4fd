"""Results of InferenceX."""

from __future__ import annotations

import pytest

from budsim.performance.measured.inferencex import inferencex_row

RECORD = {
    "hw": "b200-trt",
    "conc": 64,
    "isl": 1024,
    "osl": 1024,
    "tp": 8,
    "framework": "trt",
    "output_tput_per_gpu": 250.0,
    "mean_ttft": 0.75,
}


def test_a_runners_name_begins_with_its_device() -> None:
    """``b200-trt`` is a B200 with TensorRT-LLM; 8 x 250 tokens/s are 2000."""
    row = inferencex_row(RECORD)
    assert (row["device_name"], row["engine"]) == ("b200", "trtllm")
    assert (row["output_tokens_per_s_total"], row["ttft_ms_mean"]) == (2000.0, 750.0)


@pytest.mark.parametrize(
    ("change", "column", "value"),
    [
        ({"dp_attention": "true"}, "dp", 8),
        ({"disagg": True}, "mode", "serving_disagg"),
        ({"is_multinode": True}, "mode", "serving_disagg"),
        ({}, "mode", "serving"),
    ],
)
def test_flags_say_how_it_was_served(change: dict[str, object], column: str, value: object) -> None:
    """Data-parallel attention has as many ranks as devices; two pools are disaggregated."""
    assert inferencex_row({**RECORD, **change})[column] == value


def test_drafts_are_noted() -> None:
    """A row with speculative decoding says so where readers look for it."""
    assert "mtp" in str(inferencex_row({**RECORD, "spec_decoding": "mtp"})["notes"])
    assert "mtp" not in str(inferencex_row(RECORD)["notes"])
