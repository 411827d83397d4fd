"""Training repeats itself to the byte, its artefacts cannot be altered unnoticed, and it learns what physics misses."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from budsim.commons.errors import InvalidInput, Unavailable
from budsim.hardware_ops.device import DeviceKind
from budsim.performance.learned.features import feature_names
from budsim.performance.learned.intervals import (
    Novelty,
    Residuals,
    conformal_ends,
    grouped_ends,
    stratum_ends,
)
from budsim.performance.learned.regressors import load_regressors
from budsim.performance.measured.measurements import read_measurements, read_tables
from budsim.performance.predictor import AnalyticPredictor, Predictor, load_predictor
from budsim.performance.training.fit import MONOTONE, PARAMETERS, train, training_rows, usable_rows
from budsim.performance.training.score import evaluate
from budsim.performance.training.tune import search
from tests.performance.populations import TRUE_FACTOR, population

ROUNDS = 60


@pytest.fixture(scope="module")
def artefacts(benchmark: pd.DataFrame, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with models trained on the invented benchmark."""
    folder = tmp_path_factory.mktemp("models")
    train(benchmark, folder, rounds=ROUNDS)
    return folder


def test_training_learns_what_physics_gets_wrong(benchmark: pd.DataFrame, artefacts: Path) -> None:
    """On a machine room half as slow again as physics, the trained models are within 5 % where physics is off by a third."""
    learned = {
        score.quantity: score
        for score in evaluate(benchmark, load_predictor(artefacts))[0]
        if score.group == "all"
    }
    physics = {
        score.quantity: score
        for score in evaluate(benchmark, AnalyticPredictor())[0]
        if score.group == "all"
    }
    assert learned["tpot_ms"].median < 0.05
    assert physics["tpot_ms"].median > 0.3
    assert learned["tpot_ms"].coverage90 > 0.85


def test_same_data_and_seed_give_the_same_bytes(
    benchmark: pd.DataFrame, artefacts: Path, tmp_path: Path
) -> None:
    """A second training writes identical files."""
    train(benchmark, tmp_path, rounds=ROUNDS)
    for path in sorted(artefacts.rglob("*.*")):
        assert (tmp_path / path.relative_to(artefacts)).read_bytes() == path.read_bytes(), path.name


@pytest.mark.parametrize(
    "harm",
    [
        "missing",
        "truncated",
        "altered",
        "other features",
        "no manifest",
        "lacks intervals",
        "lacks shrinkage",
        "unknown kind",
    ],
)
def test_harmed_artefacts_are_refused(artefacts: Path, tmp_path: Path, harm: str) -> None:
    """A missing, truncated or altered artefact, or one made for other features, is an error that says what to do."""
    folder = tmp_path / "models"
    shutil.copytree(artefacts, folder)
    booster, manifest = folder / "cuda" / "tpot.ubj", folder / "cuda" / "manifest.json"
    content = booster.read_bytes()
    if harm == "missing":
        booster.unlink()
    elif harm == "truncated":
        booster.write_bytes(content[:-100])
    elif harm == "altered":
        booster.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    elif harm == "other features":
        manifest.write_text(
            json.dumps({**json.loads(manifest.read_text()), "features": ["moon_phase"]})
        )
    elif harm == "no manifest":
        manifest.unlink()
    elif harm == "unknown kind":
        (folder / "cuda").rename(folder / "abacus")
    else:
        stated = json.loads(manifest.read_text())
        stated.pop(harm.removeprefix("lacks "))
        manifest.write_text(json.dumps(stated))
    with pytest.raises(Unavailable, match="budsim train"):
        load_regressors(folder)


def test_new_devices_and_models_are_told_apart(artefacts: Path) -> None:
    """A trained model on a trained device is known; a new one of either is said to be new, the device before the model."""
    regressors = next(iter(load_regressors(artefacts).values()))
    known = regressors.stratum(population())[0]
    new_model = regressors.stratum(population(model="openai/gpt-oss-120b"))[0]
    new_device = regressors.stratum(population(model="openai/gpt-oss-120b", device="L40S"))[0]
    assert len({known, new_model, new_device}) == 3


def test_kinds_without_regressors_degrade_to_physics(artefacts: Path) -> None:
    """Where a kind of hardware was never trained, the answer is the analytic model's and says so."""
    candidates = population(device="Gaudi3")
    trained, plain = (
        load_predictor(artefacts).predict(candidates)[1],
        AnalyticPredictor().predict(candidates)[1],
    )
    assert not trained.learned[0]
    assert trained.service.tpot_s[0] == plain.service.tpot_s[0]


def test_intervals_hold_their_value_and_widen(artefacts: Path) -> None:
    """Every interval contains the prediction, and the 90 % one contains the 80 % one."""
    for predictor in (load_predictor(artefacts), Predictor({})):
        predictions = predictor.predict(population(concurrency=[1, 8, 64]))[1]
        for value, by_coverage in (
            (predictions.service.ttft_s, predictions.ttft_s),
            (predictions.service.tpot_s, predictions.tpot_s),
            (predictions.service.e2e_s, predictions.e2e_s),
            (predictions.service.tokens_per_s_per_user, predictions.tokens_per_s_per_user),
        ):
            narrow, wide = by_coverage[0.8], by_coverage[0.9]
            ladder = np.stack([wide.low, narrow.low, value, narrow.high, wide.high])
            assert (np.diff(ladder, axis=0) >= 0).all()


def test_conformal_ends_hold_their_share() -> None:
    """Of 1..99, ninety per cent lie from 5 to 95 when the tails are equal."""
    assert conformal_ends(np.arange(1.0, 100.0), 0.9) == (5.0, 95.0)


def test_intervals_hold_rows_of_groups_that_did_not_make_them() -> None:
    """Ends made of ten groups hold nearly nine tenths of others' rows even where each group is off in its own way.

    Ends that take rows for independent then hold fewer; where rows are independent, both hold what they promise.
    """
    rng = np.random.default_rng(1)
    groups = np.repeat(np.arange(1000), 20)
    shares = {}
    for off in (1.0, 0.0):
        values = off * rng.standard_normal(1000)[groups] + 0.2 * rng.standard_normal(len(groups))
        unseen, held = values[groups >= 800], {"plain": 0.0, "grouped": 0.0}
        for part in range(80):
            other = groups // 10 == part
            made = {
                "plain": conformal_ends(values[other], 0.9),
                "grouped": grouped_ends(Residuals(values[other], groups[other]), 0.9),
            }
            for name, (low, high) in made.items():
                held[name] += float(np.mean((unseen >= low) & (unseen <= high))) / 80
        shares[off] = held
    assert shares[1.0]["grouped"] > max(shares[1.0]["plain"] + 0.04, 0.86)
    assert shares[0.0] == {name: pytest.approx(0.9, abs=0.03) for name in shares[0.0]}


def test_two_groups_are_no_surer_than_the_analytic_model() -> None:
    """However well two devices agree, a third may not: the ends are the analytic model's; from three on the residuals tell."""
    values, analytic = np.random.default_rng(0).normal(0.0, 0.05, 300), (-0.9, 0.9)
    two, three = (
        stratum_ends(Residuals(values, np.arange(300) % groups), 0.9, analytic) for groups in (2, 3)
    )
    assert two == analytic
    assert -0.2 < three[0] < three[1] < 0.2


def test_throughput_teaches_tpot(benchmark: pd.DataFrame) -> None:
    """A row that reports only throughput has the TPOT that Little's law and its TTFT leave: here 16 x 256 / 1000 s in all."""
    row = benchmark.iloc[[2]].assign(
        tpot_ms_mean="", ttft_ms_mean="96", output_tokens_per_s_total="1000"
    )
    rows = training_rows(read_measurements(row))
    assert row["concurrency"].iloc[0] == "16"
    assert rows.measured["tpot"][0] == pytest.approx((4.096 - 0.096) / 255)


def test_rows_under_an_unknown_load_teach_nothing(benchmark: pd.DataFrame) -> None:
    """A source that leaves open how many requests a replica had is read and predicted, but neither learned from nor scored."""
    table = benchmark.assign(quality="A", mode="serving", notes="")
    table.loc[table.index[0], "notes"] = (
        "concurrency = 8 x batch_size in the source (replicas or dp, not stated)"
    )
    assert len(usable_rows(table)) == len(table) - 1
    assert len(usable_rows(table.drop(columns="notes"))) == len(table)


def test_throughput_alone_teaches_the_latency_of_the_whole(benchmark: pd.DataFrame) -> None:
    """Without a TTFT, physics' shares of prefill and decode stay: TTFT and TPOT learn the factor by which their sum is off."""
    row = benchmark.iloc[[2]].assign(
        tpot_ms_mean="", ttft_ms_mean="", output_tokens_per_s_total="1000", e2e_latency_ms=""
    )
    rows = training_rows(
        read_measurements(row.assign(ttft_ms_p50="", tpot_ms_p50="", itl_ms="", e2e_ms_p50=""))
    )
    modelled = rows.modelled["ttft"] + 255 * rows.modelled["tpot"]
    assert rows.measured["e2e"][0] == pytest.approx(4.096)
    assert np.isnan(rows.measured["ttft"][0])
    assert (
        rows.lesson("ttft")[0]
        == rows.lesson("tpot")[0]
        == pytest.approx(np.log(4.096 / modelled[0]))
    )
    assert rows.weight("ttft")[0] < rows.weight("tpot")[0]


@pytest.mark.parametrize(
    ("target", "feature"), [(target, name) for target, names in MONOTONE.items() for name in names]
)
def test_corrections_never_shrink_with_what_makes_requests_wait(target: str, feature: str) -> None:
    """All else equal the shipped CUDA models correct both no less for more requests, and TTFT no less for longer prompts.

    Nearly: leaves of absolute error are medians taken after the splits that the constraint is held to.
    """
    regressors = load_regressors(Path("cache/pretrained_models"))[DeviceKind.CUDA]
    rng, column = np.random.default_rng(0), feature_names().index(feature)
    low, high = (np.nan_to_num(each, nan=0.0) for each in (regressors.low, regressors.high))
    features = rng.uniform(low, high, size=(200, len(low))).astype(np.float32)
    ladder = np.linspace(low[column], high[column], 12, dtype=np.float32)
    rows = np.repeat(features, len(ladder), axis=0)
    rows[:, column] = np.tile(ladder, len(features))
    factors = regressors.correct(target, rows, np.zeros(len(rows), dtype=np.int64)).reshape(
        len(features), -1
    )
    steps = np.diff(np.log(factors), axis=1)
    assert steps.min() > -0.03
    assert -steps[steps < 0].sum() < 0.1 * steps[steps > 0].sum()


def test_shipped_models_keep_their_recorded_accuracy(shared_data: Path) -> None:
    """On the rows they were made from, the shipped models are no worse than what cross-validation recorded for known curves."""
    table = read_tables([shared_data])
    serving = table[
        (table["source"] == "aiconfigurator_silicon")
        & (table["mode"] == "serving")
        & (table["quality"] == "A")
    ]
    scores = {
        score.quantity: score
        for score in evaluate(serving.iloc[::5], load_predictor())[0]
        if score.group == "all"
    }
    assert scores["tpot_ms"].median <= 0.08
    assert scores["ttft_ms"].median <= 0.17


def test_recorded_curve_errors_meet_the_first_release() -> None:
    """The shipped CUDA manifest records the errors with whole curves withheld, for every quantity and novelty."""
    regressors = load_predictor().regressors
    assert {kind.value for kind in regressors} >= {"cuda", "cpu", "hpu"}
    for each in regressors.values():
        assert set(each.manifest["errors"]) == {novelty.value for novelty in Novelty}


def test_the_parameter_search_repeats_itself_and_judges_what_is_in_use(
    benchmark: pd.DataFrame,
) -> None:
    """Two searches of one seed try the same settings and find the same errors, those in use among them; best first."""
    first, second = (search(benchmark, DeviceKind.CUDA, 2, seed=3, rounds=ROUNDS) for _ in range(2))
    assert [trial.errors for trial in first] == [trial.errors for trial in second]
    assert PARAMETERS in [trial.parameters for trial in first]
    assert first[0].score <= first[-1].score
    assert first[0].errors["ttft"] < TRUE_FACTOR - 1.0


def test_a_kind_without_rows_is_not_searched(benchmark: pd.DataFrame) -> None:
    """Asked about a kind of hardware nobody measured, the search says so."""
    with pytest.raises(InvalidInput, match="rocm has 0 usable rows"):
        search(benchmark, DeviceKind.ROCM, 1)


def test_tables_without_the_columns_that_choose_rows_are_bad_input(
    benchmark: pd.DataFrame, tmp_path: Path
) -> None:
    """Training on a table without quality or mode names the columns; too few rows of every kind train nothing."""
    with pytest.raises(InvalidInput, match="mode, quality"):
        train(benchmark.drop(columns=["mode", "quality"]), tmp_path)
    assert train(benchmark.iloc[:30], tmp_path) == {}


def test_rows_that_cannot_teach_say_why(benchmark: pd.DataFrame, tmp_path: Path) -> None:
    """Rows of an unknown device are counted with their reason, and when too few are left nothing is trained."""
    told: list[str] = []
    some = benchmark.assign(device_name=["?"] * 30 + ["H100-SXM"] * (len(benchmark) - 30))
    assert train(some, tmp_path, progress=told.append) == {}
    assert any("30 rows left out" in step and "device_name" in step for step in told)
