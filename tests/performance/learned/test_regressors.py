"""Trained models cannot be altered unnoticed, and say what they never saw."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from budsim.commons.errors import Unavailable
from budsim.hardware_ops.device import DeviceKind
from budsim.performance.learned.features import feature_names
from budsim.performance.learned.intervals import STRATA, Novelty
from budsim.performance.learned.regressors import load_regressors
from budsim.performance.training.cross_validation import MONOTONE
from tests.performance.populations import population


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
    """A missing, truncated or altered artefact is an error that says what to do.

    So is one made for other features.
    """
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
    """A trained model on a trained device of a trained party is known.

    A new one of either is said to be new, the party before the device, that before the model.
    """
    regressors = next(iter(load_regressors(artefacts).values()))
    party = list(regressors.parties)[:1]
    table = population(model="openai/gpt-oss-120b", device="L40S")
    known = regressors.stratum(population(), party)[0]
    new_model = regressors.stratum(population(model="openai/gpt-oss-120b"), party)[0]
    new_device = regressors.stratum(table, party)[0]
    stranger = regressors.stratum(table)[0]
    found = [STRATA[code][0] for code in (known, new_model, new_device, stranger)]
    assert found == list(Novelty)


@pytest.mark.parametrize(
    ("target", "feature"), [(target, name) for target, names in MONOTONE.items() for name in names]
)
def test_corrections_never_shrink_with_what_makes_requests_wait(target: str, feature: str) -> None:
    """More requests correct both times no less, and longer prompts TTFT no less.

    The shipped CUDA models, all else equal. Nearly: leaves of absolute error are medians taken
    after the splits that the constraint is held to. From the least to the most, corrections shrink
    by less than 1 % in all, on average.
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
    assert steps.min() > -0.06
    assert -steps[steps < 0].sum() < 0.01 * len(features)
