"""How many devices, ranks and replicas a measured row stands for."""

from __future__ import annotations

import numpy as np
import pandas as pd

from budsim.performance.candidates import Booleans, Floats, Integers


def device_layout(
    numbers: pd.DataFrame, moe: Booleans, cpu: Booleans
) -> tuple[Integers, Integers, Integers, Integers, Floats]:
    """Return tp, pp, ep, attention dp and independent replicas, arrays of shape (n,).

    Tables write attention data parallelism of a MoE model as (tp 1, dp 8) or (tp 8, dp 8) on eight
    devices; both mean eight devices with attention whole on each. ``dp`` of a dense model, and
    processes on a CPU, are replicas of their own.
    """
    devices = numbers.n_devices
    pp = _stages(numbers)
    dp = numbers.dp.fillna(1.0).to_numpy()
    tp = numbers.tp.fillna(devices / pp / dp).fillna(1.0).clip(lower=1.0).to_numpy()
    ep = numbers.ep.fillna(1.0).to_numpy()
    independent = cpu | ~moe
    replicas = np.where(independent, dp, 1.0)
    attention_dp = np.where(independent, 1.0, dp)
    held = np.where(np.isnan(devices), tp, devices / pp)
    spread = np.where(
        (attention_dp > 1) & (tp < held), np.minimum(tp * attention_dp, np.maximum(held, tp)), tp
    )
    whole = [
        np.maximum(np.rint(values), 1).astype(np.int64)
        for values in (spread, pp, ep, np.minimum(attention_dp, spread))
    ]
    return whole[0], whole[1], whole[2], whole[3], replicas


def _stages(numbers: pd.DataFrame) -> Floats:
    """Return pipeline stages: those stated, or the devices whose use a row does not say."""
    stated = numbers.pp.fillna(1.0)
    rest = numbers.n_devices / (numbers.tp * stated)
    unsaid = (rest > 1) & numbers[["dp", "ep"]].fillna(1.0).eq(1.0).all(axis=1)
    return np.asarray(stated.where(~unsaid, stated * rest), dtype=np.float64)
