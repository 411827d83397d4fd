"""`budsim calibrate` and `import`: correct predictions with your own benchmarks."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar

import typer

from budsim.cli import tables
from budsim.cli.accuracy import score_table, tell_drift, tell_left_out
from budsim.cli.files import writing
from budsim.cli.option_groups import with_option_groups
from budsim.cli.option_names import in_options
from budsim.cli.options import ModelsFolder
from budsim.commons.errors import InvalidInput

if TYPE_CHECKING:
    from pandas import DataFrame

    from budsim.performance.training.site_calibration import Calibrated

LARGEST_PARALLELISM = 4096


@dataclass(frozen=True, slots=True, kw_only=True)
class SetupOptions:
    """What the benchmark ran on, where its file does not say."""

    panel: ClassVar[str] = "What was measured, where the file does not say"

    device: Annotated[str, typer.Option(help="Device, a name of `budsim devices`.")] = ""
    tp: Annotated[
        int | None, typer.Option(min=1, max=LARGEST_PARALLELISM, help="Tensor parallelism.")
    ] = None
    pp: Annotated[
        int | None,
        typer.Option(min=1, max=LARGEST_PARALLELISM, help="Pipeline parallelism. Default: 1."),
    ] = None
    ep: Annotated[
        int | None,
        typer.Option(min=1, max=LARGEST_PARALLELISM, help="Expert parallelism. Default: none."),
    ] = None
    dp: Annotated[
        int | None,
        typer.Option(
            min=1,
            max=LARGEST_PARALLELISM,
            help="Data ranks beside the tensor ranks, as vLLM counts them. Default: 1.",
        ),
    ] = None
    attn_dp: Annotated[
        int | None,
        typer.Option(
            min=1,
            max=LARGEST_PARALLELISM,
            help="Attention ranks among the tensor ranks, as plans and SGLang count them.",
        ),
    ] = None
    devices: Annotated[
        int | None,
        typer.Option(
            min=1,
            max=LARGEST_PARALLELISM,
            help="Devices in all. Default: the product of the degrees.",
        ),
    ] = None
    cores: Annotated[
        int | None, typer.Option(min=1, help="Cores of each process, on a processor.")
    ] = None
    model: Annotated[str, typer.Option(help="Model. Default: the file's name for it.")] = ""
    engine: Annotated[str, typer.Option(help="Serving engine (vllm, sglang, ...).")] = ""
    engine_version: Annotated[str, typer.Option(help="Version of the engine.")] = ""
    precision: Annotated[str, typer.Option(help="Weight format. Default: the model's own.")] = ""
    kv_cache_dtype: Annotated[str, typer.Option(help="KV cache format. Default: 16 bit.")] = ""
    source: Annotated[
        str, typer.Option(help="Name of the measurements. Default: the program's name.")
    ] = ""


@with_option_groups
def calibrate(
    *,
    measured: Annotated[
        list[Path] | None,
        typer.Option("--with", help="CSV in the columns of measurements.csv, or a folder of them."),
    ] = None,
    metrics: Annotated[
        list[str] | None,
        typer.Option(
            "--from-metrics",
            help="Metrics of a running server instead of a benchmark: its URL, or one or two "
            "saved texts of /metrics, the earlier first.",
        ),
    ] = None,
    window_s: Annotated[
        float,
        typer.Option(
            "--window-s",
            min=0,
            max=3600,
            help="Seconds between two readings of a URL. 0: since the server started.",
        ),
    ] = 60.0,
    output: Annotated[Path, typer.Option("--output", "-o", help="Correction to write.")] = Path(
        "calibration.json"
    ),
    models_folder: ModelsFolder = None,
    setup: SetupOptions,
) -> None:
    """Learn a correction for your site from a few of its measurements.

    A simulation uses the correction when `--calibration` names it.
    """
    from budsim.performance.predictor import load_predictor
    from budsim.performance.training.score import evaluate as score
    from budsim.performance.training.site_calibration import calibrate as learn

    table, predictor = _table(measured, metrics, window_s, setup), load_predictor(models_folder)
    found = learn(table, predictor, created=datetime.now(UTC).date().isoformat())
    scores = score(table, predictor, "model")[0]
    typer.echo("Errors on these rows before any correction:")
    tables.show(score_table(scores))
    tell_drift(scores)
    _show_used(found)
    _show_checks(found)
    # Written even where no target uses it: the file then says why.
    document = found.calibration.document
    with writing(output):
        output.write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")
    tell_left_out(found.problems)
    _tell_targets(document)
    _tell_engines(sorted({row["engine"] for row in document["rows"]}))
    typer.echo(f"written to {output}; use it with --calibration or CALIBRATION_FILE", err=True)


def _tell_engines(engines: list[str]) -> None:
    """Say that engines the site did not measure cannot be compared with those it did."""
    typer.echo(
        f"measured: {', '.join(engines)}; others on these devices get a tenth of the correction. "
        "Do not choose between engines by it unless each was measured.",
        err=True,
    )


def _table(
    measured: list[Path] | None, metrics: list[str] | None, window_s: float, setup: SetupOptions
) -> DataFrame:
    """Return the rows to learn from: of CSV files, or of a server's metrics."""
    from budsim.performance.measured.tables import read_tables

    if bool(measured) == bool(metrics):
        stated = "is given beside --from-metrics" if measured else "is missing"
        raise InvalidInput("--with", stated, "either --with or --from-metrics")
    if measured:
        return read_tables(measured)

    from budsim.cli.server_metrics import read_metrics
    from budsim.performance.measured.importers import Setup, import_records

    found = import_records(read_metrics(metrics or [], window_s), Setup(**asdict(setup)))
    if found.rows.empty:
        problem = _in_options(found.problems)[0]
        raise InvalidInput("--from-metrics", problem, "metrics that become a row")
    for row in found.rows.to_dict("records"):
        typer.echo(f"read: {row['notes']}", err=True)
    return found.rows


def _in_options(problems: Sequence[str]) -> list[str]:
    """Return problems of benchmarks with the options that say of a deployment what files do not."""
    names = {f"--{each.name.replace('_', '-')}" for each in fields(SetupOptions)}
    return [in_options(problem, "FILES", names) for problem in problems]


def _show_used(found: Calibrated) -> None:
    """Print what each accepted row said, and what an answer will say of the same load."""
    table = tables.table(
        "used", "of", "under", "measured ms>", "predicted ms>", "corrected, steady ms>"
    )
    for each in found.used:
        figures = (
            f"{value:,.4g}" for value in (each.measured_ms, each.predicted_ms, each.steady_ms)
        )
        table.add_row(each.target, each.configuration, each.load, *figures)
    typer.echo(
        "What the rows say, predicted for what their benchmark sent. Answers are about steady "
        "traffic: without the burst with which a benchmark starts."
    )
    tables.show(table)


def _show_checks(found: Calibrated) -> None:
    """Print what the correction changes on rows it was not learned from."""
    if not found.checks:
        typer.echo(
            "One configuration leaves none to check the correction on: it is used unchecked."
        )
        return
    checks = tables.table(
        "correction of", "withheld", "rows>", "median before>", "median after>", "in 90 % interval>"
    )
    for check in found.checks:
        figures = (f"{value:.1%}" for value in (check.before, check.after, check.inside90))
        checks.add_row(check.target, check.withheld, str(check.rows), *figures)
    typer.echo("Errors with the correction, on rows it was not learned from:")
    tables.show(checks)


def _tell_targets(document: Mapping[str, Any]) -> None:
    """Say on stderr which quantities the correction is used for."""
    for target, stated in document["targets"].items():
        verdict = (
            f"used, intervals {stated['widening']:.2f} times as wide"
            if stated["used"]
            else "not used: it does not help"
        )
        typer.echo(f"{target}: {stated['rows']} configurations, correction {verdict}", err=True)


@with_option_groups
def import_results(
    files: Annotated[
        list[Path],
        typer.Argument(
            help="Results of vllm bench serve, sglang.bench_serving, GuideLLM, AIPerf, InferenceX, "
            "llama-bench or llama-batched-bench, or a saved text of a server's /metrics."
        ),
    ],
    *,
    output: Annotated[
        Path,
        typer.Option("--output", "-o", help="CSV to write, in the columns of measurements.csv."),
    ],
    setup: SetupOptions,
) -> None:
    """Turn benchmark results into rows for `predict`, `evaluate`, `calibrate` and `train`.

    Results that cannot become a row say why.
    """
    from budsim.performance.measured.importers import Setup
    from budsim.performance.measured.importers import import_results as imported

    found = imported(files, Setup(**asdict(setup)))
    problems = _in_options(found.problems)
    if found.rows.empty:
        first = problems[0] if problems else "hold no benchmark"
        raise InvalidInput.read("files", first, "results that become rows")
    with writing(output):
        found.rows.to_csv(output, index=False)
    for problem in problems:
        typer.echo(problem, err=True)
    typer.echo(
        f"{len(found.rows)} rows written to {output}, {len(problems)} benchmarks left out",
        err=True,
    )
