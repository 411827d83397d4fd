"""`budsim train` and `tune`: fit the regressors, and try other parameters for them."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from budsim.cli import tables
from budsim.cli.files import measurement_folders, writing
from budsim.cli.options import LARGEST_TRAINING_SEED
from budsim.cli.progress import steps
from budsim.commons.errors import InvalidInput
from budsim.hardware_ops.device import DeviceKind

if TYPE_CHECKING:
    from budsim.performance.training.fit import Trained
    from budsim.performance.training.tune import Trial

GATE_ROWS = Path("cache/accuracy/rows.csv")

Data = Annotated[
    list[Path] | None,
    typer.Option(help="CSV files or folders. Default: BUDSIM_DATA or ../shared/data."),
]


def train(
    data: Data = None,
    add: Annotated[
        list[Path] | None,
        typer.Option(help="More CSV files or folders beside --data, such as your own."),
    ] = None,
    output: Annotated[
        Path, typer.Option("--output", "-o", help="Folder for the trained models.")
    ] = Path("cache/pretrained_models"),
    seed: Annotated[
        int,
        typer.Option(
            min=0, max=LARGEST_TRAINING_SEED, help="The same data and seed give the same bytes."
        ),
    ] = 0,
    guard: Annotated[
        Path, typer.Option(help="Rows whose median errors are recorded for the accuracy test.")
    ] = GATE_ROWS,
    report: Annotated[
        Path | None,
        typer.Option(help="HTML file to write: marks, plots, learning curves (takes longer)."),
    ] = None,
) -> None:
    """Fit the regressors of every kind of hardware and print their errors on withheld rows."""
    from budsim.performance.measured.tables import read_tables
    from budsim.performance.training.accuracy_gate import record
    from budsim.performance.training.fit import train as fit
    from budsim.performance.training.marks import marks
    from budsim.performance.training.reports import markdown

    folders = [*measurement_folders(data), *(add or [])]
    with steps() as step:
        trained = fit(read_tables(folders), output, seed=seed, progress=step)
    if not trained:
        raise InvalidInput(
            "--data",
            "no kind of hardware has enough usable rows",
            "quality A or B rows of serving or static batches",
        )
    (output / "report.md").write_text(markdown(trained, marks(trained)), encoding="utf-8")
    if guard.is_file():
        record(read_tables([guard]), output)
    if report:
        _write_report(report, trained, seed)
    _show_errors(trained)


def _write_report(report: Path, trained: Mapping[DeviceKind, Trained], seed: int) -> None:
    from budsim.performance.training.html_report import training_page
    from budsim.performance.training.learning_curves import learning_curves

    with steps() as step, writing(report, "--report"):
        page = training_page(trained, learning_curves(trained, seed, progress=step))
        report.write_text(page, encoding="utf-8")


def _show_errors(trained: Mapping[DeviceKind, Trained]) -> None:
    """Print the errors of each kind of hardware on rows it has not seen."""
    from budsim.performance.training.reports import lines

    table = tables.table(
        "kind",
        "rows of",
        "withheld",
        "quantity",
        "rows>",
        "median>",
        "mean>",
        "p90>",
        "in 90 % interval>",
    )
    for line in lines(trained):
        errors = (
            "" if math.isnan(value) else f"{value:.1%}"
            for value in (line.median, line.mean, line.p90, line.coverage90)
        )
        table.add_row(line.kind, line.part, line.withheld, line.quantity, str(line.rows), *errors)
    tables.show(table)


def tune(
    data: Data = None,
    kind: Annotated[
        DeviceKind, typer.Option(help="Kind of hardware whose rows decide.")
    ] = DeviceKind.CUDA,
    trials: Annotated[
        int, typer.Option(min=1, max=1000, help="Settings to try; each costs ten fits.")
    ] = 20,
    seed: Annotated[
        int,
        typer.Option(
            min=0, max=LARGEST_TRAINING_SEED, help="The same data and seed give the same settings."
        ),
    ] = 0,
) -> None:
    """Try other parameters of the regressors by cross-validation over whole curves; best first."""
    from budsim.performance.measured.tables import read_tables
    from budsim.performance.training.tune import SPACE, search

    def tell(trial: Trial) -> None:
        """Print the errors of a trial as it ends."""
        errors = (f"{target} {error:.2%}" for target, error in trial.errors.items())
        typer.echo(" ".join(errors), err=True)

    rows = read_tables(measurement_folders(data))
    table = tables.table(*SPACE, "ttft>", "tpot>")
    for trial in search(rows, kind, trials, seed=seed, progress=tell):
        errors = (
            f"{trial.errors[target]:.2%}" if target in trial.errors else ""
            for target in ("ttft", "tpot")
        )
        table.add_row(*(str(trial.parameters[name]) for name in SPACE), *errors)
    tables.show(table)
