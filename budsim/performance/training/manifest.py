"""The manifest beside trained models."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Any

import numpy as np

from budsim.hardware_ops.device import DeviceKind
from budsim.performance.learned.features import Matrix, feature_names
from budsim.performance.learned.intervals import (
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

    found = spreads(rows, validations)
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
        "intervals": {name: stored_spread(each) for name, each in found.items()},
        "scatter": stored_scatters(found),
        "errors": {
            novelty.value: error_table(rows, v.residuals) for novelty, v in validations.items()
        },
    }


def _ends(of: np.ufunc, features: Matrix) -> list[float | None]:
    """Return the least or largest known value of each feature, None where no row knows one."""
    return [None if np.isnan(value) else float(value) for value in of.reduce(features, axis=0)]


def stored_spread(each: Spread) -> dict[str, dict[str, list[float]]]:
    """Return what a manifest keeps of a quantity's intervals."""
    return {
        name: {str(c): [round(end, 6) for end in both] for c, both in sorted(ends.items())}
        for name, ends in each.quantiles.items()
    }


def stored_scatters(found: Mapping[str, Spread]) -> dict[str, dict[str, str | float]]:
    """Return what a manifest keeps of how each quantity's residuals scatter."""
    return {
        name: each.scatter.stored()
        for name, each in found.items()
        if each.scatter is not None and each.scatter.slope != 0.0
    }
