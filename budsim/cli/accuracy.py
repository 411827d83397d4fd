"""`budsim predict` and `evaluate`: predictions for rows of a CSV, and how far they are off."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, ClassVar

import typer

from budsim.cli import tables
from budsim.cli.files import writing
from budsim.cli.option_groups import with_option_groups
from budsim.cli.options import Calibration, ModelsFolder
from budsim.cli.progress import progress
from budsim.cli.streams import FAILED
from budsim.commons.errors import InvalidInput

if TYPE_CHECKING:
    from pandas import DataFrame
    from rich.table import Table

    from budsim.performance.predictor import Predictor
    from budsim.performance.training.score import Score

REASONS_TOLD = 8
GROUPINGS = ("device", "engine", "model", "mode", "source")


@dataclass(frozen=True, slots=True, kw_only=True)
class BoundOptions:
    """Largest median errors that are accepted, in percent."""

    panel: ClassVar[str] = "Bounds: exit with 1 when a median error is larger"

    max_ttft: Annotated[float | None, typer.Option(help="Of TTFT, %.")] = None
    max_tpot: Annotated[float | None, typer.Option(help="Of TPOT, %.")] = None
    max_e2e: Annotated[float | None, typer.Option(help="Of end-to-end latency, %.")] = None
    max_throughput: Annotated[float | None, typer.Option(help="Of output tokens/s, %.")] = None

    def exceeded_by(self, scores: Sequence[Score]) -> list[Score]:
        """Return the scores over all rows whose median error is larger than its bound."""
        quantities = ("ttft_ms", "tpot_ms", "e2e_ms", "output_tokens_per_s")
        bounds = {
            name: getattr(self, field.name)
            for name, field in zip(quantities, fields(self), strict=True)
        }
        return [
            score
            for score in scores
            if score.group == "all"
            and (bound := bounds[score.quantity]) is not None
            and score.median * 100 > bound
        ]


def predict(
    file: Annotated[Path, typer.Argument(help="CSV in the columns of measurements.csv.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="CSV to write.")],
    models_folder: ModelsFolder = None,
    calibration: Calibration = None,
) -> None:
    """Add predictions to every row of a CSV: mean TTFT, TPOT, latency and throughput.

    Each mean has a range that contains 90 % of the values one would measure. Percentiles over
    requests stand beside them. Rows without a prediction say why.
    """
    from budsim.performance.predictor import load_predictor
    from budsim.performance.training.score import predict_file

    if not file.is_file():
        raise InvalidInput("file", f"{file.name} does not exist", "a readable CSV file")
    # Rows are read and written part by part: writing would destroy what is still to be read.
    if output.exists() and output.samefile(file):
        raise InvalidInput("--output", f"{output.name} is the file to be read", "another file")
    predictor = load_predictor(models_folder, calibration)
    with (
        progress("predicting") as report,
        writing(output),
        output.open("w", encoding="utf-8", newline="") as written,
    ):
        rows, predicted = predict_file(file, written, predictor, progress=report)
    typer.echo(f"{predicted} of {rows} rows predicted, written to {output}", err=True)


@with_option_groups
def evaluate(
    file: Annotated[
        Path, typer.Argument(help="CSV in the columns of measurements.csv, or a folder of them.")
    ],
    *,
    by: Annotated[
        str, typer.Option(help="Group errors by device, engine, model, mode or source.")
    ] = "device",
    models_folder: ModelsFolder = None,
    calibration: Calibration = None,
    analytic: Annotated[
        bool, typer.Option("--analytic", help="Score physics alone, without trained models.")
    ] = False,
    bounds: BoundOptions,
    report: Annotated[
        Path | None, typer.Option(help="HTML file to write: plots, errors by group, ranking.")
    ] = None,
) -> None:
    """Compare predictions with measured rows; exit with 1 when a median error exceeds a bound."""
    from budsim.performance.predictor import AnalyticPredictor, load_predictor
    from budsim.performance.training.score import scores as scored

    if by not in GROUPINGS:
        raise InvalidInput("--by", f"{by!r} is no grouping", "one of " + ", ".join(GROUPINGS))
    predictor = AnalyticPredictor() if analytic else load_predictor(models_folder, calibration)
    judged, problems = _judged(file, predictor)
    scores = scored(judged, by)
    if not scores:
        raise InvalidInput(
            "file",
            f"{file.name} has no row that can be scored",
            problems[0] if problems else "measured columns",
        )
    tables.show(score_table(scores))
    tell_drift(scores)
    tell_left_out(problems)
    if report:
        from budsim.performance.training.html_report import evaluation_page

        with writing(report, "--report"):
            report.write_text(evaluation_page(judged, problems), encoding="utf-8")
    exceeded = bounds.exceeded_by(scores)
    for each in exceeded:
        typer.echo(
            f"{each.quantity}: the median error of {each.median:.1%} exceeds its bound", err=True
        )
    raise typer.Exit(FAILED if exceeded else 0)


def _judged(file: Path, predictor: Predictor) -> tuple[DataFrame, list[str]]:
    """Return the rows of a CSV with predictions beside them, and why other rows were left out."""
    from budsim.performance.measured.tables import csv_files, read_parts
    from budsim.performance.training.score import judge

    parts = (part for each in csv_files([file]) for part in read_parts(each))
    with progress("predicting") as report:
        return judge(parts, predictor, progress=report)


def score_table(scores: Sequence[Score]) -> Table:
    """Return a table of errors, one row for each quantity and group of rows."""
    table = tables.table(
        "quantity",
        "rows of",
        "rows>",
        "median>",
        "mean>",
        "p90>",
        "in 90 % interval>",
        "measured/predicted>",
    )
    for each in scores:
        errors = (f"{value:.1%}" for value in (each.median, each.mean, each.p90, each.coverage90))
        table.add_row(each.quantity, each.group, str(each.rows), *errors, f"{each.bias:.2f}")
    return table


def tell_drift(scores: Sequence[Score]) -> None:
    """Say on stderr which measured quantities have left the predicted intervals."""
    for each in scores:
        if each.drifts:
            typer.echo(
                f"drift: {each.coverage90:.0%} of {each.rows} values of {each.quantity} "
                f"({each.group}) lie in their 90 % interval; the median measured value is "
                f"{each.bias:.2f} times the predicted one",
                err=True,
            )


def tell_left_out(problems: Sequence[str]) -> None:
    """Say on stderr how many rows were left out, by reason."""
    for reason, rows in Counter(problems).most_common(REASONS_TOLD):
        typer.echo(f"{rows} rows left out: {reason}", err=True)
