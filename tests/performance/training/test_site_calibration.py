"""A site's calibration is checked by what it has not seen."""

import json
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from budsim.cli import run
from budsim.commons.errors import InvalidInput
from budsim.performance.measured.measurements import read_measurements
from budsim.performance.measured.tables import read_tables
from budsim.performance.predictions import Basis
from budsim.performance.training.score import evaluate, predict_table
from budsim.performance.training.site_calibration import calibrate
from tests.performance.learned.site import CREATED, ROW, site, sweep


def test_a_correction_that_does_not_help_is_not_used(shipped):
    """Two sweeps that contradict each other cannot predict one another.

    No target is used, and the check says so.
    """
    fast, slow = (
        site(shipped, sweep(4, 16, 64), 0.5),
        site(shipped, sweep(4, 16, 64, input_tokens="8192"), 2.0),
    )
    found = calibrate(pd.concat([fast, slow], ignore_index=True), shipped, created=CREATED)
    assert not found.calibration.learned
    assert all(
        check.after > check.before for check in found.checks if check.withheld == "each sweep"
    )


def test_withheld_rows_are_what_refitting_without_them_says(shipped):
    """The closed form of leaving one row out equals a calibration made without that row."""
    table = site(shipped, sweep(4, 16, 64), noise=0.2)
    whole = calibrate(table, shipped, created=CREATED)
    errors = []
    for row in range(3):
        part = calibrate(table.drop(index=row), shipped, created=CREATED)
        own = replace(shipped, calibration=part.calibration)
        score = next(s for s in evaluate(table.iloc[[row]], own)[0] if s.quantity == "tpot_ms")
        errors.append(score.median)
    check = next(
        each for each in whole.checks if each.target == "tpot" and each.withheld == "each row"
    )
    assert check.after == pytest.approx(np.median(errors), abs=2e-4)


def test_intervals_widen_where_the_site_left_them(shipped):
    """Rows that scatter by a factor of 2 widen the intervals.

    They make them wider than shipped, not narrower.
    """
    rows = (
        sweep(1, 4, 16, 64)
        + sweep(1, 4, 16, 64, tp="8", n_devices="8")
        + sweep(1, 4, 16, 64, input_tokens="8192")
    )
    found = calibrate(site(shipped, rows, factor=1.0, noise=0.7), shipped, created=CREATED)
    assert found.calibration.document["targets"]["tpot"]["widening"] > 2.0


def test_repeats_and_other_modes_are_left_out_with_reasons(shipped):
    """A copy, a static batch, a drafted row and an unknown device teach nothing.

    Each says why.
    """
    table = site(shipped, sweep(4, 16, 64))
    table["notes"] = ["", "spec=mtp", ""]
    odd = table.iloc[[0, 0, 0]].assign(
        mode=["serving", "static_batch", "serving"], device_name=["H100-SXM", "H100-SXM", "?"]
    )
    found = calibrate(pd.concat([table, odd], ignore_index=True), shipped, created=CREATED)
    reasons = " ".join(found.problems)
    assert len(found.calibration.document["rows"]) == 2
    for part in ("copy", "mode", "mtp", "device_name"):
        assert part in reasons


def test_nothing_to_learn_from_is_bad_input(shipped):
    """Rows without a measured value, and tables without usable rows, are refused."""
    blank = pd.DataFrame([{**ROW, "concurrency": "4"}])
    for table in (blank, blank.assign(device_name="?")):
        with pytest.raises(InvalidInput, match="rows"):
            calibrate(table, shipped, created=CREATED)


def test_the_terminal_calibrates_and_simulates_with_it(shipped, tmp_path, capsys):
    """`budsim calibrate` tells drift and checks.

    A simulation that names the file rests on what was measured.
    """
    rows, stored, cluster = tmp_path / "rows.csv", tmp_path / "site.json", tmp_path / "lab.yaml"
    site(shipped, sweep(1, 4, 16, 64), factor=4.0).to_csv(rows, index=False)
    cluster.write_text(
        "clusters: [{name: lab, nodes: [{name: g, devices: [{device: H100-SXM, count: 4}]}]}]"
    )
    assert run(["calibrate", "--with", str(rows), "-o", str(stored)]) == 0
    told = capsys.readouterr()
    assert "drift" in told.err
    assert "each row" in told.out
    question = ["simulate", "--model", ROW["model_hf"], "--cluster", str(cluster), "--quantize"]
    question += [
        "--input-tokens",
        "1024",
        "--output-tokens",
        "256",
        "--concurrency",
        "16",
        "--json",
    ]
    best = []
    for correction in ([], ["--calibration", str(stored)]):
        assert run([*question, *correction]) == 0
        best.append(json.loads(capsys.readouterr().out)["configurations"][0]["ttft"])
    assert best[1] > 1.2 * best[0]
    question += ["--calibration", str(stored)]
    assert run([*question, "--analytic"]) == 2
    assert "--calibration" in capsys.readouterr().err
    assert run(["evaluate", str(rows), "--calibration", str(stored)]) == 0
    assert len(read_tables([rows])) == 4


def test_a_value_too_far_from_its_prediction_is_named_and_never_measured(shipped):
    """A TTFT a thousand times as long is left out by name.

    The answer then rests on measurements for TPOT alone.
    """
    table = site(shipped, sweep(4, 16, 64))
    table["ttft_ms_mean"] = [str(float(value) * 1000.0) for value in table.ttft_ms_mean]
    found = calibrate(table, shipped, created=CREATED)
    assert sum("times the predicted" in problem for problem in found.problems) == 3
    assert {each.target for each in found.used} == {"tpot"}
    measurements = read_measurements(table)
    predictions = replace(shipped, calibration=found.calibration).predict(measurements.candidates)[
        1
    ]
    assert predictions.bases(0)["tpot"] is Basis.MEASURED
    assert predictions.bases(0)["ttft"] is not Basis.MEASURED
    assert predictions.basis(0) is not Basis.MEASURED


def test_one_row_is_used_and_shown(shipped, tmp_path, capsys):
    """Nothing is left to check it on, which is said instead of an empty table."""
    rows = tmp_path / "rows.csv"
    site(shipped, sweep(4), factor=2.0).to_csv(rows, index=False)
    assert run(["calibrate", "--with", str(rows), "-o", str(tmp_path / "site.json")]) == 0
    told = capsys.readouterr().out
    assert "used unchecked" in told
    assert "ttft" in told.split("Answers are about steady traffic")[1]
    assert "each row" not in told


def test_the_steady_figure_is_what_a_corrected_prediction_of_steady_traffic_says(shipped):
    """It comes from the replay that answers and `predict` show."""
    table = site(shipped, sweep(4, 64))
    found = calibrate(table, shipped, created=CREATED)
    own = replace(shipped, calibration=found.calibration)
    steady = predict_table(table.assign(arrival="steady"), own)
    for target in ("ttft", "tpot"):
        told = [each.steady_ms for each in found.used if each.target == target]
        assert told == pytest.approx(steady[f"pred_{target}_ms"].astype(float).tolist(), rel=1e-4)
