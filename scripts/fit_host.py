"""Shows what engines' hosts add to requests and to steps with prompts, by several parties at once.

``python scripts/fit_host.py MEASUREMENTS...`` (files or folders) replays what each party's client
sent, for a grid of four constants: the prompt factor, the time the host takes to launch one layer,
its time for a request, and the steps a newcomer awaits. It prints the median absolute log errors of
each party, best mean over parties first: every party counts alike, however many rows it has. About
twenty minutes on one core.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import replace
from itertools import product
from pathlib import Path

import numpy as np
import pandas as pd

from budsim.engine_ops.profiles import profiles
from budsim.performance.measured.clients import client_traffic
from budsim.performance.measured.measurements import Measurements, read_measurements
from budsim.performance.measured.protocols import party_of
from budsim.performance.measured.tables import read_tables
from budsim.performance.physics.constants import FITTED, PhysicsConstants
from budsim.performance.physics.memory import memory_use
from budsim.performance.physics.ranks import prepare
from budsim.performance.serving.replay.answers import Limits
from budsim.performance.serving.replay.replay import replicas_of, serve
from budsim.performance.serving.replay.rows import with_room
from budsim.performance.training.rows import usable_rows

ENGINES = ("vllm", "sglang", "trtllm")
FACTORS = (1.15, 1.3, 1.5)
LAUNCHES_S = (0.0, 0.0004, 0.001, 0.0015)
REQUESTS_S = (0.001, 0.002, 0.003, 0.006)
STEPS = (1.5, 2.5)
ROWS_OF_PARTY = 150
FEWEST_ROWS = 10


def main(places: Sequence[str]) -> None:
    """Print the errors of each engine on the grid."""
    table = usable_rows(read_tables([Path(place) for place in places]))
    table = table[(table.device_type == "cuda") & (table["mode"] == "serving")]
    for engine in ENGINES:
        measurements = read_measurements(_sampled(table[table.engine == engine]))
        lines = []
        for values in product(FACTORS, LAUNCHES_S, REQUESTS_S, STEPS):
            found = errors(measurements, changed(engine, *values))
            told = "  ".join(f"{party} {each:.3f}" for party, each in found.items())
            lines.append((float(np.mean(list(found.values()))), f"{values} {told}"))
        for mean, line in sorted(lines):
            print(f"{engine} {mean:.3f}  {line}", flush=True)


def changed(
    engine: str, factor: float, launch_s: float, request_s: float, steps: float
) -> PhysicsConstants:
    """Return the constants in use with the four of the grid."""
    kernels = {
        name: replace(each, prompt_factor=factor) if each.prompt_factor != 1.0 else each
        for name, each in FITTED.kernels.items()
    }
    usual = profiles()[engine].first_token
    if usual is None:
        return replace(FITTED, kernels=kernels)
    own = replace(
        usual,
        prompt_launch_s=launch_s,
        request_s=request_s,
        steps=steps,
        prompt_factor=None if usual.prompt_factor is None else factor,
    )
    return replace(FITTED, kernels=kernels, first_token={**FITTED.first_token, engine: own})


def errors(measurements: Measurements, constants: PhysicsConstants) -> dict[str, float]:
    """Return the mean of the median absolute log errors of TTFT and TPOT, by party.

    Mean TTFT of runs that nobody warmed up holds a cold start and says nothing.
    """
    candidates = measurements.candidates
    traffic = client_traffic(measurements)
    memory = with_room(memory_use(prepare(candidates, constants)), candidates, traffic)
    replicas = replicas_of(candidates, memory, constants=constants)
    served = serve(replicas, traffic, limits=Limits(), finite=True).times(measurements.median)
    cold = candidates.cold_start & ~measurements.median
    ratios = np.stack(
        [
            np.where(cold, np.nan, np.log(served["ttft"] / measurements.ttft_s)),
            np.log(served["tpot"] / measurements.tpot_s),
        ]
    )
    parties = np.array([party_of(source) for source in measurements.source])
    return {
        str(party): float(np.nanmean(np.nanmedian(np.abs(ratios[:, parties == party]), axis=1)))
        for party in np.unique(parties)
        if (parties == party).sum() >= FEWEST_ROWS
    }


def _sampled(table: pd.DataFrame) -> pd.DataFrame:
    """Return at most `ROWS_OF_PARTY` rows of each source, the same ones each time."""
    parts = [
        rows.sample(min(len(rows), ROWS_OF_PARTY), random_state=0)
        for _, rows in table.groupby("source")
    ]
    return pd.concat(parts).reset_index(drop=True)


if __name__ == "__main__":
    main(sys.argv[1:])
