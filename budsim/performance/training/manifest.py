"""The manifest beside trained models."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Any

import numpy as np

from budsim.hardware_ops.device import DeviceKind
from budsim.performance.learned.features import Matrix, feature_names
from budsim.performance.learned.intervals import (
    COVERAGES,
    STRATA,
    Novelty,
    Spread,
    stratum_name,
)
from budsim.performance.learned.regressors import FORMAT, TARGETS
from budsim.performance.training.cross_validation import MONOTONE, Fitting, Validation
from budsim.performance.training.errors import error_table
from budsim.performance.training.interval_fit import spreads
from budsim.performance.training.rows import Rows


def manifest_of(
    kind: DeviceKind,
    rows: Rows,
    validations: Mapping[Novelty, Validation],
    contents: Mapping[str, bytearray],
    fitting: Fitting,
    digest: str,
) -> dict[str, Any]:
    """Return the manifest of one kind: provenance, ranges, shrinkage, intervals, errors."""
    import xgboost

    return {
        "format": FORMAT,
        "kind": kind.value,
        "features": list(feature_names()),
        "targets": {
            target: {"meaning": f"log(measured / modelled {target.upper()})", "unit": "1"}
            for target in TARGETS
        },
        "artefacts": {
            target: {"sha256": hashlib.sha256(content).hexdigest()}
            for target, content in contents.items()
        },
        "data_sha256": digest,
        "library": f"xgboost {xgboost.__version__}",
        "parameters": {
            **fitting.parameters,
            "monotone_constraints": MONOTONE,
            "rounds": fitting.rounds,
            "seed": fitting.seed,
        },
        "rows": len(rows),
        "models": sorted(set(rows.names.model)),
        "devices": sorted(set(rows.names.device)),
        "parties": sorted(set(rows.names.party)),
        "engines": sorted(set(rows.names.engine)),
        "feature_low": _ends(np.fmin, rows.features),
        "feature_high": _ends(np.fmax, rows.features),
        "shrinkage": {
            target: {stratum_name(n, r): validations[n].shrinkage[target][r] for n, r in STRATA}
            for target in TARGETS
        },
        "intervals": {name: _stored(each) for name, each in spreads(rows, validations).items()},
        "errors": {
            novelty.value: error_table(rows, v.residuals) for novelty, v in validations.items()
        },
    }


def _ends(of: np.ufunc, features: Matrix) -> list[float | None]:
    """Return the least or largest known value of each feature, None where no row knows one."""
    return [None if np.isnan(value) else float(value) for value in of.reduce(features, axis=0)]


def _stored(each: Spread) -> dict[str, dict[str, list[float]]]:
    return {
        name: {str(c): [round(end, 6) for end in ends[c]] for c in COVERAGES}
        for name, ends in each.quantiles.items()
    }
