"""Result files become rows with the right units and loads, or say why not.

``results/guidellm.json`` is what GuideLLM 0.7.4 wrote of its own mock server (30 ms to the first
token, 5 ms a token), less the requests; the other two are written as their programs do.
"""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from budsim.cli import run
from budsim.commons.errors import InvalidInput
from budsim.performance.measured.importers import Imported, Setup, import_results
from budsim.performance.measured.measurements import read_measurements
from budsim.performance.measured.tables import read_tables

RESULTS = Path(__file__).parent / "results"
H100 = Setup(device="H100-SXM", tp=1, engine="vllm")
VLLM = json.loads((RESULTS / "vllm.json").read_text())


def imported(tmp_path: Path, document: object, setup: Setup = H100) -> Imported:
    """Import one file that holds ``document``, as JSON unless it is text."""
    file = tmp_path / "result.json"
    file.write_text(document if isinstance(document, str) else json.dumps(document))
    return import_results([file], setup)


def test_vllm_means_are_of_completed_requests():
    """200 requests of 200,000 prompt and 40,000 output tokens are 1000 + 200 each.

    Milliseconds stay milliseconds.
    """
    row = import_results([RESULTS / "vllm.json"], H100).rows.iloc[0]
    assert (row.input_tokens, row.output_tokens, row.concurrency, row.request_rate) == (
        "1000",
        "200",
        "16",
        "",
    )
    assert (row.ttft_ms_mean, row.ttft_ms_p50, row.ttft_ms_p90, row.ttft_ms_p99) == (
        "120",
        "100",
        "150",
        "200",
    )
    assert (row.tpot_ms_mean, row.tpot_ms_p99, row.itl_ms, row.e2e_latency_ms) == (
        "19.5",
        "22",
        "19.6",
        "4000.5",
    )
    assert (row.output_tokens_per_s_total, row.date, row.device_type) == (
        "800",
        "2026-02-14",
        "cuda",
    )


def test_guidellm_reports_hold_several_benchmarks():
    """Two closed loops and an open one become three rows.

    TPOT is its inter-token latency, not what it calls TPOT.
    """
    found = import_results([RESULTS / "guidellm.json"], H100)
    assert not found.problems
    assert list(found.rows.concurrency) == ["1", "4", ""]
    assert list(found.rows.request_rate) == ["", "", "8"]
    assert found.rows.tpot_ms_p50.astype(float).between(5, 6).all()
    assert found.rows.e2e_latency_ms.astype(float).between(110, 150).all()


def test_inferencex_seconds_become_milliseconds():
    """0.75 s is 750 ms, and 250 tokens/s on each of 8 devices are 2000.

    Attention ranks are data parallel, and lengths are nominal.
    """
    found = import_results([RESULTS / "inferencex.json"], Setup(source="my-lab"))
    row = found.rows.iloc[0]
    assert (row.ttft_ms_mean, row.tpot_ms_mean, row.e2e_latency_ms) == ("750", "30", "28400")
    assert (row.output_tokens_per_s_total, row.device_name, row.tp, row.dp, row.n_devices) == (
        "2000",
        "B200-SXM",
        "8",
        "8",
        "8",
    )
    assert read_measurements(found.rows).candidates.input_tokens[0] == pytest.approx(0.9 * 1024)
    assert len(found.problems) == 1
    assert "benchmark 2" in found.problems[0]
    assert "disaggregated" in found.problems[0]


@pytest.mark.parametrize(
    ("change", "concurrency", "rate"),
    [
        ({"max_concurrency": None}, "200", ""),
        ({"max_concurrency": 500}, "200", ""),
        ({"max_concurrency": None, "request_rate": 4.2}, "", "4.2"),
        ({"request_rate": 40.0}, "16", ""),
    ],
)
def test_load_is_what_the_server_saw(tmp_path, change, concurrency, rate):
    """All at once is a concurrency of all; a rate that was served is a rate.

    One held back by the cap is the cap.
    """
    row = imported(tmp_path, {**VLLM, **change}).rows.iloc[0]
    assert (row.concurrency, row.request_rate) == (concurrency, rate)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"completed": 0}, "completed"),
        ({"failed": 50}, "20% of the requests failed"),
        ({"mean_ttft_ms": -3}, "mean_ttft_ms"),
        ({"mean_ttft_ms": "fast"}, "mean_ttft_ms"),
        ({"mean_tpot_ms": float("nan")}, "mean_tpot_ms"),
        ({"mean_tpot_ms": [1]}, "mean_tpot_ms"),
        ({"total_input_tokens": None}, "total_input_tokens"),
        ({"ramp_up_strategy": "linear"}, "ramp_up_strategy"),
        ({"request_rate": 40.0, "max_concurrency": None}, "queue grew"),
        ({"model_id": "nobody/nothing"}, "nobody/nothing"),
        ({"model_id": None}, "`model`"),
    ],
)
def test_what_cannot_be_a_row_says_why(tmp_path, change, reason):
    """A benchmark with a wrong value is left out with a reason.

    Its neighbour is imported.
    """
    found = imported(tmp_path, [{**VLLM, **change}, VLLM])
    assert len(found.rows) == 1
    assert len(found.problems) == 1
    assert "result.json benchmark 1" in found.problems[0]
    assert reason in found.problems[0]


@pytest.mark.parametrize(
    ("setup", "named"),
    [
        (Setup(tp=1, engine="vllm"), "`device`"),
        (Setup(device="H100-SXM", engine="vllm"), "`tp`"),
        (Setup(device="H100-SXM", tp=1), "`engine`"),
        (Setup(device="Frobnicator", tp=1, engine="vllm"), "Frobnicator"),
        (Setup(device="H100-SXM", tp=1, engine="abacus"), "abacus"),
        (Setup(device="H100-SXM", tp=1, engine="vllm", precision="fp3"), "fp3"),
    ],
)
def test_what_the_file_does_not_say_is_asked_for(setup, named):
    """What is missing or unknown names the field of `Setup`, which is no option everywhere.

    Device, parallelism, engine and precision.
    """
    problem = import_results([RESULTS / "vllm.json"], setup).problems[0]
    assert named in problem
    assert "option" not in problem


def test_engines_are_named_as_simulations_name_them():
    """VLLM on a CPU socket is the engine whose defaults are those of CPUs.

    Unlike on a GPU it is not called vllm.
    """
    on_cpu = import_results(
        [RESULTS / "vllm.json"], Setup(device="Xeon Platinum 8480+", tp=1, engine="vllm")
    )
    assert list(on_cpu.rows.engine) == ["vllm-cpu"]
    assert list(import_results([RESULTS / "vllm.json"], H100).rows.engine) == ["vllm"]


def test_a_setup_never_contradicts_the_file_silently():
    """InferenceX says tp 8; tp 4 given beside it is an error of the row."""
    assert "`tp` left out" in import_results([RESULTS / "inferencex.json"], Setup(tp=4)).problems[0]


def test_few_failures_and_drafts_are_noted(tmp_path):
    """Five failures of 205 are told in the notes; speculative decoding marks the row as drafted."""
    found = imported(tmp_path, {**VLLM, "failed": 5, "spec_decode_acceptance_length": 2.4})
    assert "5 of 205 requests failed" in found.rows.notes[0]
    assert read_measurements(found.rows).candidates.speculative[0]


def test_appended_results_are_read_line_by_line(tmp_path):
    """`--append-result` writes an object a line.

    A broken line is one problem, the others are rows.
    """
    found = imported(tmp_path, "\n".join([json.dumps(VLLM), '{"completed": 3', json.dumps(VLLM)]))
    assert len(found.rows) == 2
    assert "line 2" in found.problems[0]


@pytest.mark.parametrize(
    "document",
    [
        "",
        "[",
        "no json",
        "7",
        '"text"',
        "null",
        "[1, null]",
        "{}",
        '{"benchmarks": 7}',
        '{"benchmarks": [{"metrics": []}]}',
        '{"metrics": {"request_totals": {"successful": 3}}}',
        '{"hw": "h100", "conc": "many"}',
        "[" * 5000,
    ],
)  # fmt: skip
def test_files_of_other_programs_are_explained(tmp_path, document):
    """Whatever a file holds, there is a reason and no exception."""
    found = imported(tmp_path, document)
    assert found.rows.empty
    assert found.problems


def test_a_file_that_is_not_there_is_named(tmp_path):
    """A missing file is bad input that names it."""
    with pytest.raises(InvalidInput, match=r"none\.json"):
        import_results([tmp_path / "none.json"], H100)


def test_the_terminal_writes_what_the_other_commands_read(tmp_path, capsys):
    """`budsim import` writes a CSV that reads back.

    It tells what it left out, and fails when nothing is left.
    """
    out = tmp_path / "rows.csv"
    files = [str(RESULTS / name) for name in ("vllm.json", "inferencex.json")]
    assert (
        run(
            [
                "import",
                *files,
                "-o",
                str(out),
                "--device",
                "B200-SXM",
                "--tp",
                "8",
                "--engine",
                "vllm",
            ]
        )
        == 0
    )
    assert "2 rows written" in capsys.readouterr().err
    assert len(read_measurements(read_tables([out]))) == 2
    assert run(["import", files[0], "-o", str(out)]) == 2
    assert "vllm.json: device: the file does not say it; expected --device" in (
        capsys.readouterr().err
    )
    assert run(["import", files[1], "-o", str(out), "--tp", "4"]) == 2
    assert "expected --tp left out" in capsys.readouterr().err


def test_data_ranks_multiply_devices_and_attention_ranks_share_them(tmp_path):
    """`--tp 4 --dp 2` are eight devices, `--tp 4 --attn-dp 2` four, as a plan's `attn-dp2` says."""
    beside = Setup(device="H100-SXM", tp=4, dp=2, engine="vllm", model="Qwen/Qwen3-30B-A3B")
    among = replace(beside, dp=None, attn_dp=2)
    for setup, devices in ((beside, 8), (among, 4)):
        rows = imported(tmp_path, VLLM, setup).rows
        read = read_measurements(rows).candidates
        assert list(rows.n_devices) == [str(devices)]
        assert (read.tp[0], read.dp[0]) == (devices, 2)
    both = imported(tmp_path, VLLM, replace(beside, attn_dp=4))
    assert "attn_dp" in both.problems[0]


def test_cores_are_of_a_processor(tmp_path):
    """`--cores 16` becomes a column for a processor, and is refused for a GPU."""
    processor = Setup(device="EPYC-9654", tp=1, engine="vllm", cores=16)
    row = imported(tmp_path, VLLM, processor).rows
    assert list(row.cores) == ["16"]
    assert read_measurements(row).candidates.cores[0] == 16
    assert "cores" in imported(tmp_path, VLLM, replace(H100, cores=16)).problems[0]


def test_texts_of_other_programs_are_read_too(tmp_path):
    """A Markdown table of llama-bench becomes a row for each of its tests."""
    table = (
        "| model | size | params | backend | ngl | test | t/s |\n|---|---|---|---|---|---|---|\n"
        "| llama 8B Q8_0 | 8 GiB | 8 B | CUDA | 99 | pp512 | 5120 ± 1 |\n"
        "| llama 8B Q8_0 | 8 GiB | 8 B | CUDA | 99 | tg128 | 100 ± 1 |\n"
    )
    setup = Setup(device="RTX4090", model="meta-llama/Llama-3.1-8B")
    found = imported(tmp_path, table, setup)
    assert not found.problems
    assert list(found.rows.ttft_ms_mean) == ["100", ""]
    assert list(found.rows.precision) == ["q8_0", "q8_0"]
