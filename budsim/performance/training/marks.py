"""What the models have to reach, beside what they reach."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from budsim.hardware_ops.device import DeviceKind
from budsim.performance.learned.intervals import Novelty, Regime
from budsim.performance.learned.regressors import TARGETS
from budsim.performance.training.comparisons import of_training, percent, plain, ranking
from budsim.performance.training.fit import Trained
from budsim.performance.training.reports import Line, lines, serving_rows

if TYPE_CHECKING:
    pass


@dataclass(frozen=True, slots=True, kw_only=True)
class Mark:
    """A value to reach, and the best known elsewhere.

    ``kind``, ``part`` and ``withheld`` name the lines of the table of errors the test is about.
    """

    test: str
    kind: str
    part: str
    withheld: str
    quantities: tuple[str, ...] = ("tpot", "ttft")
    first: str
    goal: str
    elsewhere: str


# Median absolute percentage errors, unless a test says otherwise.
MARKS = (
    Mark(
        test="CUDA serving, each curve withheld: TPOT / TTFT",
        kind="cuda", part="serving", withheld="each curve",
        first="6 % / 12 %", goal="4 % / 9 %",
        elsewhere="NVIDIA AIConfigurator 0.12 on the same file: 17.7 % / 47.2 %",
    ),
    Mark(
        test="CUDA serving, each model withheld",
        kind="cuda", part="serving", withheld="each model",
        first="14 % / 27 %", goal="8 % / 18 %",
        elsewhere="as above; BLIS (H100): ITL 7.1 %, TTFT 17.6 %, E2E 6.7 %",
    ),
    Mark(
        test="CUDA serving, each device withheld",
        kind="cuda", part="serving", withheld="each device",
        first="13 % / 26 %", goal="8 % / 18 %", elsewhere="BLIS: E2E A100 15.7 %, L40S 13.3 %",
    ),
    Mark(
        test="CPU, each model withheld: TPOT / TTFT",
        kind="cpu", part="all rows", withheld="each model",
        first="15 % / 25 %", goal="7 % / 12 %",
        elsewhere="BudSimulator: 7-16 % output tok/s on one Xeon",
    ),
    Mark(
        test="CPU, each device withheld",
        kind="cpu", part="all rows", withheld="each device",
        first="15 % / 25 %", goal="7 % / 12 %", elsewhere="as above",
    ),
    Mark(
        test="HPU, each model withheld: output throughput",
        kind="hpu", part="all rows", withheld="each model", quantities=("e2e",),
        first="8 %", goal="5 %", elsewhere="nobody publishes one",
    ),
)  # fmt: skip


# Marks that are no median of one line of the table of errors: test, first mark, goal, elsewhere.
OTHERS = (
    (
        "CUDA serving, each party withheld: TPOT / TTFT",
        "half of 13 % / 25 %", "8 % / 18 %", "nobody publishes one",
    ),
    (
        "90 % interval: withheld CUDA serving rows inside",
        "85-95 %", "88-92 %", "nobody publishes one",
    ),
    (
        "ranking within one question: Spearman, TPOT / TTFT",
        "0.97 / 0.90", "0.99 / 0.95", "AIConfigurator 0.98 / 0.86",
    ),
    (
        "1,000 candidates, physics and regressors, one core",
        "50 ms", "10 ms", "AIConfigurator 13-50 ms per single estimate",
    ),
)  # fmt: skip

COLUMNS = (
    "median absolute error unless said otherwise",
    "here",
    "first mark",
    "goal",
    "best elsewhere",
)


def marks(trained: Mapping[DeviceKind, Trained]) -> pd.DataFrame:
    """Return what was reached beside the marks, the goals and the best known elsewhere."""
    found = {(line.kind, line.part, line.withheld, line.quantity): line for line in lines(trained)}
    rows: list[tuple[str, ...]] = []
    for mark in MARKS:
        here = _own_medians(mark, found)
        rows.append((mark.test, here, mark.first, mark.goal, mark.elsewhere))
    serving = [found.get(("cuda", "serving", "each curve", quantity)) for quantity in TARGETS[::-1]]
    cuda = trained.get(DeviceKind.CUDA)
    own_figures = (
        _party_medians(cuda),
        " / ".join(percent(line.coverage90) if line else "-" for line in serving),
        _serving_rankings(cuda),
        "see `make bench`",
    )
    rows += [
        (test, here, *stated) for (test, *stated), here in zip(OTHERS, own_figures, strict=True)
    ]
    return pd.DataFrame(rows, columns=list(COLUMNS))


def _own_medians(mark: Mark, found: Mapping[tuple[str, str, str, str], Line]) -> str:
    """Return the median errors reached in a mark's quantities; a dash for one not measured."""
    own = [
        found.get((mark.kind, mark.part, mark.withheld, quantity)) for quantity in mark.quantities
    ]
    return " / ".join(percent(line.median) if line else "-" for line in own)


def _party_medians(cuda: Trained | None) -> str:
    """Return the median errors on withheld parties, of physics alone and of the learned part."""
    if cuda is None:
        return "- / -"
    found = {
        each.quantity: each
        for each in cuda.parties
        if each.party == "all" and each.regime == Regime.SERVING
    }
    known = [found[target] for target in TARGETS[::-1] if target in found]
    physics = " / ".join(percent(each.physics) for each in known)
    learned = " / ".join(percent(each.learned) for each in known)
    return f"physics {physics}, learned {learned}" if known else "- / -"


def _serving_rankings(cuda: Trained | None) -> str:
    if cuda is None:
        return "- / -"
    found = {each.quantity: each for each in of_training({DeviceKind.CUDA: cuda})}
    residuals = cuda.validations[Novelty.KNOWN].residuals
    ranks = {
        target: ranking(each, serving_rows(cuda)[np.isfinite(residuals[target])])
        for target in TARGETS
        if (each := found.get(f"{target.upper()}, ms"))
    }
    return " / ".join(plain(ranks[target]) if target in ranks else "-" for target in TARGETS[::-1])
