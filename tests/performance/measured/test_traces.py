"""Traces of three formats, and what is said of rows that are no requests."""

from __future__ import annotations

import json
import tracemalloc
from pathlib import Path

import pytest

from budsim.commons.errors import InvalidInput
from budsim.performance.measured.traces import MOST_PROBLEMS, TraceFile, read_trace


def written(folder: Path, name: str, *lines: str, **options: int) -> TraceFile:
    """Write lines to a file and read it as a trace."""
    file = folder / name
    file.write_text("\n".join(lines) + "\n")
    return read_trace(file, **options)


def mooncake(at_ms: int, prompt: int, output: int, *blocks: int) -> str:
    """Return a line of Mooncake's format."""
    lengths = {"input_length": prompt, "output_length": output}
    return json.dumps({"timestamp": at_ms, **lengths, "hash_ids": blocks})


def test_azures_columns_become_seconds_and_tokens(tmp_path: Path) -> None:
    """Times count from the first request; seven digits of a second are read."""
    read = written(
        tmp_path,
        "azure.csv",
        "TIMESTAMP,ContextTokens,GeneratedTokens",
        "2023-11-16 18:15:46.6805900,374,44",
        "2023-11-16 18:15:50.6805900,396,109",
    )
    assert read.trace.send_s == pytest.approx([0.0, 4.0])
    assert read.trace.prompt_tokens.tolist() == [374, 396]
    assert read.trace.output_tokens.tolist() == [44, 109]
    assert read.traffic().rate == pytest.approx(0.25)


def test_our_own_columns_are_read_in_any_order(tmp_path: Path) -> None:
    """Further columns are ignored."""
    read = written(
        tmp_path, "own.csv", "output_tokens,send_s,user,prompt_tokens", "5,1.5,a,10", "6,2.5,b,20"
    )
    assert read.trace.send_s.tolist() == [0.0, 1.0]
    assert read.trace.prompt_tokens.tolist() == [10, 20]


def test_equal_hashes_of_mooncake_are_a_shared_prefix(tmp_path: Path) -> None:
    """The third request starts as the first (2 blocks); the second shares one with it."""
    read = written(
        tmp_path,
        "mooncake.jsonl",
        mooncake(0, 1500, 10, 1, 2, 3),
        mooncake(500, 600, 10, 1, 9),
        mooncake(2000, 1200, 10, 1, 2, 7),
    )
    assert read.trace.send_s.tolist() == [0.0, 0.5, 2.0]
    assert read.trace.reused_from.tolist() == [-1, 0, 0]
    assert read.trace.reused_tokens.tolist() == [0, 512, 1024]


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        ("x,10,5", "not readable"),
        ("3,-10,5", "-10 prompt"),
        ("3,0,5", "0 prompt"),
        ("3,10,-5", "-5 output"),
        ("0.5,10,5", "before the row above"),
        ("inf,10,5", "not finite"),
        ("3,900,200", "1100 tokens; at most 1000"),
        ("3,10", "not readable"),
    ],
)
def test_a_row_that_is_no_request_is_left_out_with_a_reason(
    tmp_path: Path, row: str, reason: str
) -> None:
    """The rows around it are kept; the problem names its line."""
    header = "send_s,prompt_tokens,output_tokens"
    read = written(tmp_path, "own.csv", header, "1,10,5", row, "4,10,5", longest_tokens=1000)
    assert (read.rows, read.left_out, len(read.trace)) == (3, 1, 2)
    assert read.problems[0].line == 3
    assert reason in read.problems[0].reason


def test_a_line_nested_too_deeply_is_left_out_as_any_other(tmp_path: Path) -> None:
    """A line of 100,000 brackets is no request; the one after it is read."""
    lines = (mooncake(0, 1500, 10, 1), "[" * 100_000, mooncake(9, 600, 10, 1))
    read = written(tmp_path, "deep.jsonl", *lines)
    assert len(read.trace) == 2
    assert "not readable (RecursionError" in str(read.problems[0])


def test_problems_are_bounded_however_many_rows_are_wrong(tmp_path: Path) -> None:
    """Of 5,000 wrong rows 100 are kept in words and all are counted."""
    wrong = ["1,0,0"] * 5000
    read = written(tmp_path, "own.csv", "send_s,prompt_tokens,output_tokens", "0,1,1", *wrong)
    assert len(read.problems) == MOST_PROBLEMS
    assert read.left_out == 5000


@pytest.mark.parametrize(
    ("name", "lines", "problem"),
    [
        ("empty.csv", ["send_s,prompt_tokens,output_tokens"], "no usable row"),
        ("wrong.csv", ["send_s,prompt_tokens,output_tokens", "1,0,1"], "line 2: 0 prompt"),
        ("other.csv", ["a,b", "1,2"], "no known format"),
        ("nothing.csv", [""], "no known format"),
    ],
)
def test_a_file_without_requests_is_an_error(
    tmp_path: Path, name: str, lines: list[str], problem: str
) -> None:
    """The error names the file and what is wrong with it."""
    with pytest.raises(InvalidInput, match=f"{name}.*{problem}"):
        written(tmp_path, name, *lines)


def test_a_missing_file_is_an_error(tmp_path: Path) -> None:
    """It says that the file cannot be read; a path may be text, as in a notebook."""
    with pytest.raises(InvalidInput, match="cannot be read"):
        read_trace(str(tmp_path / "none.csv"))


def test_long_traces_are_read_row_by_row(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Memory stays below 200 bytes a row, of which a trace holds 40; rows beyond are counted.

    The most rows are 20,000 here, a million otherwise.
    """
    monkeypatch.setattr("budsim.performance.measured.traces.MOST_REQUESTS", 20_000)
    file = tmp_path / "long.csv"
    rows = [f"{at},10,5" for at in range(20_100)]
    file.write_text("send_s,prompt_tokens,output_tokens\n" + "\n".join(rows), encoding="utf-8")
    tracemalloc.start()
    read = read_trace(file)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert (read.rows, len(read.trace), read.left_out) == (20_100, 20_000, 100)
    assert "a trace may have 20,000 requests" in read.problems[0].reason
    assert peak < 200 * len(rows)
