"""What training found, as rows of a table and as a Markdown report."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np
import pandas as pd

from budsim.hardware_ops.device import DeviceKind
from budsim.performance.candidates import Booleans, Floats
from budsim.performance.learned.intervals import Novelty
from budsim.performance.training.cross_validation import SPLITS
from budsim.performance.training.errors import error_figures
from budsim.performance.training.fit import Trained
from budsim.performance.training.interval_fit import coverage90

# Sources of CUDA serving rows the marks are stated for; speculative rows are left out.
MARK_SOURCES = ("aiconfigurator_silicon", "inferencex")


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """One row of the table of errors: what was withheld, and how far off predictions were."""

    kind: str
    part: str
    withheld: str
    quantity: str
    rows: int
    median: float
    mean: float
    p90: float
    coverage90: float


def lines(trained: Mapping[DeviceKind, Trained]) -> list[Line]:
    """Return the table of errors of every kind: physics alone, then each way of withholding."""
    return [
        line
        for each in trained.values()
        for part, at in _parts(each)
        for line in _lines(each, part, at)
    ]


def _parts(trained: Trained) -> Iterator[tuple[str, Booleans]]:
    yield "all rows", np.ones(len(trained.rows), dtype=bool)
    serving = serving_rows(trained)
    if serving.any():
        yield "serving", serving


def serving_rows(trained: Trained) -> Booleans:
    """Return which rows the marks are stated for."""
    names = trained.rows.names
    return np.asarray(names.source.isin(MARK_SOURCES) & ~names.speculative, dtype=bool)


def _lines(trained: Trained, part: str, at: Booleans) -> Iterator[Line]:
    yield from _quantities(
        trained.kind, part, "nothing (analytic model alone)", trained.physics, at, None
    )
    for novelty, split in SPLITS.items():
        residuals = trained.validations[novelty].residuals
        yield from _quantities(
            trained.kind,
            part,
            f"each {split}",
            residuals,
            at,
            coverage90(trained.rows, residuals, novelty),
        )


def _quantities(
    kind: DeviceKind,
    part: str,
    withheld: str,
    residuals: Mapping[str, Floats],
    at: Booleans,
    inside: Mapping[str, Floats] | None,
) -> Iterator[Line]:
    for quantity, values in residuals.items():
        figures = error_figures(values[at])
        if not figures["rows"]:
            continue
        covered = inside[quantity][at] if inside else np.array([np.nan])
        yield Line(
            kind=kind.value,
            part=part,
            withheld=withheld,
            quantity=quantity,
            rows=int(figures["rows"]),
            median=figures["median"],
            mean=figures["mean"],
            p90=figures["p90"],
            coverage90=float(np.nanmean(covered)) if np.isfinite(covered).any() else float("nan"),
        )


def markdown(trained: Mapping[DeviceKind, Trained], marks: pd.DataFrame) -> str:
    """Return the report kept beside the artefacts: marks, then errors by what was withheld."""
    text = [
        "# How well the shipped models predict",
        "",
        "Grouped cross-validation: absolute percentage errors of rows whose curve, model or device "
        "no fold's model had seen.",
        "`serving` are the closed-loop rows of the two largest sources, the rows the project's "
        "marks are stated for.",
        "",
        f"| {' | '.join(marks.columns)} |",
        "|" + "---|" * marks.shape[1],
        *(f"| {' | '.join(row)} |" for row in marks.itertuples(index=False)),
        "",
        "| kind | rows of | withheld | quantity | rows | median | mean | p90 | in 90 % interval |",
        "|---|---|---|---|---|---|---|---|---|",
        *(_row(line) for line in lines(trained)),
    ]
    for kind, each in trained.items():
        text += ["", f"## {kind.value}: each party withheld", "", *_party_table(each)]
    for kind, each in trained.items():
        text += [
            "",
            f"## {kind.value}: each curve withheld, by device and engine",
            "",
            "| group | quantity | rows | median | p90 |",
        ]
        text += ["|---|---|---|---|---|", *_breakdown(each)]
    return "\n".join(text) + "\n"


def _party_table(trained: Trained) -> Iterator[str]:
    """Yield a table of physics alone beside the learned part, on parties neither has seen."""
    yield (
        "| party | regime | quantity | rows | physics median | bias | learned median | bias "
        "| in 90 % interval of other parties | its upper over its lower end |"
    )
    yield "|---|---|---|---|---|---|---|---|---|---|"
    for each in trained.parties:
        of = f"{each.party} | {each.regime} | {each.quantity} | {each.rows}"
        physics = f"{each.physics:.1%} | {each.physics_bias:+.1%}"
        learned = f"{each.learned:.1%} | {each.learned_bias:+.1%}"
        interval = f"{each.coverage90:.1%} | {each.width90:.1f}"
        yield f"| {of} | {physics} | {learned} | {interval} |"


def _row(line: Line) -> str:
    inside = "" if np.isnan(line.coverage90) else f"{line.coverage90:.1%}"
    errors = f"{line.median:.1%} | {line.mean:.1%} | {line.p90:.1%}"
    of = f"{line.kind} | {line.part} | {line.withheld} | {line.quantity} | {line.rows}"
    return f"| {of} | {errors} | {inside} |"


def _breakdown(trained: Trained) -> Iterator[str]:
    for quantity, groups in trained.manifest["errors"][Novelty.KNOWN.value].items():
        for group, figures in groups.items():
            if figures["rows"] and group != "all":
                errors = f"{figures['median']:.1%} | {figures['p90']:.1%}"
                yield f"| {group} | {quantity} | {figures['rows']} | {errors} |"
