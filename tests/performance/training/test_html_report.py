"""The HTML report stands alone."""

import re
from pathlib import Path

import pandas as pd
import pytest

from budsim.cli import run
from budsim.performance.training.html_report import training_page
from budsim.performance.training.learning_curves import CurvePoint


@pytest.mark.timeout(600)  # matplotlib looks for fonts the first time it draws
def test_the_page_stands_alone(trained):
    """One file: no script, no link or picture elsewhere.

    Pictures of TTFT, TPOT and the learning curves are in it.
    """
    page = training_page(
        trained, {"cuda: curves": [CurvePoint(groups=3, median={"tpot": 0.1, "ttft": 0.2})]}
    )
    assert len(re.findall(r'<img alt="[^"]+" src="data:image/png;base64,', page)) == 3
    assert not re.findall(r"<script|<link|https?://", page)
    assert "Spearman in a question" in page


@pytest.mark.timeout(600)
def test_the_terminal_writes_the_page_of_an_evaluation(
    benchmark: pd.DataFrame, tmp_path: Path, capsys
):
    """`budsim evaluate --report` writes plots and the reasons of rows left out.

    A folder that is not there is bad input.
    """
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
