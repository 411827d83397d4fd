"""The scripts that check and refit ranges of strangers run on measured rows."""

from __future__ import annotations

import importlib.util
import json
import shutil
from pathlib import Path
from types import ModuleType

import pandas as pd
import pytest

from budsim.performance.predictor import load_predictor

SCRIPTS = Path(__file__).parents[3] / "scripts"
PARTIES = 4


@pytest.fixture(scope="module")
def measured(benchmark: pd.DataFrame, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the invented benchmark as a file, run by four parties in turn."""
    table = benchmark.drop(columns=[name for name in benchmark if str(name).startswith("pred_")])
    table["source"] = [f"party {row % PARTIES}" for row in range(len(table))]
    path = tmp_path_factory.mktemp("rows") / "rows.csv"
    table.to_csv(path, index=False)
    return path


def script(name: str) -> ModuleType:
    """Return a script as a module."""
    spec = importlib.util.spec_from_file_location(name, SCRIPTS / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_chances_are_checked_with_each_party_withheld(
    measured: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Four parties whose servers err alike lie in each other's ranges."""
    script("check_chances").main([measured])
    lines = capsys.readouterr().out.splitlines()
    (alike,) = (line.split() for line in lines if line.startswith("parties alike"))
    assert int(alike[2]) == PARTIES
    assert float(alike[3].rstrip("%")) > 80.0


def test_ranges_of_strangers_are_refitted_without_training(
    measured: Path, artefacts: Path, tmp_path: Path
) -> None:
    """What one party measured tells nothing of strangers; four parties do, and nothing else moves.

    Servers were 1.5 times as slow as physics, which now is the middle of their ranges.
    """
    folder = tmp_path / "models"
    shutil.copytree(artefacts, folder)
    before = json.loads((folder / "cuda/manifest.json").read_text(encoding="utf-8"))
    script("refit_strangers").main([measured], folder=folder)
    after = json.loads((folder / "cuda/manifest.json").read_text(encoding="utf-8"))
    spread = load_predictor(folder)
    assert spread.models_sha256 == load_predictor(artefacts).models_sha256
    changed = {
        name
        for name, ends in after["intervals"]["tpot"].items()
        if ends != before["intervals"]["tpot"].get(name)
    }
    assert changed == {"new_party/serving"}
    middle = after["intervals"]["tpot"]["new_party/serving"]["0.0"]
    assert middle == pytest.approx([0.405, 0.405], abs=0.02)
