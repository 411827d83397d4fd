"""Rows of benchmark tables are read with their traps known, and every row that cannot be read says why."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from budsim.commons.errors import InvalidInput
from budsim.performance.measured import measurements
from budsim.performance.measured.measurements import Measurements, read_measurements, read_tables
from budsim.performance.measured.open_loop import settle
from budsim.performance.predictor import AnalyticPredictor
from budsim.performance.training.score import COLUMNS, evaluate, predict_file, predict_table

ROW = {
    "source": "own",
    "device_type": "cuda",
    "device_name": "H100-SXM",
    "n_devices": "8",
    "tp": "8",
    "engine": "vllm",
    "model_hf": "meta-llama/Llama-3.1-70B-Instruct",
    "precision": "fp8",
    "input_tokens": "1000",
    "output_tokens": "100",
    "concurrency": "16",
    "mode": "serving",
    "quality": "A",
}


def read(*changes: dict[str, str]) -> Measurements:
    """Read one row per dict of changes to an ordinary one."""
    return read_measurements(pd.DataFrame([{**ROW, **change} for change in changes]).fillna(""))


def test_an_ordinary_row_is_read_as_it_stands() -> None:
    """Parallelism, lengths and concurrency of a row are those of its candidate."""
    table = read({}).candidates
    assert (table.tp[0], table.pp[0], table.dp[0]) == (8, 1, 1)
    assert (table.input_tokens[0], table.output_tokens[0], table.concurrency[0]) == (1000, 100, 16)


def test_nominal_lengths_become_their_mean() -> None:
    """Sources that draw lengths from 0.8 to 1.0 of the nominal ones mean 0.9 of them."""
    assert read({"source": "inferencex"}).candidates.input_tokens[0] == pytest.approx(900)


def test_attention_ranks_of_experts_are_not_replicas() -> None:
    """(tp 1, dp 8) on 8 devices is one MoE replica with attention held whole on each; a dense model's dp are replicas."""
    experts = read({"model_hf": "deepseek-ai/DeepSeek-R1", "tp": "1", "dp": "8", "ep": "8"})
    assert (experts.candidates.tp[0], experts.candidates.dp[0], experts.replicas[0]) == (8, 8, 1)
    dense = read({"tp": "2", "dp": "4"})
    assert (dense.candidates.tp[0], dense.replicas[0], dense.candidates.concurrency[0]) == (2, 4, 4)


def test_devices_whose_use_a_row_does_not_say_are_stages() -> None:
    """(tp 2, pp 1) of a model on 8 devices leaves four times as many as it uses: a pipeline of four stages."""
    assert read({"tp": "2", "pp": "1"}).candidates.pp[0] == 4
    assert read({"tp": "2", "dp": "4"}).candidates.pp[0] == 1


def test_four_bits_are_those_of_the_model_or_the_maker() -> None:
    """gpt-oss in "fp4" is in its own MXFP4, another model in NVFP4 on NVIDIA's devices and in MXFP4 on AMD's."""
    stated = {"precision": "fp4", "source": "inferencex"}
    table = read(
        {**stated, "model_hf": "openai/gpt-oss-120b"},
        stated,
        {**stated, "device_name": "MI355X", "device_type": "rocm"},
    ).candidates
    assert [table.precisions[code].value for code in table.weight_precision] == [
        "mxfp4",
        "nvfp4",
        "mxfp4",
    ]


def test_a_serve_command_sets_what_the_columns_leave_open() -> None:
    """Token budget, sequences and memory of a row are those of the command in its notes; drafting is seen there too."""
    command = "args: vllm serve M --max-num-batched-tokens 4096 --max-num-seqs 64 --gpu-memory-utilization 0.8"
    table = read({"notes": command}, {"notes": f"{command} --speculative-config x"}).candidates
    assert (table.token_budget[0], table.max_num_seqs[0], table.memory_fraction[0]) == (
        4096,
        64,
        0.8,
    )
    assert table.speculative.tolist() == [False, True]


@pytest.mark.parametrize(
    ("change", "named"),
    [
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
    ],
)
def test_unreadable_rows_name_the_field(change: dict[str, str], named: str) -> None:
    """A row with a wrong or missing value is left out with a reason that names it; its neighbour is read."""
    measurements = read(change, {})
    assert named in measurements.problems[0]
    assert list(measurements.rows) == [1]


@pytest.mark.parametrize(
    ("kind", "device", "engine", "date", "profile"),
    [
        ("rocm", "MI300X", "vllm", "2024", "vllm(rocm 2024)"),
        ("cuda", "H100-SXM", "vllm", "2024-11", "vllm(2024)"),
        ("cuda", "H100-SXM", "vllm", "2023", "vllm(2023)"),
        ("cuda", "H100-SXM", "trtllm", "2024", "trtllm(2024)"),
    ],
)
def test_an_engine_of_an_early_year_is_another_engine(
    kind: str, device: str, engine: str, date: str, profile: str
) -> None:
    """Its host kept the device waiting, or it had no kernels of its own there: slower than today's, which a later date means."""
    row = {
        "device_type": kind,
        "device_name": device,
        "engine": engine,
        "tp": "1",
        "n_devices": "1",
        "precision": "bf16",
    }
    old, new = (read({**row, "date": each}) for each in (date, "2025-05-15"))
    assert [each.candidates.engines[0].name for each in (old, new)] == [profile, engine]
    slow, fast = (
        AnalyticPredictor().predict(each.candidates)[1].service.tpot_s[0] for each in (old, new)
    )
    assert slow > 1.01 * fast


def test_a_whole_generation_in_the_column_of_tpot_is_told_by_the_throughput() -> None:
    """24 users at 55 tokens/s in all wait 0.4 s a token: 104 s in that column is the time of all 256 tokens, 0.4 s is not."""
    row = {"concurrency": "24", "output_tokens": "256", "output_tokens_per_s_total": "55"}
    whole, single = read({**row, "tpot_ms_mean": "104082"}, {**row, "tpot_ms_mean": "406.6"}).tpot_s
    assert whole == pytest.approx(104.082 / 256)
    assert single == pytest.approx(0.4066)


def test_a_request_rate_becomes_the_concurrency_that_follows() -> None:
    """Little's law: requests in flight are the rate times the latency, and more of them come with a higher rate."""
    slow, fast = settle(
        read({"concurrency": "", "request_rate": "1"}, {"concurrency": "", "request_rate": "8"})
    ).candidates.concurrency
    assert 0 < slow < fast


def test_missing_files_and_columns_are_bad_input(tmp_path: Path) -> None:
    """A file that is not there, a folder without tables and an empty file are named."""
    (tmp_path / "empty.csv").write_text("")
    for path in (tmp_path / "none.csv", tmp_path / "empty.csv"):
        with pytest.raises(InvalidInput, match=path.name):
            read_tables([path])
    (tmp_path / "bare").mkdir()
    with pytest.raises(InvalidInput, match="no CSV file"):
        read_tables([tmp_path / "bare"])


def test_predictions_keep_order_index_and_columns() -> None:
    """Every row comes back where it was, with its own columns untouched and all prediction columns beside them."""
    table = pd.DataFrame(
        [ROW, {**ROW, "device_name": "?"}, {**ROW, "concurrency": "64"}], index=[7, 3, 5]
    )
    result = predict_table(table, AnalyticPredictor())
    assert list(result.index) == [7, 3, 5]
    assert result[list(ROW)].equals(table[list(ROW)])
    assert list(result["pred_error"] == "") == [True, False, True]
    assert set(COLUMNS) <= set(result.columns)
    assert result["pred_ttft_ms"].iloc[1] == ""


def predicted(file: Path, **how: int) -> pd.DataFrame:
    """Predict a file, and read what was written."""
    written = io.StringIO()
    rows, some = predict_file(file, written, AnalyticPredictor(), **how)
    table = pd.read_csv(io.StringIO(written.getvalue()), dtype=str, keep_default_na=False)
    assert (len(table), (table.pred_error == "").sum()) == (rows, some)
    return table


def test_long_files_are_predicted_in_parts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Five rows read two at a time are what they are read at once, in order, the unreadable one included."""
    file = tmp_path / "rows.csv"
    table = pd.DataFrame([{**ROW, "concurrency": load} for load in ("4", "8", "many", "16", "32")])
    table.to_csv(file, index=False)
    monkeypatch.setattr(measurements.read_parts, "__defaults__", (2,))
    assert [len(part) for part, _ in measurements.read_parts(file)] == [2, 2, 1]
    assert predicted(file).equals(predict_table(table, AnalyticPredictor()).astype(str))


def test_rows_of_another_width_and_foreign_bytes_stop_no_other(tmp_path: Path) -> None:
    """A row with more fields than the header says so, one with fewer is blank, bytes that are no UTF-8 are an unknown name."""
    row, values = ",".join(ROW.values()), list(ROW.values())
    foreign = row.replace("H100", "\xff\xfe")
    lines = [
        ",".join(ROW),
        row,
        row + ",surplus",
        ",".join(values[: list(ROW).index("concurrency")]),
        "",
        foreign,
        row,
    ]
    file = tmp_path / "rows.csv"
    file.write_bytes(b"\xef\xbb\xbf" + "\r\n".join(lines).encode("latin-1"))
    reasons = list(predicted(file).pred_error)
    assert [bool(reason) for reason in reasons] == [False, True, True, True, False]
    assert f"{len(ROW) + 1} fields" in reasons[1]
    assert "concurrency" in reasons[2]
    assert "device_name" in reasons[3]


@pytest.mark.parametrize("text", ["", "\n", "a,a\n1,2\n", 'a,b\n"' + "x" * 200_000])
def test_files_that_are_no_tables_are_bad_input(tmp_path: Path, text: str) -> None:
    """Nothing, two columns of one name, and a quote that never ends are named; so are files without a row that can be read."""
    file = tmp_path / "odd.csv"
    file.write_text(text)
    with pytest.raises(InvalidInput, match=r"odd\.csv"):
        predicted(file)


def test_a_header_alone_has_no_rows(tmp_path: Path) -> None:
    """A table without rows is predicted: its columns and the predictions' are written."""
    file = tmp_path / "rows.csv"
    file.write_text(",".join(ROW) + "\n")
    assert set(predicted(file).columns) == {*ROW, *COLUMNS}


def test_exact_copies_are_scored_once() -> None:
    """Two copies of a measured row count as one; a repeat on another date is a row of its own."""
    row = {**ROW, "tpot_ms_mean": "20", "date": "2026-01-01"}
    scores, problems = evaluate(
        pd.DataFrame([row, row, {**row, "date": "2026-01-02"}]), AnalyticPredictor()
    )
    assert {score.rows for score in scores} == {2}
    assert "copy" in problems[0]


cells = st.one_of(
    st.text(max_size=12),
    st.floats().map(str),
    st.integers().map(str),
    st.sampled_from(["", "nan", "inf", "-1"]),
)


@given(
    rows=st.lists(
        st.dictionaries(
            st.sampled_from([*ROW, "request_rate", "n_requests", "dp", "pp", "ep"]), cells
        ),
        min_size=1,
        max_size=4,
    )
)
@settings(max_examples=60)
def test_whatever_a_table_holds_each_row_is_predicted_or_explained(
    rows: list[dict[str, str]],
) -> None:
    """No cell, however strange, stops the others: each row has finite positive predictions or a reason, never both."""
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


PROCESSOR = {
    "device_type": "cpu",
    "device_name": "m7i.24xlarge",
    "engine": "llama.cpp",
    "model_hf": "meta-llama/Llama-3.2-1B-Instruct",
}


@pytest.mark.parametrize(
    ("version", "profile"),
    [
        ("", "llama.cpp-cpu"),
        ("llama.cpp_b6500", "llama.cpp-cpu"),
        ("ampere_optimized_llama.cpp_r3.4.0", "llama.cpp-cpu"),
        ("llama.cpp_b3615", "llama.cpp-cpu(one cache)"),
        ("ampere_optimized_llama.cpp_r2.0.0", "llama.cpp-cpu(one cache)"),
        ("llama.cpp_ea02c75", "llama.cpp-cpu(one cache)"),
    ],
)
def test_versions_tell_whether_sequences_share_a_cache(version: str, profile: str) -> None:
    """Builds before July 2025 keep all sequences in one cache; on an accelerator the version does not matter."""
    assert read({**PROCESSOR, "engine_version": version}).candidates.engines[0].name == profile
    assert (
        read({"engine": "llama.cpp", "engine_version": version}).candidates.engines[0].name
        == "llama.cpp"
    )


def test_a_process_has_as_many_cores_as_its_share_of_the_socket() -> None:
    """12 processes of 8 threads on 48 cores run two threads a core: four cores each; 4 processes of 8 threads have eight each."""
    notes = "threads per process=8, processes={0}, batch per process=1"
    rows = [
        {**PROCESSOR, "tp": "1", "n_devices": "1", "dp": dp, "notes": notes.format(dp)}
        for dp in ("12", "4")
    ]
    assert read(*rows).candidates.cores.tolist() == [4.0, 8.0]


def test_memory_bound_to_one_of_two_nodes_is_read_from_afar() -> None:
    """Ampere's benchmark keeps memory on node 0: on a machine of two nodes one process has less than half the bandwidth.

    The more processes share a last-level cache, the better off all are together; on a machine of one node nothing changes.
    """
    rows = [
        {
            **PROCESSOR,
            "source": source,
            "device_name": device,
            "dp": dp,
            "notes": f"threads per process=8, processes={dp}",
        }
        for source, device in (
            ("ampere_llamacpp", "m6i.32xlarge"),
            ("other", "m6i.32xlarge"),
            ("ampere_llamacpp", "m7i.24xlarge"),
        )
        for dp in ("1", "12")
    ]
    together = read(*rows).candidates.compute_share * np.array([1.0, 12.0] * 3)
    assert together[0] < 0.5 * together[1] < 0.5
    assert together[2:].tolist() == pytest.approx([1.0] * 4)
