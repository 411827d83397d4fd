"""The terminal: simulate a deployment, serve the API, list what is known; heavy imports wait until a command needs them."""

from __future__ import annotations

import json
import math
import os
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer
from typer.exceptions import TyperException

from budsim.cli import tables
from budsim.commons.errors import BudsimError, InvalidInput, NotFound
from budsim.commons.units import GIB, GIGA, MILLI, TERA
from budsim.hardware_ops.device import DeviceKind
from budsim.performance.workload import MOST_REQUESTS, MOST_TOKENS

if TYPE_CHECKING:
    from collections.abc import Callable

    from rich.progress import TaskID
    from rich.table import Table

    from budsim.hardware_ops.cluster import Cluster
    from budsim.performance.predictor import Predictor
    from budsim.performance.training.score import Score
    from budsim.simulator.planning.question import Question, Targets
    from budsim.simulator.services import ModelSource, Wishes

REASONS_TOLD = 8
GROUPINGS = ("device", "engine", "model", "mode", "source")
GUARD = Path("cache/accuracy/rows.csv")
BAD_INPUT, FAILED = 2, 1
OPTIONS = {
    "pretrained_model_uri": "--model",
    "model": "--model",
    "input_tokens": "--input-tokens",
    "output_tokens": "--output-tokens",
    "concurrency": "--concurrency",
    "engine": "--engine",
    "ttft_s": "--ttft-ms",
    "tokens_per_s_per_user": "--tokens-per-s-per-user",
    "target_throughput_per_user": "--tokens-per-s-per-user",
    "e2e_s": "--e2e-s",
    "calibration": "--calibration",
    "max_loras": "--max-loras",
    "max_lora_rank": "--max-lora-rank",
}
"""Fields errors name, by the option that sets them; what is in none of them came from the cluster file."""

app = typer.Typer(
    name="budsim",
    help="What to deploy, how it will perform, what it will cost, and how sure that is.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)


def main() -> None:
    """Run the command line; bad input ends with exit code 2 and one line on stderr, never a traceback."""
    sys.exit(run(sys.argv[1:]))


def run(arguments: list[str]) -> int:
    """Run one command and return its exit code: 0, 2 for bad input, 1 for what went wrong otherwise."""
    try:
        code = app(arguments, standalone_mode=False)
    except TyperException as error:
        return _complain(error.format_message() or _usage(arguments), BAD_INPUT)
    except (InvalidInput, NotFound) as error:
        option = _option(error.field, arguments)
        return _complain(str(error) if option == error.field else f"{option}: {error}", BAD_INPUT)
    except BudsimError as error:
        return _complain(str(error), FAILED)
    except (KeyboardInterrupt, typer.Abort):
        return _complain("interrupted", FAILED)
    return code if isinstance(code, int) else 0


Model = Annotated[
    str, typer.Option(help="Hugging Face id, alias, or path below MODEL_REGISTRY_DIR.")
]
ClusterFile = Annotated[Path, typer.Option(help="Inventory JSON or the short YAML.")]
InputTokens = Annotated[int, typer.Option(min=1, max=MOST_TOKENS, help="Mean prompt tokens.")]
OutputTokens = Annotated[
    int,
    typer.Option(
        min=1,
        max=MOST_TOKENS,
        help="Mean generated tokens; of no matter for embedding, reranking and other pooling models.",
    ),
]
Concurrency = Annotated[
    int, typer.Option(min=1, max=MOST_REQUESTS, help="Requests in flight at a time.")
]
Ttft = Annotated[float | None, typer.Option(help="Longest time to first token; 0: no target.")]
Rate = Annotated[
    float | None, typer.Option(help="Least output tokens/s of one user; 0: no target.")
]
Latency = Annotated[float | None, typer.Option(help="Longest end-to-end latency; 0: no target.")]
EngineName = Annotated[str | None, typer.Option(help="Restrict the search to vllm or sglang.")]
Quantize = Annotated[bool, typer.Option("--quantize", help="Also try quantized weights.")]
Analytic = Annotated[
    bool, typer.Option("--analytic", help="Leave the regressors out and enumerate a grid.")
]
Loras = Annotated[
    int, typer.Option(min=0, max=1024, help="LoRA adapters every replica serves at a time.")
]
LoraRank = Annotated[int, typer.Option(min=1, max=512, help="Highest rank of an adapter.")]
Shared = Annotated[
    bool, typer.Option("--shared", help="Use time-sliced GPUs instead of whole ones.")
]
Calibration = Annotated[
    Path | None, typer.Option(help="A site's own correction, by `budsim calibrate`.")
]
Seed = Annotated[int, typer.Option(min=0, max=2**63 - 1, help="Same seed, same answer.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")]


@app.command()
def simulate(  # noqa: PLR0913 - one argument per option
    *,
    model: Model,
    cluster: ClusterFile,
    input_tokens: InputTokens,
    output_tokens: OutputTokens,
    concurrency: Concurrency,
    ttft_ms: Ttft = None,
    tokens_per_s_per_user: Rate = None,
    e2e_s: Latency = None,
    engine: EngineName = None,
    quantize: Quantize = False,
    analytic: Analytic = False,
    shared: Shared = False,
    risk: Annotated[
        Literal["expected", "cautious"],
        typer.Option(
            help="Judge targets by what is expected, or by the worse end of the 90 % ranges."
        ),
    ] = "expected",
    what_if: Annotated[
        list[str] | None,
        typer.Option(
            metavar="KNOB=VALUE", help="What this would change in the best plan; may be repeated."
        ),
    ] = None,
    max_loras: Loras = 0,
    max_lora_rank: LoraRank = 16,
    calibration: Calibration = None,
    seed: Seed = 0,
    as_json: AsJson = False,
) -> None:
    """Find the best deployments of a model on a cluster."""
    from budsim.simulator import services

    traffic = (input_tokens, output_tokens, concurrency)
    wishes = _wishes(
        engine,
        quantize=quantize,
        analytic=analytic,
        shared=shared,
        seed=seed,
        risk=risk,
        loras=(max_loras, max_lora_rank),
    )
    question = _posed(
        model, traffic, _targets(ttft_ms, tokens_per_s_per_user, e2e_s), _clusters(cluster), wishes
    )
    with _progress() as report:
        predictor = _predictor(calibration, analytic=analytic)
        outcome = services.simulate(question, predictor, progress=report)
    changes = [services.what_if(question, outcome, predictor, change) for change in what_if or ()]
    if as_json:
        more = {"what_if": tables.changes_document(question, changes)} if changes else {}
        tables.write_json(tables.outcome_document(question, outcome) | more)
        return
    tables.print_outcome(question, outcome)
    if changes:
        tables.print_changes(question, changes)


@app.command()
def capacity(  # noqa: PLR0913 - one argument per option
    *,
    model: Model,
    cluster: ClusterFile,
    input_tokens: InputTokens,
    output_tokens: OutputTokens,
    ttft_ms: Ttft = None,
    tokens_per_s_per_user: Rate = None,
    e2e_s: Latency = None,
    engine: EngineName = None,
    quantize: Quantize = False,
    analytic: Analytic = False,
    shared: Shared = False,
    max_loras: Loras = 0,
    max_lora_rank: LoraRank = 16,
    calibration: Calibration = None,
    seed: Seed = 0,
    as_json: AsJson = False,
) -> None:
    """Find the most requests in flight each cluster carries within the targets (to 1 %)."""
    from budsim.simulator import services

    wishes = _wishes(
        engine,
        quantize=quantize,
        analytic=analytic,
        shared=shared,
        seed=seed,
        loras=(max_loras, max_lora_rank),
    )
    targets = _targets(ttft_ms, tokens_per_s_per_user, e2e_s)
    question = _posed(model, (input_tokens, output_tokens, 1), targets, _clusters(cluster), wishes)
    with _progress() as report:
        found = services.capacities(
            question, _predictor(calibration, analytic=analytic), progress=report
        )
    if as_json:
        tables.write_json(tables.capacity_document(question, found))
    else:
        tables.print_capacities(question, found)


@app.command()
def size(  # noqa: PLR0913 - one argument per option
    *,
    model: Model,
    input_tokens: InputTokens,
    output_tokens: OutputTokens,
    concurrency: Concurrency,
    device: Annotated[
        list[str] | None,
        typer.Option(help="Try this device only; may be repeated. Default: all we know."),
    ] = None,
    ttft_ms: Ttft = None,
    tokens_per_s_per_user: Rate = None,
    e2e_s: Latency = None,
    engine: EngineName = None,
    quantize: Quantize = False,
    analytic: Analytic = False,
    max_loras: Loras = 0,
    max_lora_rank: LoraRank = 16,
    calibration: Calibration = None,
    seed: Seed = 0,
    as_json: AsJson = False,
) -> None:
    """Find the cheapest devices of the catalog that carry a load within the targets, as if there were plenty of each."""
    from budsim.simulator import services

    wishes = _wishes(
        engine,
        quantize=quantize,
        analytic=analytic,
        shared=False,
        seed=seed,
        loras=(max_loras, max_lora_rank),
    )
    targets = _targets(ttft_ms, tokens_per_s_per_user, e2e_s)
    question = _posed(model, (input_tokens, output_tokens, concurrency), targets, (), wishes)
    with _progress() as report:
        predictor = _predictor(calibration, analytic=analytic)
        found = services.cheapest_devices(question, predictor, device or (), progress=report)
    if as_json:
        tables.write_json(tables.sized_document(question, found))
    else:
        tables.print_sized(question, found)


@app.command()
def render(
    plan: Annotated[
        Path, typer.Argument(help="What `budsim simulate --json` printed; - reads it from stdin.")
    ],
    *,
    form: Annotated[
        str,
        typer.Option(
            "--format", help="command, compose, kubernetes, litellm or recipe (of LLM Compressor)."
        ),
    ],
    number: Annotated[
        int, typer.Option("--number", "-n", min=1, help="Which plan, best first.")
    ] = 1,
    fallback: Annotated[
        list[str] | None,
        typer.Option(help="Provider's model LiteLLM tries when all replicas fail."),
    ] = None,
    max_loras: Loras = 0,
    max_lora_rank: LoraRank = 16,
) -> None:
    """Print what starts a plan: engine commands, a compose file, Kubernetes manifests, LiteLLM's configuration, a recipe."""
    from budsim.simulator.rendering import Additions
    from budsim.simulator.rendering import render as rendered

    additions = Additions(
        fallbacks=tuple(fallback or ()), max_loras=max_loras, max_lora_rank=max_lora_rank
    )
    sys.stdout.write(rendered(_plan_text(plan), form, number=number, additions=additions))


@app.command()
def serve(
    *,
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=1, max=65535, help="Port to listen on.")] = 9083,
    inventory: Annotated[
        Path | None, typer.Option(help="Inventory JSON or the short YAML; sets INVENTORY_FILE.")
    ] = None,
) -> None:
    """Serve the HTTP API (ASGI app budsim.main:app)."""
    import uvicorn

    if inventory:
        _clusters(inventory, option="--inventory")
        os.environ["INVENTORY_FILE"] = str(inventory.resolve())
    uvicorn.run("budsim.main:app", host=host, port=port)


@app.command()
def devices() -> None:
    """List the devices whose figures are known."""
    from budsim.hardware_ops.catalog import devices as known

    table = tables.table(
        "device", "kind", "memory GiB>", "GB/s>", "bf16 TFLOPS>", "link GB/s>", "USD/h>"
    )
    for device in known().values():
        bf16 = {str(precision): flops for precision, flops in device.flops_per_s.items()}.get(
            "bf16"
        )
        table.add_row(
            device.name,
            str(device.kind),
            f"{device.memory_bytes / GIB:.0f}",
            f"{device.memory_bandwidth_bytes_per_s / GIGA:.0f}",
            f"{bf16 / TERA:.0f}" if bf16 else "-",
            f"{device.scale_up.bandwidth_bytes_per_s / GIGA:.0f}",
            f"{device.price_usd_per_h:.2f}",
        )
    tables.show(table)


@app.command()
def models() -> None:
    """List the models known without a network, with their published sizes."""
    from budsim.model_ops.registry import known_models, published_parameters

    table = tables.table("model", "parameters>")
    for model_id in known_models():
        published = published_parameters(model_id)
        table.add_row(model_id, f"{published[0] / GIGA:.2f} B" if published else "-")
    tables.show(table)


@app.command()
def engines() -> None:
    """List the engines: what they do, on which hardware, and the knobs the search turns."""
    from budsim.commons.constants import ENGINE_COMPATIBILITY_MAPPING
    from budsim.engine_ops import compressors, routers, serving_engines

    table = tables.table("engine", "version", "stage", "hardware", "knobs")
    for engine in (*serving_engines.values(), *routers.values(), *compressors.values()):
        kinds = tuple(ENGINE_COMPATIBILITY_MAPPING.get(engine.name, ()))
        serving = serving_engines.get(engine.name)
        knobs = dict.fromkeys(
            knob.flag
            for kind in kinds
            for knob in (serving.knobs(DeviceKind(kind)) if serving else ())
        )
        table.add_row(
            engine.name,
            engine.version,
            str(engine.stage),
            ", ".join(kinds) or "any",
            ", ".join(knobs) or "-",
        )
    tables.show(table)


@app.command()
def predict(
    file: Annotated[Path, typer.Argument(help="CSV in the columns of measurements.csv.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="CSV to write.")],
    models_folder: Annotated[
        Path | None, typer.Option("--models", help="Trained models; default: the shipped ones.")
    ] = None,
    calibration: Annotated[
        Path | None, typer.Option(help="A site's own correction, by `budsim calibrate`.")
    ] = None,
) -> None:
    """Add predictions to every row of a CSV: TTFT, TPOT, latency and throughput with 90 % intervals, or why there is none."""
    from budsim.performance.predictor import load_predictor
    from budsim.performance.training.score import predict_file

    if not file.is_file():
        raise InvalidInput("file", f"{file.name} does not exist", "a readable CSV file")
    if output.exists() and output.samefile(file):
        raise InvalidInput("--output", f"{output.name} is the file to be read", "another file")
    predictor = load_predictor(models_folder, calibration)
    with (
        _progress("predicting") as progress,
        _writing(output),
        output.open("w", encoding="utf-8", newline="") as written,
    ):
        rows, predicted = predict_file(file, written, predictor, progress=progress)
    typer.echo(f"{predicted} of {rows} rows predicted, written to {output}", err=True)


@app.command()
def evaluate(
    file: Annotated[
        Path, typer.Argument(help="CSV in the columns of measurements.csv, or a folder of them.")
    ],
    by: Annotated[
        str, typer.Option(help="Break errors down by device, engine, model, mode or source.")
    ] = "device",
    models_folder: Annotated[
        Path | None, typer.Option("--models", help="Trained models; default: the shipped ones.")
    ] = None,
    calibration: Annotated[
        Path | None, typer.Option(help="A site's own correction, by `budsim calibrate`.")
    ] = None,
    analytic: Annotated[
        bool, typer.Option("--analytic", help="Score the analytic model alone.")
    ] = False,
    max_ttft: Annotated[float | None, typer.Option(help="Largest median error of TTFT, %.")] = None,
    max_tpot: Annotated[float | None, typer.Option(help="Largest median error of TPOT, %.")] = None,
    max_e2e: Annotated[
        float | None, typer.Option(help="Largest median error of end-to-end latency, %.")
    ] = None,
    max_throughput: Annotated[
        float | None, typer.Option(help="Largest median error of output tokens/s, %.")
    ] = None,
    report: Annotated[
        Path | None, typer.Option(help="HTML to write: plots, errors by group, ranking.")
    ] = None,
) -> None:
    """Score the models on measured rows; exit with 1 when a median error is past a --max bound."""
    from budsim.performance.measured.measurements import csv_files, read_parts
    from budsim.performance.predictor import AnalyticPredictor, load_predictor
    from budsim.performance.training.score import judge
    from budsim.performance.training.score import scores as scored

    if by not in GROUPINGS:
        raise InvalidInput("--by", f"{by!r} is no grouping", "one of " + ", ".join(GROUPINGS))
    predictor = AnalyticPredictor() if analytic else load_predictor(models_folder, calibration)
    parts = (part for each in csv_files([file]) for part in read_parts(each))
    with _progress("predicting") as progress:
        judged, problems = judge(parts, predictor, progress=progress)
    scores = scored(judged, by)
    if not scores:
        raise InvalidInput(
            "file",
            f"{file.name} has no row that can be scored",
            problems[0] if problems else "measured columns",
        )
    tables.show(_scores(scores))
    _tell_drift(scores)
    _tell_left_out(problems)
    if report:
        from budsim.performance.training.html_report import evaluation_page

        with _writing(report, "--report"):
            report.write_text(evaluation_page(judged, problems), encoding="utf-8")
    bounds = {
        "ttft_ms": max_ttft,
        "tpot_ms": max_tpot,
        "e2e_ms": max_e2e,
        "output_tokens_per_s": max_throughput,
    }
    past = [
        s
        for s in scores
        if s.group == "all" and (limit := bounds[s.quantity]) is not None and s.median * 100 > limit
    ]
    for each in past:
        typer.echo(f"{each.quantity}: median error {each.median:.1%} is past its bound", err=True)
    raise typer.Exit(FAILED if past else 0)


@app.command()
def train(
    data: Annotated[
        list[Path] | None,
        typer.Option(help="CSV files or folders; default: BUDSIM_DATA or ../shared/data."),
    ] = None,
    add: Annotated[
        list[Path] | None, typer.Option(help="More of them, beside --data: a site's own.")
    ] = None,
    output: Annotated[Path, typer.Option("--output", "-o", help="Where artefacts go.")] = Path(
        "cache/pretrained_models"
    ),
    seed: Annotated[
        int, typer.Option(min=0, max=2**31 - 1, help="Same data and seed, same bytes.")
    ] = 0,
    guard: Annotated[
        Path, typer.Option(help="Rows whose median errors are recorded, for tests to hold.")
    ] = GUARD,
    report: Annotated[
        Path | None,
        typer.Option(help="HTML to write: marks, plots, learning curves (takes longer)."),
    ] = None,
) -> None:
    """Fit the regressors of every kind of hardware, print how well they predict what they have not seen, write artefacts."""
    from budsim.performance.measured.measurements import read_tables
    from budsim.performance.training.accuracy_gate import record
    from budsim.performance.training.fit import train as fit
    from budsim.performance.training.html_report import marks
    from budsim.performance.training.reports import lines, markdown

    folders = [*(data or [Path(os.environ.get("BUDSIM_DATA", "../shared/data"))]), *(add or [])]
    with _steps() as step:
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
        from budsim.performance.training.html_report import training_page
        from budsim.performance.training.learning_curves import learning_curves

        with _steps() as step, _writing(report, "--report"):
            report.write_text(
                training_page(trained, learning_curves(trained, seed, progress=step)),
                encoding="utf-8",
            )
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


@app.command()
def tune(
    data: Annotated[
        list[Path] | None,
        typer.Option(help="CSV files or folders; default: BUDSIM_DATA or ../shared/data."),
    ] = None,
    kind: Annotated[
        DeviceKind, typer.Option(help="Kind of hardware whose rows judge.")
    ] = DeviceKind.CUDA,
    trials: Annotated[
        int, typer.Option(min=1, max=1000, help="Settings to try; each costs ten fits.")
    ] = 20,
    seed: Annotated[
        int, typer.Option(min=0, max=2**31 - 1, help="Same data and seed, same settings.")
    ] = 0,
) -> None:
    """Try other parameters of the regressors by cross-validation, whole curves withheld, and show the best first."""
    from budsim.performance.measured.measurements import read_tables
    from budsim.performance.training.tune import SPACE, Trial, search

    def tell(trial: Trial) -> None:
        typer.echo(
            " ".join(f"{target} {error:.2%}" for target, error in trial.errors.items()), err=True
        )

    rows = read_tables(data or [Path(os.environ.get("BUDSIM_DATA", "../shared/data"))])
    table = tables.table(*SPACE, "ttft>", "tpot>")
    for trial in search(rows, kind, trials, seed=seed, progress=tell):
        errors = (
            f"{trial.errors[target]:.2%}" if target in trial.errors else ""
            for target in ("ttft", "tpot")
        )
        table.add_row(*(str(trial.parameters[name]) for name in SPACE), *errors)
    tables.show(table)


@app.command()
def calibrate(
    *,
    measured: Annotated[
        list[Path],
        typer.Option("--with", help="CSV in the columns of measurements.csv, or a folder of them."),
    ],
    output: Annotated[Path, typer.Option("--output", "-o", help="Calibration to write.")] = Path(
        "calibration.json"
    ),
    models_folder: Annotated[
        Path | None, typer.Option("--models", help="Trained models; default: the shipped ones.")
    ] = None,
) -> None:
    """Learn a site's own correction from a few of its measurements; a simulation uses it when it names it."""
    from datetime import UTC, datetime

    from budsim.performance.measured.measurements import read_tables
    from budsim.performance.predictor import load_predictor
    from budsim.performance.training.score import evaluate as score
    from budsim.performance.training.site_calibration import calibrate as learn

    table, predictor = read_tables(measured), load_predictor(models_folder)
    found = learn(table, predictor, created=datetime.now(UTC).date().isoformat())
    scores = score(table, predictor, "model")[0]
    typer.echo("What the models say of these rows before any correction:")
    tables.show(_scores(scores))
    _tell_drift(scores)
    checks = tables.table(
        "correction of", "withheld", "rows>", "median before>", "median after>", "in 90 % interval>"
    )
    for check in found.checks:
        figures = (f"{value:.1%}" for value in (check.before, check.after, check.inside90))
        checks.add_row(check.target, check.withheld, str(check.rows), *figures)
    typer.echo("How the correction does on rows it has not seen:")
    tables.show(checks)
    document = found.calibration.document
    with _writing(output):
        output.write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")
    _tell_left_out(found.problems)
    for target, stated in document["targets"].items():
        verdict = (
            f"used, intervals {stated['widening']:.2f} times as wide"
            if stated["used"]
            else "not used: it does not help"
        )
        typer.echo(f"{target}: {stated['rows']} configurations, correction {verdict}", err=True)
    typer.echo(f"written to {output}; name it with --calibration or CALIBRATION_FILE", err=True)


def _scores(scores: Sequence[Score]) -> Table:
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


def _tell_drift(scores: Sequence[Score]) -> None:
    for each in scores:
        if each.drifts:
            typer.echo(
                f"drift: {each.coverage90:.0%} of {each.rows} values of {each.quantity} ({each.group}) lie in their 90 % "
                f"interval; the middle one is {each.bias:.2f} times what was predicted",
                err=True,
            )


def _tell_left_out(problems: Sequence[str]) -> None:
    for reason, rows in Counter(problems).most_common(REASONS_TOLD):
        typer.echo(f"{rows} rows left out: {reason}", err=True)


@app.command("import")
def import_(  # noqa: PLR0913 - one argument per option
    *,
    files: Annotated[
        list[Path], typer.Argument(help="JSON of vllm bench serve, GuideLLM or InferenceX.")
    ],
    output: Annotated[
        Path,
        typer.Option("--output", "-o", help="CSV to write, in the columns of measurements.csv."),
    ],
    device: Annotated[str, typer.Option(help="Device it ran on, a name of `budsim devices`.")] = "",
    tp: Annotated[int | None, typer.Option(min=1, max=4096, help="Tensor parallelism.")] = None,
    pp: Annotated[
        int | None, typer.Option(min=1, max=4096, help="Pipeline parallelism; not given: 1.")
    ] = None,
    ep: Annotated[
        int | None, typer.Option(min=1, max=4096, help="Expert parallelism; not given: none.")
    ] = None,
    dp: Annotated[
        int | None, typer.Option(min=1, max=4096, help="Data parallelism; not given: 1.")
    ] = None,
    model: Annotated[str, typer.Option(help="Model; not given: what the file calls it.")] = "",
    engine: Annotated[str, typer.Option(help="Serving engine (vllm, sglang, ...).")] = "",
    engine_version: Annotated[str, typer.Option(help="Its version.")] = "",
    precision: Annotated[str, typer.Option(help="Weight format; not given: the model's own.")] = "",
    kv_cache_dtype: Annotated[str, typer.Option(help="KV cache format; not given: 16 bit.")] = "",
    source: Annotated[
        str, typer.Option(help="Name of the measurements; not given: the program's.")
    ] = "",
) -> None:
    """Turn benchmark results into rows for `predict`, `evaluate`, `calibrate` and `train`; each that cannot be one says why."""
    from budsim.performance.measured.importers import Setup, import_results

    setup = Setup(
        source=source,
        device=device,
        model=model,
        engine=engine,
        engine_version=engine_version,
        precision=precision,
        kv_cache_dtype=kv_cache_dtype,
        tp=tp,
        pp=pp,
        ep=ep,
        dp=dp,
    )
    found = import_results(files, setup)
    if found.rows.empty:
        raise InvalidInput(
            "files",
            found.problems[0] if found.problems else "hold no benchmark",
            "results that become rows",
        )
    with _writing(output):
        found.rows.to_csv(output, index=False)
    for problem in found.problems:
        typer.echo(problem, err=True)
    typer.echo(
        f"{len(found.rows)} rows written to {output}, {len(found.problems)} benchmarks left out",
        err=True,
    )


@contextmanager
def _writing(output: Path, option: str = "--output") -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise InvalidInput(
            option, f"{output.name} cannot be written ({error.strerror})", "a writable file"
        ) from error


def _complain(message: str, code: int) -> int:
    sys.stderr.write("budsim: " + " ".join(message.split()) + "\n")
    return code


def _usage(arguments: list[str]) -> str:
    return (
        "no command given: try budsim --help"
        if not arguments
        else f"{' '.join(arguments)!r} is not a complete command"
    )


def _option(field: str, arguments: list[str]) -> str:
    """Return the option a field came from: the cluster's file where one was given and no other option sets it."""
    has_cluster = any(argument.partition("=")[0] == "--cluster" for argument in arguments)
    is_of_cluster = has_cluster and not field.startswith(("--", "PLAN", "args."))
    return OPTIONS.get(field, "--cluster" if is_of_cluster else field)


def _target(option: str, value: float | None, unit: float = 1.0) -> float | None:
    if value is not None and not 0 <= value < math.inf:
        raise typer.BadParameter(
            f"{value} is not in the range 0 <= x < infinity (0: no target).",
            param_hint=f"'{option}'",
        )
    return value * unit if value else None


def _engine(name: str) -> str:
    from budsim.engine_ops import serving_engines

    wanted = name.strip().lower()
    if wanted not in serving_engines:
        raise typer.BadParameter(
            f"{name!r} is not one of {', '.join(serving_engines)}.", param_hint="'--engine'"
        )
    return wanted


def _clusters(path: Path, option: str = "--cluster") -> tuple[Cluster, ...]:
    from budsim.hardware_ops.inventory import read_cluster_file

    if not path.is_file():
        raise typer.BadParameter(
            f"{str(path)!r} is not a file; an inventory JSON or the short YAML is.",
            param_hint=f"'{option}'",
        )
    try:
        return read_cluster_file(path)
    except (InvalidInput, NotFound) as error:
        raise typer.BadParameter(str(error), param_hint=f"'{option}'") from error


def _plan_text(path: Path) -> str:
    try:
        return sys.stdin.read() if str(path) == "-" else path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "not UTF-8 text"
        raise InvalidInput(
            "PLAN",
            f"{path.name} cannot be read ({reason})",
            "a file `budsim simulate --json` wrote",
        ) from error


def _source() -> ModelSource:
    from budsim.simulator.services import ModelSource

    folder = os.environ.get("MODEL_REGISTRY_DIR")
    return ModelSource(registry_dir=Path(folder) if folder else None)


@contextmanager
def _progress(what: str = "searching") -> Iterator[Callable[[float], None]]:
    """Show a bar on stderr while work runs; a line every quarter where stderr is no terminal."""
    if not sys.stderr.isatty():
        told: set[int] = set()

        def tell(share: float) -> None:
            quarter = int(4 * share)
            if quarter not in told:
                told.add(quarter)
                sys.stderr.write(f"{what}: {25 * quarter} %\n")

        yield tell
        return
    from rich.console import Console
    from rich.progress import Progress

    with Progress(console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task(what, total=1.0)
        yield lambda share: bar.update(task, completed=share)


@contextmanager
def _steps() -> Iterator[Callable[[str], None]]:
    """Tell each step on stderr as it begins; on a terminal a clock runs beside the last one."""
    if not sys.stderr.isatty():
        yield lambda step: typer.echo(step, err=True)
        return
    from rich.console import Console
    from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

    columns = (SpinnerColumn(), TextColumn("{task.description}"), TimeElapsedColumn())
    with Progress(*columns, console=Console(stderr=True)) as bar:
        running: list[TaskID] = []

        def step(text: str) -> None:
            for task in running:
                bar.update(task, total=1.0, completed=1.0)
            running[:] = [bar.add_task(text, total=None)]

        yield step
        for task in running:
            bar.update(task, total=1.0, completed=1.0)


def _targets(
    ttft_ms: float | None, tokens_per_s_per_user: float | None, e2e_s: float | None
) -> Targets:
    from budsim.simulator.planning.question import Targets

    return Targets(
        ttft_s=_target("--ttft-ms", ttft_ms, MILLI),
        tokens_per_s_per_user=_target("--tokens-per-s-per-user", tokens_per_s_per_user),
        e2e_s=_target("--e2e-s", e2e_s),
    )


def _wishes(
    engine: str | None,
    *,
    quantize: bool,
    analytic: bool,
    shared: bool,
    seed: int,
    loras: tuple[int, int],
    risk: str = "expected",
) -> Wishes:
    """Return what options ask for; ``loras`` is how many adapters, and their highest rank."""
    from budsim.hardware_ops.cluster import HardwareMode
    from budsim.simulator.planning.question import Risk
    from budsim.simulator.services import Wishes

    return Wishes(
        mode=HardwareMode.SHARED if shared else HardwareMode.DEDICATED,
        engines=frozenset({_engine(engine)}) if engine else frozenset(),
        may_quantize=quantize,
        analytic_only=analytic,
        risk=Risk(risk),
        max_loras=loras[0],
        max_lora_rank=loras[1],
        seed=seed,
    )


def _posed(
    model: str,
    traffic: tuple[int, int, int],
    targets: Targets,
    clusters: tuple[Cluster, ...],
    wishes: Wishes,
) -> Question:
    """Return the question; ``traffic`` is prompt tokens, output tokens and requests in flight."""
    from budsim.performance.workload import Workload
    from budsim.simulator import services

    workload = Workload(input_tokens=traffic[0], output_tokens=traffic[1], concurrency=traffic[2])
    return services.pose(model, workload, targets, clusters, wishes=wishes, source=_source())


def _predictor(calibration: Path | None, *, analytic: bool) -> Predictor:
    from budsim.performance.predictor import AnalyticPredictor, load_predictor

    if analytic and calibration:
        raise InvalidInput(
            "--calibration",
            "corrects the regressors, which --analytic leaves out",
            "one of the two",
        )
    return AnalyticPredictor() if analytic else load_predictor(calibration=calibration)


if __name__ == "__main__":
    main()
