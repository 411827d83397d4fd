"""The HTML report says what it should, stands alone, and its learning curves fall as more is taught."""

import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from budsim.cli import run
from budsim.hardware_ops.device import DeviceKind
from budsim.performance.training.fit import Fitting, Trained, train
from budsim.performance.training.html_report import (
    Comparison,
    breakdown,
    marks,
    ranking,
    training_page,
)
from budsim.performance.training.learning_curves import CurvePoint, learning_curve


def comparison(measured: list[float], predicted: list[float], question: list[str]) -> Comparison:
    """Return a comparison of one device and model, every value inside its interval but the first."""
    names = pd.DataFrame(
        {
            "device": "H100",
            "engine": "vllm",
            "model": "<b>m</b>",
            "mode": "serving",
            "question": question,
        }
    )
    inside = np.array([0.0] + [1.0] * (len(measured) - 1))
    return Comparison(
        title="t",
        quantity="TPOT, ms",
        measured=np.array(measured),
        predicted=np.array(predicted),
        inside=inside,
        names=names,
    )


@pytest.fixture(scope="module")
def trained(
    benchmark: pd.DataFrame, tmp_path_factory: pytest.TempPathFactory
) -> dict[DeviceKind, Trained]:
    """Train a few trees on the invented benchmark."""
    return train(benchmark, tmp_path_factory.mktemp("models"), rounds=10)


def test_ranking_is_within_questions():
    """Perfect order within each of two questions is 1, whatever the order between them; reversed is -1; four rows are too few."""
    values = [1.0, 2.0, 3.0, 4.0, 5.0]
    assert ranking(
        comparison([*values, *values], [*values, *(10 * v for v in values)], ["a"] * 5 + ["b"] * 5)
    ) == pytest.approx(1)
    assert ranking(comparison(values, values[::-1], ["a"] * 5)) == pytest.approx(-1)
    assert np.isnan(ranking(comparison(values[:4], values[:4], ["a"] * 4)))


def test_breakdown_counts_errors_and_coverage_by_group():
    """Five predictions, one twice too high: median 0 %, mean 20 %, and four of five inside; every group has its row."""
    table = breakdown(comparison([1, 2, 3, 4, 5], [2, 2, 3, 4, 5], ["a"] * 5)).set_index("rows of")
    assert list(table.index) == [
        "all",
        "device H100",
        "engine vllm",
        "model <b>m</b>",
        "mode serving",
    ]
    assert tuple(table.loc["all", ["rows", "median", "mean", "in 90 % interval"]]) == (
        "5",
        "0.0%",
        "20.0%",
        "80.0%",
    )


def test_marks_stand_beside_what_was_reached(trained):
    """The invented rows are no serving rows of the marks' sources, so those lines have no figure; every line has its marks."""
    table = marks(trained)
    assert len(table) == 9
    assert table.here[0] == "- / -"
    assert (table[["first mark", "goal", "best elsewhere"]] != "").all(axis=None)


@pytest.mark.timeout(600)  # matplotlib looks for fonts the first time it draws
def test_the_page_stands_alone(trained):
    """One file: no script, no link or picture elsewhere; pictures of TTFT, TPOT and the learning curves are in it."""
    page = training_page(
        trained, {"cuda: curves": [CurvePoint(groups=3, median={"tpot": 0.1, "ttft": 0.2})]}
    )
    assert len(re.findall(r'<img alt="[^"]+" src="data:image/png;base64,', page)) == 3
    assert not re.findall(r"<script|<link|https?://", page)
    assert "Spearman in a question" in page


def test_more_curves_teach_more(trained):
    """On rows that are physics times one factor, half of the curves teach it to a few per cent, and all of them do no worse."""
    rows = trained[DeviceKind.CUDA].rows
    few, all_ = learning_curve(rows, "curve", Fitting(seed=0, rounds=30))[-2:]
    assert few.groups < all_.groups
    assert all_.median["tpot"] < few.median["tpot"] + 0.02 < 0.1


@pytest.mark.timeout(600)
def test_the_terminal_writes_the_page_of_an_evaluation(
    benchmark: pd.DataFrame, tmp_path: Path, capsys
):
    """`budsim evaluate --report` writes plots and the reasons of rows left out; a folder that is not there is bad input."""
    rows, page = tmp_path / "rows.csv", tmp_path / "page.html"
    benchmark = benchmark.drop(columns="ttft_ms_mean")
    pd.concat([benchmark.iloc[::8], benchmark.iloc[[0]].assign(device_name="<i>?</i>")]).to_csv(
        rows, index=False
    )
    assert run(["evaluate", str(rows), "--by", "mode", "--report", str(page)]) == 0
    text = page.read_text()
    assert "data:image/png" in text
    assert "&lt;i&gt;?&lt;/i&gt;" in text
    assert "<i>?</i>" not in text
    assert run(["evaluate", str(rows), "--report", str(tmp_path / "none" / "page.html")]) == 2
    assert "--report" in capsys.readouterr().err
