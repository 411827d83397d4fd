"""How servers behind published disaggregated runs were started, where rows do not state it.

The catalog is read from what the benchmark publishes: InferenceX (843c625, Apache-2.0) lists in
``nvidia-master.yaml`` and ``amd-master.yaml`` which recipe ran at which concurrency, since when;
recipes themselves are files of NVIDIA's srt-slurm (its branches ``sa-submission``), launch scripts
of ai-dynamo, and ``amd_utils`` of InferenceX. Column ``source`` names the file of each.
"""

from __future__ import annotations

import csv
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from importlib.resources import files

import numpy as np
import pandas as pd

from budsim.performance.candidates import Booleans, Floats
from budsim.performance.measured.pool_columns import StatedPools

# Names under which the same runs stand in tables, and the one of the catalog.
SAME_RUNS = {
    "deepseek-ai/DeepSeek-R1-0528": "deepseek-ai/DeepSeek-R1",
    "deepseek-ai/DeepSeek-V3": "deepseek-ai/DeepSeek-R1",
    "zhipuai/GLM-5": "zai-org/GLM-5",
}

_SIZES = r"prefill tp(\d+) dp(\d+), decode tp(\d+) dp(\d+)"

Key = tuple[str, str, str, str, float, float, float]


@dataclass(frozen=True, slots=True, kw_only=True)
class PoolRecipe:
    """One deployment; devices, attention ranks and devices of experts are those of one worker.

    A step of a prefill worker holds at most ``prefill_tokens`` and ``prefill_prompts`` on each
    attention rank, a decode worker at most ``decode_sequences`` on each; nan where not published.
    It ran at a load from ``since`` to ``until`` (ISO dates).
    """

    draft_tokens: float
    prefill_workers: float
    prefill_devices: float
    prefill_dp: float
    prefill_ep: float
    prefill_tokens: float
    prefill_prompts: float
    decode_workers: float
    decode_devices: float
    decode_dp: float
    decode_ep: float
    decode_sequences: float
    since: str
    until: str

    @property
    def devices(self) -> float:
        """All devices of the deployment."""
        prefill = self.prefill_workers * self.prefill_devices
        return prefill + self.decode_workers * self.decode_devices

    @property
    def settings(self) -> tuple[float, ...]:
        """What makes two recipes one: everything but dates, 0 where nothing is published."""
        return tuple(float(np.nan_to_num(getattr(self, name))) for name in NUMBERS)


NUMBERS = (
    "draft_tokens prefill_workers prefill_devices prefill_dp prefill_ep prefill_tokens "
    "prefill_prompts decode_workers decode_devices decode_dp decode_ep decode_sequences"
).split()


@dataclass(frozen=True, slots=True, kw_only=True)
class FoundRecipes:
    """Recipes of rows; arrays of shape (n,).

    ``columns`` are the numbers of `PoolRecipe`, nan where no recipe was found. ``sole`` rows have
    one recipe only; of several that differ one without guesses comes first.
    """

    columns: Mapping[str, Floats]
    sole: Booleans

    @property
    def known(self) -> Booleans:
        """Whether a row has a recipe."""
        return np.isfinite(self.columns["prefill_workers"])

    @property
    def most_decoding(self) -> Floats:
        """Sequences that all decode workers run at most; inf where nothing is published."""
        ranks = self.columns["decode_dp"] * self.columns["decode_workers"]
        most = self.columns["decode_sequences"] * ranks
        return np.where(np.isfinite(most), most, np.inf)

    def completed(self, stated: StatedPools) -> StatedPools:
        """Return pools with the workers of recipes."""
        names = [name for name in NUMBERS if hasattr(stated, name)]
        picked = {
            name: np.where(self.known, self.columns[name], getattr(stated, name)) for name in names
        }
        return replace(stated, **picked, stated=np.where(self.sole, 1.0, stated.stated))


def found_recipes(rows: pd.DataFrame, stated: StatedPools, known_party: Booleans) -> FoundRecipes:
    """Return the recipe of each row of the benchmark: by its load, date, workers and guesses."""
    columns = {name: np.full(len(rows), np.nan) for name in NUMBERS}
    sole = np.zeros(len(rows), dtype=np.bool_)
    records = rows.to_dict("records")
    for at in map(int, np.flatnonzero(known_party)):
        row = {str(name): str(value) for name, value in records[at].items()}
        fitting = _fitting(recipes().get(_key(row), ()), row, stated, at)
        if not fitting:
            continue
        first = min(fitting, key=lambda each: each.draft_tokens)
        sole[at] = len({each.settings for each in fitting}) == 1
        for name in NUMBERS:
            columns[name][at] = getattr(first, name)
    return FoundRecipes(columns=columns, sole=sole)


@lru_cache(maxsize=1)
def recipes() -> Mapping[Key, Sequence[PoolRecipe]]:
    """Return the catalog by what rows state."""
    text = files(__package__).joinpath("catalog/pool_recipes.csv").read_text(encoding="utf-8")
    found: dict[Key, list[PoolRecipe]] = {}
    for line in csv.DictReader(text.splitlines()):
        recipe = PoolRecipe(
            **{name: _number(line[name]) for name in NUMBERS},
            since=line["since"],
            until=line["until"],
        )
        for load in line["concurrency"].split():
            found.setdefault(_key({**line, "concurrency": load}), []).append(recipe)
    return found


def _key(row: Mapping[str, str]) -> Key:
    model, engine = row.get("model_hf") or row.get("model", ""), row.get("engine", "")
    return (
        SAME_RUNS.get(model, model),
        row.get("device_name") or row.get("device", ""),
        next((name for name in ("trtllm", "sglang") if name in engine), engine),
        row.get("precision", ""),
        _number(row.get("input_tokens", "")),
        _number(row.get("output_tokens", "")),
        _number(row.get("concurrency", "")),
    )


def _fitting(
    candidates: Sequence[PoolRecipe], row: Mapping[str, str], stated: StatedPools, at: int
) -> list[PoolRecipe]:
    """Return the recipes a row may have run: those of its date, else of any."""
    notes, date = row.get("notes", ""), row.get("date", "")[:10]
    guessing, ranked = "mtp" in notes.lower(), "dp_attention" in notes
    devices = _number(row.get("n_devices", ""))
    found = _where(candidates, lambda each: each.since <= date <= each.until)
    if stated.stated[at] > 0:
        workers = stated.prefill_workers[at], stated.decode_workers[at]
        found = [
            each
            for each in found
            if (each.prefill_workers, each.decode_workers) == workers
            and (each.draft_tokens > 0) == guessing
        ]
        found = _where(found, lambda each: (each.decode_dp > 1) == ranked)
    elif sizes := re.search(_SIZES, notes):
        numbers = [float(each) for each in sizes.groups()]
        found = [each for each in found if _is_of_sizes(each, *numbers)]
    elif np.isfinite(devices):
        found = [each for each in found if (each.draft_tokens > 0) == guessing]
        found = [each for each in found if each.devices == devices]
    return _where(found, lambda each: np.isnan(devices) or each.devices == devices)


def _where(
    candidates: Sequence[PoolRecipe], fits: Callable[[PoolRecipe], bool]
) -> list[PoolRecipe]:
    """Return the recipes that fit, all where none does."""
    return [each for each in candidates if fits(each)] or list(candidates)


def _is_of_sizes(recipe: PoolRecipe, p_tp: float, p_dp: float, d_tp: float, d_dp: float) -> bool:
    """Return whether a recipe has workers of such sizes: written as tp, as dp, as their product.

    Equal sizes may be the devices of the whole deployment; ones alone say nothing.
    """
    sizes = recipe.prefill_devices, recipe.decode_devices
    written = (p_tp, d_tp), (p_dp, d_dp), (p_tp * p_dp, d_tp * d_dp)
    is_said = max(p_tp, p_dp, d_tp, d_dp) > 1
    return not is_said or sizes in written or p_tp == d_tp == recipe.devices


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return float("nan")
