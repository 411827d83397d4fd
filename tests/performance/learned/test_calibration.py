"""A site's correction helps what is like its measurements, leaves the rest alone, and is refused where it does not belong."""

import json
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from budsim.cli import run
from budsim.commons.errors import InvalidInput, Unavailable
from budsim.performance.learned.calibration import NOISE, POINT, SHARES, load_calibration
from budsim.performance.measured.measurements import read_tables
from budsim.performance.predictions import Basis
from budsim.performance.predictor import Predictor, load_predictor
from budsim.performance.training.score import evaluate, predict_table
from budsim.performance.training.site_calibration import Calibrated, calibrate
from tests.performance.populations import population

SLOWER = 1.5
"""The invented site is so much slower than what is shipped: power caps, an older driver."""
ROW = {
    "source": "site",
    "device_type": "cuda",
    "device_name": "H100-SXM",
    "engine": "vllm",
    "model_hf": "meta-llama/Llama-3.1-70B-Instruct",
    "n_devices": "4",
    "tp": "4",
    "precision": "fp8",
    "input_tokens": "1024",
    "output_tokens": "256",
    "mode": "serving",
    "quality": "A",
}
CREATED = "2026-01-31"


@pytest.fixture(scope="module")
def shipped() -> Predictor:
    """Return the shipped models."""
    return load_predictor()


def site(
    shipped: Predictor, rows: list[dict[str, str]], factor: float = SLOWER, noise: float = 0.03
) -> pd.DataFrame:
    """Measure configurations at the invented site: the shipped predictions, slower by a factor, with a little noise."""
    table = predict_table(pd.DataFrame([{**ROW, **row} for row in rows]), shipped)
    spread = np.random.default_rng(0).lognormal(np.log(factor), noise, size=(2, len(table)))
    table["ttft_ms_mean"] = (table.pred_ttft_ms.astype(float) * spread[0]).astype(str)
    table["tpot_ms_mean"] = (table.pred_tpot_ms.astype(float) * spread[1]).astype(str)
    return table[[*ROW, "concurrency", "ttft_ms_mean", "tpot_ms_mean"]]


def sweep(*loads: int, **changes: str) -> list[dict[str, str]]:
    """Return one row for each concurrency."""
    return [{**changes, "concurrency": str(load)} for load in loads]


@pytest.fixture(scope="module")
def few(shipped: Predictor) -> Calibrated:
    """Calibrate on three loads of one configuration."""
    return calibrate(site(shipped, sweep(4, 16, 64)), shipped, created=CREATED)


def at(predictor: Predictor, **changes: object) -> tuple[float, float]:
    """Return predicted TTFT and TPOT of a candidate like the measured ones, in seconds."""
    defaults = {"tp": 4, "concurrency": 16, "input_tokens": 1024, "output_tokens": 256}
    service = predictor.predict(population(**{**defaults, **changes}))[1].service
    return float(service.ttft_s[0]), float(service.tpot_s[0])


def corrected(shipped: Predictor, found: Calibrated, **changes: object) -> np.ndarray:
    """Return by what factor a calibration changes TTFT and TPOT."""
    own = replace(shipped, calibration=found.calibration)
    return np.array(at(own, **changes)) / np.array(at(shipped, **changes))


def test_three_rows_carry_over_by_how_much_is_alike(shipped, few):
    """A site 1.5 times as slow: most of it is corrected where it was measured, less in another layout, model and engine."""
    here = corrected(shipped, few, precision="fp8")
    layout = corrected(shipped, few, precision="fp8", tp=8)
    model = corrected(shipped, few, model="Qwen/Qwen3-235B-A22B", precision="fp8", tp=8)
    engine = corrected(
        shipped, few, model="Qwen/Qwen3-235B-A22B", engine="sglang", precision="fp8", tp=8
    )
    ladder = np.stack([engine, model, layout, here])
    assert (np.diff(ladder, axis=0) > 0).all()
    assert (here > 1.3).all()
    assert (here < SLOWER).all()
    assert (engine > 1.0).all()


def test_other_devices_and_static_batches_are_left_alone(shipped, few):
    """Nothing measured here says anything of an A100, nor of a batch without arrivals."""
    assert corrected(shipped, few, device="A100-80GB") == pytest.approx([1.0, 1.0])
    assert corrected(shipped, few, static_batch=True) == pytest.approx([1.0, 1.0])


def test_basis_is_measured_near_a_measurement_only(shipped, few):
    """A concurrency of 16 was measured and 18 is near it; 32, another tensor parallelism and another model are not."""
    own = replace(shipped, calibration=few.calibration)
    loads = own.predict(
        population(
            precision="fp8",
            tp=[4, 4, 4, 8],
            concurrency=[16, 18, 32, 16],
            input_tokens=1024,
            output_tokens=256,
        )
    )[1]
    assert [loads.basis(row) for row in range(4)] == [
        Basis.MEASURED,
        Basis.MEASURED,
        Basis.LEARNED,
        Basis.LEARNED,
    ]
    other = own.predict(
        population(model="Qwen/Qwen3-235B-A22B", precision="fp8", tp=4, concurrency=16)
    )[1]
    assert other.basis(0) is Basis.LEARNED


def test_intervals_narrow_where_the_site_measured_and_keep_their_value(shipped, few):
    """The 90 % interval of TPOT is narrower, in the logarithm, where three rows are near, and holds the corrected value."""
    where = population(precision="fp8", tp=4, concurrency=16, input_tokens=1024, output_tokens=256)
    before, after = (
        p.predict(where)[1] for p in (shipped, replace(shipped, calibration=few.calibration))
    )
    widths = [
        float(np.log(each.tpot_s[0.9].high / each.tpot_s[0.9].low)[0]) for each in (before, after)
    ]
    assert widths[1] < 0.85 * widths[0]
    for interval, value in (
        (after.ttft_s[0.9], after.service.ttft_s),
        (after.e2e_s[0.9], after.service.e2e_s),
    ):
        assert interval.low[0] <= value[0] <= interval.high[0]


def test_one_row_is_shrunk_halfway(shipped):
    """One row of a factor e**r moves its own configuration by everything but the noise: r times 1 - NOISE = 0.75."""
    found = calibrate(site(shipped, sweep(16), noise=0.0), shipped, created=CREATED)
    factor = corrected(shipped, found, precision="fp8")
    assert np.log(factor) == pytest.approx([0.75 * np.log(SLOWER)] * 2, rel=1e-3)
    assert sum(SHARES.values()) + POINT + NOISE == pytest.approx(1.0)


def test_a_correction_that_does_not_help_is_not_used(shipped):
    """Two sweeps that contradict each other cannot predict one another: no target is used, and the check says so."""
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
    """Rows that scatter by a factor of 2 around the predictions make intervals wider than shipped, not narrower."""
    rows = (
        sweep(1, 4, 16, 64)
        + sweep(1, 4, 16, 64, tp="8", n_devices="8")
        + sweep(1, 4, 16, 64, input_tokens="8192")
    )
    found = calibrate(site(shipped, rows, factor=1.0, noise=0.7), shipped, created=CREATED)
    assert found.calibration.document["targets"]["tpot"]["widening"] > 2.0


def test_repeats_and_other_modes_are_left_out_with_reasons(shipped):
    """An exact copy, a static batch, a drafted row and an unknown device teach nothing, and each says why."""
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
        with pytest.raises(InvalidInput, match="--with"):
            calibrate(table, shipped, created=CREATED)


def test_calibrations_are_refused_where_they_do_not_belong(shipped, few, tmp_path):
    """A stored calibration reads back the same; one for other trained models, or a file that is none, is refused."""
    file = tmp_path / "site.json"
    file.write_text(json.dumps(few.calibration.document))
    again = load_calibration(file, shipped.models_sha256)
    assert again.document == few.calibration.document
    assert corrected(shipped, few) == pytest.approx(
        corrected(shipped, replace(few, calibration=again))
    )
    with pytest.raises(Unavailable, match="budsim calibrate"):
        load_calibration(file, "of other models")
    for text in ("", "{}", "[]", "7", json.dumps({**few.calibration.document, "rows": [{}]})):
        file.write_text(text)
        with pytest.raises(InvalidInput, match=r"site\.json"):
            load_calibration(file, shipped.models_sha256)


def test_the_terminal_calibrates_and_simulates_with_it(shipped, tmp_path, capsys):
    """`budsim calibrate` tells drift and checks, and a simulation that names the file rests on what was measured."""
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
