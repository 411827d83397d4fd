"""Measured rows become candidates, or say why not."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from budsim.commons.precision import Precision
from budsim.performance.measured.measurements import NUMBERS, TEXTS
from budsim.performance.predictor import AnalyticPredictor
from budsim.performance.training.score import COLUMNS, predict_table
from tests.performance.measured.measured_rows import ROW, read


def test_an_ordinary_row_is_read_as_it_stands() -> None:
    """Parallelism, lengths and concurrency of a row are those of its candidate."""
    table = read({}).candidates
    assert (table.tp[0], table.pp[0], table.dp[0]) == (8, 1, 1)
    assert (table.input_tokens[0], table.output_tokens[0], table.concurrency[0]) == (1000, 100, 16)


def test_nominal_lengths_become_their_mean() -> None:
    """Sources that draw lengths from 0.8 to 1.0 of the nominal ones mean 0.9 of them."""
    assert read({"source": "inferencex"}).candidates.input_tokens[0] == pytest.approx(900)


def test_a_serve_command_says_how_often_sglang_looks_for_requests() -> None:
    """Every 30 steps: a newcomer waits 15 on average, and none where the command is silent.

    No other engine has the flag.
    """
    flag = {"notes": "args: server --scheduler-recv-interval 30 --tp 8"}
    steps = read({"engine": "sglang", **flag}, {"engine": "sglang"}, flag).candidates
    assert steps.admission_steps.tolist() == [15.0, 0.0, 0.0]


def test_a_serve_command_sets_what_the_columns_leave_open() -> None:
    """Token budget, sequences and memory of a row are those of the command in its notes.

    Drafting is seen there too.
    """
    command = (
        "args: vllm serve M --max-num-batched-tokens 4096 --max-num-seqs 64 "
        "--gpu-memory-utilization 0.8"
    )
    table = read({"notes": command}, {"notes": f"{command} --speculative-config x"}).candidates
    assert (table.token_budget[0], table.max_num_seqs[0], table.memory_fraction[0]) == (
        4096,
        64,
        0.8,
    )
    assert table.speculative.tolist() == [False, True]


@pytest.mark.parametrize(
    ("flag", "cache"),
    [
        ("--kv-cache-dtype fp8_e4m3", Precision.FP8),
        ("--kv-cache-dtype=fp8", Precision.FP8),
        ("--kv-cache-dtype bfloat16", Precision.BF16),
        ("--kv-cache-dtype auto", Precision.BF16),
        ("--max-num-seqs 64", Precision.BF16),
    ],
)
def test_the_format_of_the_cache_is_read_from_its_flag(flag: str, cache: Precision) -> None:
    """Where the column says nothing; what it says wins."""
    notes = {"notes": f"args: vllm serve M {flag}"}
    table = read(notes, {**notes, "kv_cache_dtype": "fp8"}).candidates
    found = [table.precisions[each] for each in table.kv_precision.tolist()]
    assert found == [cache, Precision.FP8]


def test_ranks_are_read_from_flags_where_columns_are_blank() -> None:
    """`--tensor-parallel-size 4` and SGLang's `--tp 4`, also with attention of four ranks."""
    blank = {"tp": "", "dp": "", "n_devices": "", "model_hf": "Qwen/Qwen3-30B-A3B"}
    vllm = {"notes": "args: vllm serve M --tensor-parallel-size 4"}
    sglang = {"notes": "args: python3 -m sglang.launch_server --tp 4 --dp-size=4"}
    stated = {**sglang, "tp": "2", "dp": "1"}
    table = read({**blank, **vllm}, {**blank, **sglang}, {**blank, **stated}).candidates
    assert table.tp.tolist() == [4, 4, 2]
    assert table.dp.tolist() == [1, 4, 1]


def test_sglang_is_told_the_limits_of_all_attention_ranks_together() -> None:
    """256 sequences and 32,768 tokens of four ranks are 64 and 8,192 of each; vLLM's are each's."""
    flags = "--max-running-requests 256 --chunked-prefill-size 32768"
    ranks = {"tp": "4", "dp": "4", "n_devices": "4", "model_hf": "Qwen/Qwen3-30B-A3B"}
    sglang = {"engine": "sglang", "notes": f"args: python3 -m sglang.launch_server {flags}"}
    vllm = {"notes": "args: vllm serve M --max-num-seqs 256 --max-num-batched-tokens 32768"}
    table = read({**ranks, **sglang}, {**ranks, **vllm}).candidates
    assert table.dp.tolist() == [4, 4]
    assert table.max_num_seqs.tolist() == [64, 256]
    assert table.token_budget.tolist() == [8192, 32768]


def test_newcomers_wait_by_the_rule_of_their_engine() -> None:
    """Outputs of 24 tokens in TGIS of 2023, six in flight: three steps; none in vLLM."""
    row = {"output_tokens": "24", "concurrency": "6", "date": "2023-10-01"}
    steps = read({**row, "engine": "tgis"}, row).candidates.admission_steps
    assert steps == pytest.approx([3.0, 0.0])


def test_eager_mode_is_a_column_or_a_flag() -> None:
    """``enforce_eager`` of the row, or the flag of its serve command; else graphs are captured."""
    command = "args: vllm serve M --enforce-eager --max-num-seqs 64"
    found = read({"enforce_eager": "true"}, {"notes": command}, {"enforce_eager": "0"}, {})
    assert found.candidates.eager is not None
    assert found.candidates.eager.tolist() == [True, True, False, False]
    assert read({}).candidates.eager is None


UNREADABLE = (
    ({"kv_cache_dtype": "abc"}, "kv_cache_dtype: 'abc'"),
    ({"model_hf": "foo"}, "model_hf: 'foo'"),
    ({"model_hf": "", "model": "foo"}, "model: 'foo'"),
    ({"tp": "1.5"}, "tp: expected a whole number"),
    ({"enforce_eager": "abc"}, "enforce_eager: expected true or false"),
    ({"device_type": "abc"}, "device_type"),
    ({"device_name": "Frobnicator-9000"}, "device_name"),
    ({"model_hf": "nobody/nothing"}, "nobody/nothing"),
    ({"engine": "abacus"}, "engine"),
    ({"precision": "fp3"}, "precision"),
    ({"input_tokens": "-5"}, "input_tokens"),
    ({"input_tokens": "many"}, "input_tokens"),
    ({"output_tokens": "0"}, "output_tokens"),
    ({"concurrency": ""}, "concurrency"),
    ({"concurrency": "1e300"}, "concurrency"),
    ({"tp": "0"}, "tp"),
    ({"mode": "serving_disagg"}, "mode"),
    ({"mode": "foo"}, "mode: expected one of serving"),
    ({"prefill_tp": "4"}, "prefill_tp: is given without its mode"),
    ({"draft_tokens": "3"}, "draft_tokens: is given without its method"),
    ({"acceptance": "0.5"}, "acceptance: is given without its method"),
    ({"draft_model": "Qwen/Qwen3-0.6B"}, "draft_model: is given without its method"),
)


def test_unreadable_rows_name_the_field() -> None:
    """A row with a wrong or missing value is left out with a reason that names it.

    Its neighbour is read.
    """
    measurements = read(*(change for change, _ in UNREADABLE), {})
    for (change, named), problem in zip(UNREADABLE, measurements.problems, strict=False):
        assert named in problem, change
    assert list(measurements.rows) == [len(UNREADABLE)]


def test_only_flags_that_contradict_the_engine_leave_a_row_out() -> None:
    """SGLang has no --max-model-len; flags that we do not know are no reason."""
    unknown = {"notes": "args: --of-a-later-version=3 --fast"}
    rows = [{"engine": name, **unknown} for name in ("vllm", "sglang", "trtllm")]
    contradictory = {"engine": "sglang", "notes": "args: --max-model-len=32768"}
    found = read(*rows, {"engine": "vllm", "notes": contradictory["notes"]}, contradictory)
    assert list(found.rows) == [0, 1, 2, 3]
    assert "flags of another engine" in found.problems[4]


def test_a_whole_generation_in_the_column_of_tpot_is_told_by_the_throughput() -> None:
    """24 users at 55 tokens/s in all wait 0.4 s a token.

    104 s in that column is the time of all 256 tokens, 0.4 s is not.
    """
    row = {"concurrency": "24", "output_tokens": "256", "output_tokens_per_s_total": "55"}
    whole, single = read({**row, "tpot_ms_mean": "104082"}, {**row, "tpot_ms_mean": "406.6"}).tpot_s
    assert whole == pytest.approx(104.082 / 256)
    assert single == pytest.approx(0.4066)


cells = st.one_of(
    st.text(max_size=12),
    st.floats().map(str),
    st.integers().map(str),
    st.sampled_from(["", "nan", "inf", "-1"]),
)


@given(
    rows=st.lists(
        st.dictionaries(st.sampled_from([*NUMBERS, *TEXTS]), cells),
        min_size=1,
        max_size=4,
    )
)
@settings(max_examples=12)
def test_whatever_a_table_holds_each_row_is_predicted_or_explained(
    rows: list[dict[str, str]],
) -> None:
    """No cell, however strange, stops the others.

    Each row has finite positive predictions or a reason, never both.
    """
    table = pd.DataFrame([{**ROW, **row} for row in rows]).fillna("")
    result = predict_table(table, AnalyticPredictor())
    assert len(result) == len(rows)
    for _, row in result.iterrows():
        if row["pred_error"]:
            assert row["pred_tpot_ms"] == ""
        else:
            numbers = np.array([row[name] for name in COLUMNS[:12]], dtype=float)
            assert np.isfinite(numbers).all()
            assert (numbers >= 0).all()
            assert row["pred_ttft_ms_lo90"] <= row["pred_ttft_ms"] <= row["pred_ttft_ms_hi90"]


def test_columns_say_how_a_row_speculates() -> None:
    """Two guesses of an EAGLE-3 head that are right in 70 % yield 1 + 0.7 + 0.49 tokens."""
    told = {"speculative_method": "eagle3", "draft_tokens": "2", "acceptance": "0.7"}
    candidates = read({}, told).candidates
    assert candidates.draft_tokens.tolist() == [0.0, 2.0]
    assert candidates.tokens_per_step.tolist() == pytest.approx([1.0, 2.19])


def test_columns_choose_the_published_acceptance() -> None:
    """Prompt lookup finds more in code than in arithmetic."""
    lookup = {"speculative_method": "ngram", "draft_tokens": "5"}
    lookup |= {"model_hf": "meta-llama/Llama-3.1-8B-Instruct", "temperature": "0"}
    found = read(lookup | {"domain": "coding"}, lookup | {"domain": "math"}).candidates
    coding, maths = found.tokens_per_step
    assert coding > 1.5 * maths


def test_guesses_are_those_of_the_texts_that_a_source_sends() -> None:
    """InferenceX sends random tokens, and guesses 3 of Qwen3.5: fewer are right than of code."""
    row = {"engine": "sglang", "device_name": "B200-SXM", "notes": "spec=mtp"}
    row |= {"model": "Qwen/Qwen3.5-397B-A17B", "model_hf": "Qwen/Qwen3.5-397B-A17B"}
    found = read(
        {**row, "source": "inferencex"},
        {**row, "source": "someone"},
        {**row, "source": "inferencex", "domain": "coding"},
    ).candidates.tokens_per_step
    assert found == pytest.approx([2.32, 3.39, 3.39], abs=0.01)


CANNOT_SPECULATE = (
    ({"domain": "poetry"}, "domain: expected one of chat"),
    ({"draft_tokens": "0"}, "draft_tokens"),
    ({"draft_tokens": "50"}, "draft_tokens"),
    ({"acceptance": "1.2"}, "acceptance"),
    ({"speculative_method": "medusa"}, "speculative_method"),
    ({"speculative_method": "mtp"}, "no layer"),
    ({"speculative_method": "draft_model"}, "draft_model"),
    ({"speculative_method": "draft_model", "draft_model": "Qwen/Qwen3-0.6B"}, "vocabulary"),
)


def test_rows_that_cannot_speculate_say_why() -> None:
    """The other row is still read."""
    rows = [{"speculative_method": "eagle3", **change} for change, _ in CANNOT_SPECULATE]
    *problems, other = read(*rows, {}).problems
    for (change, reason), problem in zip(CANNOT_SPECULATE, problems, strict=True):
        assert reason in problem, change
    assert other == ""


def test_rows_without_guesses_have_no_column_of_them() -> None:
    """What never speculates costs nothing."""
    assert read({}).candidates.speculation is None
