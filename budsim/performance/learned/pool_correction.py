"""What physics gets wrong on disaggregated deployments: speeds of prefill, and regressors."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from budsim.commons.errors import Unavailable
from budsim.engine_ops.engine_profile import Batching
from budsim.hardware_ops.device import DeviceKind
from budsim.performance.candidates import Booleans, Floats
from budsim.performance.learned.pool_speeds import SPEED_TERMS, prefill_factors
from budsim.performance.serving.pools.pool_times import Pools
from budsim.performance.serving.pools.runs import PoolRuns

if TYPE_CHECKING:
    import xgboost

# Where the artefacts lie below the folder of trained models.
FOLDER = "pools"
MANIFEST = "pools.json"

# What the regressors correct: TPOT of rows that state their workers, and both of rows that do not.
# TTFT of rows that state them follows from the speed of prefill alone: regressors made it worse.
TARGETS = ("tpot_stated", "tpot_inferred", "ttft_inferred")

# Strata of the intervals: by the share of their time that prefill workers read.
BUSY = {"idle": 0.0, "loaded": 0.4, "full": 0.8}

# A correction is clipped to this factor either way, in the log.
LARGEST = 3.0

# Features in the order the trees read them; those that start with ``log_`` are natural logarithms.
FEATURES = (
    "prefill_first rocm four_bit log_input log_output log_concurrency log_prefill_devices "
    "log_prefill_workers log_decode_devices log_decode_workers log_decode_ranks stated "
    "draft_tokens stack_year median log_tpot log_ttft log_running bandwidth flops load"
).split()


@dataclass(frozen=True, slots=True, kw_only=True)
class PoolCorrection:
    """Weights of the speed of prefill, regressors, and what they leave on withheld curves.

    Regressors predict log(measured / modelled). ``spreads`` holds, by "tpot" and "ttft" and by
    stratum, the logs between which 90 % of the withheld rows lie.
    """

    weights: Floats
    boosters: Mapping[str, xgboost.Booster]
    spreads: Mapping[str, Mapping[str, tuple[float, float]]]

    def prefill_factors(self, pools: Pools) -> Floats:
        """Return the factors on seconds of prefill, shape (n,)."""
        return prefill_factors(pools, self.weights)

    def tpot_factors(self, stated: Booleans, features: Floats) -> Floats:
        """Return the factors on modelled TPOT, shape (n,)."""
        own = self._factors("tpot_stated", features)
        return np.where(stated, own, self._factors("tpot_inferred", features))

    def ttft_factors(self, stated: Booleans, features: Floats) -> Floats:
        """Return the factors on modelled TTFT, shape (n,): 1 where the workers are stated."""
        return np.where(stated, 1.0, self._factors("ttft_inferred", features))

    def ends(self, quantity: str, strata: Sequence[str]) -> tuple[Floats, Floats]:
        """Return the factors on a prediction at both ends of its 90 % interval, shape (n,)."""
        found = np.array([self.spreads[quantity][each] for each in strata]).reshape(-1, 2)
        return np.exp(np.minimum(found[:, 0], 0.0)), np.exp(np.maximum(found[:, 1], 0.0))

    def _factors(self, target: str, features: Floats) -> Floats:
        raw = np.asarray(self.boosters[target].inplace_predict(features), dtype=np.float64)
        return np.asarray(np.exp(np.clip(raw, -LARGEST, LARGEST)), dtype=np.float64)


def strata(runs: PoolRuns, stated: Booleans) -> list[str]:
    """Return the stratum of the interval of each row: one of `BUSY`, or "inferred"."""
    names, bounds = list(BUSY), list(BUSY.values())
    found = np.searchsorted(bounds, runs.prefill_busy, side="right") - 1
    return [names[at] if own else "inferred" for at, own in zip(found, stated, strict=True)]


def pool_features(
    pools: Pools, runs: PoolRuns, stated: Booleans, median: Booleans, ttft_s: Floats
) -> Floats:
    """Return what the regressors see, shape (n, len(`FEATURES`)), in the order of the names."""
    prefill, decode = pools.prefill, pools.decode
    devices, engines = decode.devices, decode.engines
    of_device, of_engine = decode.by_device, decode.by_engine
    bits = [each.bits for each in map(_format, decode.precisions)]
    decoding = decode.output_tokens * runs.tpot_s
    columns = [
        of_engine([float(each.batching is Batching.PREFILL_FIRST) for each in engines]),
        of_device([float(each.kind is DeviceKind.ROCM) for each in devices]),
        np.asarray(np.array(bits)[decode.weight_precision] < 6.0, dtype=np.float64),
        np.log(decode.input_tokens),
        np.log(decode.output_tokens),
        np.log(pools.concurrency),
        np.log(prefill.tp),
        np.log(pools.prefill_workers),
        np.log(decode.tp),
        np.log(pools.decode_workers),
        np.log(decode.dp),
        stated.astype(np.float64),
        decode.draft_tokens,
        decode.stack_year,
        median.astype(np.float64),
        np.log(runs.tpot_s),
        np.log(ttft_s),
        np.log(np.maximum(runs.running / pools.decode_workers, 1.0)),
        of_device([each.memory_bandwidth_bytes_per_s / 1e12 for each in devices]),
        of_device([max(each.flops_per_s.values()) / 1e15 for each in devices]),
        pools.concurrency / np.maximum(runs.running, 1e-9) * ttft_s / decoding,
    ]
    return np.stack(columns, axis=1).astype(np.float64)


def _format(precision: Any) -> Any:
    from budsim.commons.precision import FORMATS

    return FORMATS[precision]


def save_pools(folder: Path, correction: PoolCorrection, notes: Mapping[str, object]) -> None:
    """Write the artefacts and a manifest with their hashes below ``folder``."""
    where = folder / FOLDER
    where.mkdir(parents=True, exist_ok=True)
    hashes = {}
    for target, booster in correction.boosters.items():
        content = bytes(booster.save_raw("ubj"))
        (where / f"{target}.ubj").write_bytes(content)
        hashes[target] = hashlib.sha256(content).hexdigest()
    manifest = {
        "features": list(FEATURES),
        "speed_terms": list(SPEED_TERMS),
        "speed_weights": correction.weights.round(4).tolist(),
        "sha256": hashes,
        "spreads": correction.spreads,
        **notes,
    }
    (where / MANIFEST).write_text(json.dumps(manifest, indent=1) + "\n", encoding="utf-8")


@lru_cache(maxsize=4)
def load_pools(folder: Path) -> PoolCorrection | None:
    """Load the regressors below ``folder``; None where there are none.

    Raises
    ------
    Unavailable
        When an artefact is not what the manifest says, or made for other features.
    """
    path = folder / FOLDER / MANIFEST
    if not path.is_file():
        return None
    manifest = json.loads(path.read_text(encoding="utf-8"))
    made_for = (manifest.get("features"), manifest.get("speed_terms"))
    if made_for != (list(FEATURES), list(SPEED_TERMS)):
        raise Unavailable(f"{MANIFEST} was made for other features; run scripts/fit_pools.py")
    return PoolCorrection(
        weights=np.array(manifest["speed_weights"], dtype=np.float64),
        boosters={
            target: _booster(path.parent / f"{target}.ubj", manifest["sha256"][target])
            for target in TARGETS
        },
        spreads={
            target: {name: (float(low), float(high)) for name, (low, high) in each.items()}
            for target, each in manifest["spreads"].items()
        },
    )


def _booster(path: Path, sha256: str) -> xgboost.Booster:
    import xgboost

    content = path.read_bytes()
    if hashlib.sha256(content).hexdigest() != sha256:
        raise Unavailable(f"{FOLDER}/{path.name} is not the file its manifest describes")
    booster = xgboost.Booster({"nthread": 1})
    booster.load_model(bytearray(content))
    return booster
