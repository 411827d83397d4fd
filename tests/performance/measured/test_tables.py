"""CSV files are read in parts, whatever they hold."""

from __future__ import annotations

import io
from pathlib import Path

import pandas as pd
import pytest

from budsim.commons.errors import InvalidInput
from budsim.performance.measured import tables
from budsim.performance.measured.tables import read_tables
from budsim.performance.predictor import AnalyticPredictor
from budsim.performance.training.score import COLUMNS, evaluate, predict_file, predict_table
from tests.performance.measured.measured_rows import ROW


def test_a_file_that_is_no_text_is_refused(tmp_path: Path) -> None:
    """It must not be answered as a table without rows."""
    (tmp_path / "binary.csv").write_bytes(b"\x00\xff\xfe" * 100)
    with pytest.raises(InvalidInput, match=r"binary\.csv has no header"):
        read_tables([tmp_path / "binary.csv"])


def test_missing_files_and_columns_are_bad_input(tmp_path: Path) -> None:
    """A file that is not there, a folder without tables and an empty file are named."""
    (tmp_path / "empty.csv").write_text("")
    for path in (tmp_path / "none.csv", tmp_path / "empty.csv"):
        with pytest.raises(InvalidInput, match=path.name):
            read_tables([path])
    (tmp_path / "bare").mkdir()
    with pytest.raises(InvalidInput, match="no CSV file"):
        read_tables([tmp_path / "bare"])


def predicted(file: Path, **how: int) -> pd.DataFrame:
    """Predict a file, and read what was written."""
    written = io.StringIO()
    rows, some = predict_file(file, written, AnalyticPredictor(), **how)
    table = pd.read_csv(io.StringIO(written.getvalue()), dtype=str, keep_default_na=False)
    assert (len(table), (table.pred_error == "").sum()) == (rows, some)
    return table


def test_long_files_are_predicted_in_parts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Five rows read two at a time are what they are read at once.

    In order, the unreadable one included.
    """
    file = tmp_path / "rows.csv"
    table = pd.DataFrame([{**ROW, "concurrency": load} for load in ("4", "8", "many", "16", "32")])
    table.to_csv(file, index=False)
    monkeypatch.setattr(tables.read_parts, "__defaults__", (2,))
    assert [len(part) for part, _ in tables.read_parts(file)] == [2, 2, 1]
    assert predicted(file).equals(predict_table(table, AnalyticPredictor()).astype(str))


def test_rows_of_another_width_and_foreign_bytes_stop_no_other(tmp_path: Path) -> None:
    """A row with more fields than the header says so, one with fewer is blank.

    Bytes that are no UTF-8 are an unknown name.
    """
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
    """Nothing, two columns of one name, and an endless quote are named as errors.

    So are files without a readable row.
    """
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
