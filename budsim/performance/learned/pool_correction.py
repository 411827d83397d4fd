"""What physics gets wrong on disaggregated deployments: two regressors of their own."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from budsim.commons.errors import Unavailable
from budsim.engine_ops.engine_profile import Batching
from budsim.hardware_ops.device import DeviceKind
from budsim.performance.candidates import Booleans, Floats
from budsim.performance.serving.pools.pool_times import Pools
from budsim.performance.serving.pools.waves import PoolRuns

if TYPE_CHECKING:
    import xgboost

# Where the artefacts lie below the folder of trained models.
FOLDER = "pools"
MANIFEST = "pools.json"
TARGETS = ("tpot", "ttft")

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
    """Regressors of log(measured / modelled), and what they leave on withheld curves.

    ``spreads`` holds, by target and by whether the workers are ``stated``, the logs between which
    90 % of the withheld rows lie.
    """

    boosters: Mapping[str, xgboost.Booster]
    spreads: Mapping[str, Mapping[str, tuple[float, float]]]

    def factors(self, target: str, features: Floats) -> Floats:
        """Return the factors on the modelled ``target``, shape (n,)."""
        raw = np.asarray(self.boosters[target].inplace_predict(features), dtype=np.float64)
        return np.asarray(np.exp(np.clip(raw, -LARGEST, LARGEST)), dtype=np.float64)

    def ends(self, target: str, stated: Booleans) -> tuple[Floats, Floats]:
        """Return the factors on a prediction at both ends of its 90 % interval, shape (n,)."""
        both = self.spreads[target]
        low, high = (
            np.where(stated, both["stated"][side], both["inferred"][side]) for side in (0, 1)
        )
        return np.exp(np.minimum(low, 0.0)), np.exp(np.maximum(high, 0.0))


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


def save_pools(
    folder: Path,
    boosters: Mapping[str, xgboost.Booster],
    spreads: Mapping[str, Mapping[str, tuple[float, float]]],
    notes: Mapping[str, object],
) -> None:
    """Write the artefacts and a manifest with their hashes below ``folder``."""
    where = folder / FOLDER
    where.mkdir(parents=True, exist_ok=True)
    hashes = {}
    for target, booster in boosters.items():
        content = bytes(booster.save_raw("ubj"))
        (where / f"{target}.ubj").write_bytes(content)
        hashes[target] = hashlib.sha256(content).hexdigest()
    manifest = {"features": list(FEATURES), "sha256": hashes, "spreads": spreads, **notes}
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
    import xgboost

    manifest = json.loads(path.read_text(encoding="utf-8"))
    if manifest.get("features") != list(FEATURES):
        raise Unavailable(f"{MANIFEST} was made for other features; run scripts/fit_pools.py")
    boosters = {}
    for target in TARGETS:
        content = (path.parent / f"{target}.ubj").read_bytes()
        if hashlib.sha256(content).hexdigest() != manifest["sha256"][target]:
            raise Unavailable(f"{FOLDER}/{target}.ubj is not the file its manifest describes")
        booster = xgboost.Booster({"nthread": 1})
        booster.load_model(bytearray(content))
        boosters[target] = booster
    spreads = {
        target: {name: (float(low), float(high)) for name, (low, high) in each.items()}
        for target, each in manifest["spreads"].items()
    }
    return PoolCorrection(boosters=boosters, spreads=spreads)
