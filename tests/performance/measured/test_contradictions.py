"""Rows that no server can be."""

from __future__ import annotations

import re

import pandas as pd

from budsim.performance.measured.contradictions import why_impossible
from budsim.performance.predictor import AnalyticPredictor
from budsim.performance.training.score import predict_table
from tests.performance.measured.measured_rows import ROW, read

EMBEDDING = {"model_hf": "BAAI/bge-m3", "precision": "", "n_devices": "1", "tp": "1"}
LARGE = {"model_hf": "meta-llama/Llama-3.1-405B-Instruct", "precision": "bf16"}


TOLD = (
    ({**LARGE, "n_devices": "1", "tp": "1"}, "n_devices: weights of .*405B.* take 75[0-9] GiB"),
    ({**LARGE, "precision": "", "n_devices": "1", "tp": "1"}, ".* take 18[0-9] GiB on each"),
    ({"n_devices": "3", "tp": "3"}, "tp: 3 ranks do not divide 64 attention heads"),
    ({**LARGE, "engine": "llama.cpp", "n_devices": "1", "tp": "1"}, ""),
    ({**LARGE, "n_devices": "", "tp": ""}, ""),
    ({**LARGE, "n_devices": "1", "tp": "1", "ttft_ms_mean": "500"}, ""),
    ({"n_devices": "4"}, "n_devices: 4 do not hold the 8 of tp, pp and dp"),
    ({"n_devices": "8", "dp": "2"}, "n_devices: 8 do not hold the 16"),
    ({"n_devices": "4", "ttft_ms_mean": "500"}, ""),
    ({"input_tokens": "200000"}, "input_tokens: 200000 .* 100 exceed the context"),
    ({"device_type": "hpu"}, "device_type: hpu of H100-SXM; expected cuda"),
    ({"cores": "8"}, "cores: given for H100-SXM; expected a processor"),
    (EMBEDDING | {"output_tokens": "200"}, "output_tokens: 200 of BAAI/bge-m3, which gen"),
    (EMBEDDING | {"output_tokens": "1"}, ""),
    ({}, ""),
)


def test_what_cannot_be_is_told_in_words() -> None:
    """A model that fits nowhere and ranks that divide nothing; not what ran or offloads."""
    found = why_impossible(read(*(change for change, _ in TOLD)))
    for (change, reason), told in zip(TOLD, found, strict=True):
        assert re.fullmatch(f"{reason}.*" if reason else "", told), change


def test_an_impossible_row_has_a_reason_and_its_neighbour_a_prediction() -> None:
    """One bad row stops nothing."""
    rows = pd.DataFrame([ROW | LARGE | {"n_devices": "1", "tp": "1"}, ROW])
    found = predict_table(rows, AnalyticPredictor())
    assert found["pred_error"].tolist()[0].startswith("n_devices: weights")
    assert found["pred_ttft_ms"].tolist()[0] == ""
    assert found["pred_error"].tolist()[1] == ""
    assert found["pred_ttft_ms"].tolist()[1] > 0
