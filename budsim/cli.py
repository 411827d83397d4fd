"""The terminal: simulate a deployment, serve the API, list what is known; heavy imports wait until a command needs them."""

from __future__ import annotations

import json
import math
import os
import shlex
import sys
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer.exceptions import TyperException

from budsim.commons.errors import BudsimError, InvalidInput, NotFound
from budsim.commons.units import GIB, GIGA, MILLI, TERA

if TYPE_CHECKING:
    from collections.abc import Callable

    from rich.console import Console
    from rich.table import Table

    from budsim.hardware_ops.cluster import Cluster
    from budsim.performance.scoring import Score
    from budsim.simulator.plans import Figure, Outcome, Plan, PredictedService, Question, ReplicaGroup
    from budsim.simulator.services import ModelSource

MOST_TOKENS = 100_000_000
MOST_REQUESTS = 1_000_000
PLANS_SHOWN = 8
GROUPINGS = ("device", "engine", "model", "source")
NO_TERMINAL_COLUMNS = 120
LEAST_SHARE_TOLD = 0.01
TARGETS = {"ttft_s": "TTFT", "e2e_s": "end to end", "tokens_per_s_per_user": "tokens/s per user"}
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
    "e2e_s": "--e2e-s",
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
        option = _option(error.field)
        return _complain(str(error) if option == error.field else f"{option}: {error}", BAD_INPUT)
    except BudsimError as error:
        return _complain(str(error), FAILED)
    except (KeyboardInterrupt, typer.Abort):
        return _complain("interrupted", FAILED)
    return code if isinstance(code, int) else 0


@app.command()
def simulate(  # noqa: PLR0913 - one argument per option
    *,
    model: Annotated[str, typer.Option(help="Hugging Face id, alias, or path below MODEL_REGISTRY_DIR.")],
    cluster: Annotated[Path, typer.Option(help="Inventory JSON or the short YAML.")],
    input_tokens: Annotated[int, typer.Option(min=1, max=MOST_TOKENS, help="Mean prompt tokens.")],
    output_tokens: Annotated[int, typer.Option(min=1, max=MOST_TOKENS, help="Mean generated tokens.")],
    concurrency: Annotated[int, typer.Option(min=1, max=MOST_REQUESTS, help="Requests in flight at a time.")],
    ttft_ms: Annotated[float | None, typer.Option(help="Longest time to first token; 0: no target.")] = None,
    tokens_per_s_per_user: Annotated[float | None, typer.Option(help="Least output tokens/s of one user; 0: no target.")] = None,
    e2e_s: Annotated[float | None, typer.Option(help="Longest end-to-end latency; 0: no target.")] = None,
    engine: Annotated[str | None, typer.Option(help="Restrict the search to vllm or sglang.")] = None,
    quantize: Annotated[bool, typer.Option("--quantize", help="Also try quantized weights.")] = False,
    analytic: Annotated[bool, typer.Option("--analytic", help="Leave the regressors out and enumerate a grid.")] = False,
    shared: Annotated[bool, typer.Option("--shared", help="Use time-sliced GPUs instead of whole ones.")] = False,
    calibration: Annotated[Path | None, typer.Option(help="A site's own correction, by `budsim calibrate`.")] = None,
    seed: Annotated[int, typer.Option(min=0, max=2**63 - 1, help="Same seed, same answer.")] = 0,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")] = False,
) -> None:
    """Find the best deployments of a model on a cluster."""
    from budsim.hardware_ops.cluster import HardwareMode
    from budsim.performance.predictor import AnalyticPredictor, load_predictor
    from budsim.performance.workload import Workload
    from budsim.simulator import services
    from budsim.simulator.plans import Targets

    if analytic and calibration:
        raise InvalidInput("--calibration", "corrects the regressors, which --analytic leaves out", "one of the two")
    targets = Targets(
        ttft_s=_target("--ttft-ms", ttft_ms, MILLI),
        tokens_per_s_per_user=_target("--tokens-per-s-per-user", tokens_per_s_per_user),
        e2e_s=_target("--e2e-s", e2e_s),
    )
    wishes = services.Wishes(
        mode=HardwareMode.SHARED if shared else HardwareMode.DEDICATED,
        engines=frozenset({_engine(engine)}) if engine else frozenset(),
        may_quantize=quantize,
        analytic_only=analytic,
        seed=seed,
    )
    question = services.pose(
        model,
        Workload(input_tokens=input_tokens, output_tokens=output_tokens, concurrency=concurrency),
        targets,
        _clusters(cluster),
        wishes=wishes,
        source=_source(),
    )
    with _progress() as report:
        predictor = AnalyticPredictor() if analytic else load_predictor(calibration=calibration)
        outcome = services.simulate(question, predictor, progress=report)
    if as_json:
        sys.stdout.write(json.dumps(_document(question, outcome), indent=2, ensure_ascii=False) + "\n")
    else:
        _print_outcome(question, outcome)


@app.command()
def render(
    plan: Annotated[Path, typer.Argument(help="What `budsim simulate --json` printed; - reads it from stdin.")],
    *,
    form: Annotated[str, typer.Option("--format", help="command, compose, kubernetes, litellm or recipe (of LLM Compressor).")],
    number: Annotated[int, typer.Option("--number", "-n", min=1, help="Which plan, best first.")] = 1,
    fallback: Annotated[list[str] | None, typer.Option(help="Provider's model LiteLLM tries when all replicas fail.")] = None,
) -> None:
    """Print what starts a plan: engine commands, a compose file, Kubernetes manifests, LiteLLM's configuration, a recipe."""
    from budsim.simulator.rendering import render as rendered

    sys.stdout.write(rendered(_plan_text(plan), form, number=number, fallbacks=tuple(fallback or ())))


@app.command()
def serve(
    *,
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=1, max=65535, help="Port to listen on.")] = 9083,
    inventory: Annotated[Path | None, typer.Option(help="Inventory JSON or the short YAML; sets INVENTORY_FILE.")] = None,
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

    table = _table("device", "kind", "memory GiB>", "GB/s>", "bf16 TFLOPS>", "link GB/s>", "USD/h>")
    for device in known().values():
        bf16 = {str(precision): flops for precision, flops in device.flops_per_s.items()}.get("bf16")
        table.add_row(
            device.name,
            str(device.kind),
            f"{device.memory_bytes / GIB:.0f}",
            f"{device.memory_bandwidth_bytes_per_s / GIGA:.0f}",
            f"{bf16 / TERA:.0f}" if bf16 else "-",
            f"{device.scale_up.bandwidth_bytes_per_s / GIGA:.0f}",
            f"{device.price_usd_per_h:.2f}",
        )
    _print(table)


@app.command()
def models() -> None:
    """List the models known without a network, with their published sizes."""
    from budsim.model_ops.registry import known_models, published_parameters

    table = _table("model", "parameters>")
    for model_id in known_models():
        published = published_parameters(model_id)
        table.add_row(model_id, f"{published[0] / GIGA:.2f} B" if published else "-")
    _print(table)


@app.command()
def engines() -> None:
    """List the engines: what they do, on which hardware, and the knobs the search turns."""
    from budsim.commons.constants import ENGINE_COMPATIBILITY_MAPPING
    from budsim.engine_ops import compressors, routers, serving_engines
    from budsim.hardware_ops.device import DeviceKind

    table = _table("engine", "version", "stage", "hardware", "knobs")
    for engine in (*serving_engines.values(), *routers.values(), *compressors.values()):
        kinds = tuple(ENGINE_COMPATIBILITY_MAPPING.get(engine.name, ()))
        serving = serving_engines.get(engine.name)
        knobs = dict.fromkeys(knob.flag for kind in kinds for knob in (serving.knobs(DeviceKind(kind)) if serving else ()))
        table.add_row(engine.name, engine.version, str(engine.stage), ", ".join(kinds) or "any", ", ".join(knobs) or "-")
    _print(table)


@app.command()
def predict(
    file: Annotated[Path, typer.Argument(help="CSV in the columns of measurements.csv.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="CSV to write.")],
    models_folder: Annotated[Path | None, typer.Option("--models", help="Trained models; default: the shipped ones.")] = None,
    calibration: Annotated[Path | None, typer.Option(help="A site's own correction, by `budsim calibrate`.")] = None,
) -> None:
    """Add predictions to every row of a CSV: TTFT, TPOT, latency and throughput with 90 % intervals, or why there is none."""
    from budsim.performance.measurements import read_tables
    from budsim.performance.predictor import load_predictor
    from budsim.performance.scoring import predict_table

    table = predict_table(read_tables([file]), load_predictor(models_folder, calibration))
    with _writing(output):
        table.to_csv(output, index=False)
    failed = int((table["pred_error"] != "").sum())
    typer.echo(f"{len(table) - failed} of {len(table)} rows predicted, written to {output}", err=True)


@app.command()
def evaluate(
    file: Annotated[Path, typer.Argument(help="CSV in the columns of measurements.csv, or a folder of them.")],
    by: Annotated[str, typer.Option(help="Break errors down by device, engine, model or source.")] = "device",
    models_folder: Annotated[Path | None, typer.Option("--models", help="Trained models; default: the shipped ones.")] = None,
    calibration: Annotated[Path | None, typer.Option(help="A site's own correction, by `budsim calibrate`.")] = None,
    analytic: Annotated[bool, typer.Option("--analytic", help="Score the analytic model alone.")] = False,
    max_ttft: Annotated[float | None, typer.Option(help="Largest median error of TTFT, %.")] = None,
    max_tpot: Annotated[float | None, typer.Option(help="Largest median error of TPOT, %.")] = None,
    max_e2e: Annotated[float | None, typer.Option(help="Largest median error of end-to-end latency, %.")] = None,
    max_throughput: Annotated[float | None, typer.Option(help="Largest median error of output tokens/s, %.")] = None,
) -> None:
    """Score the models on measured rows; exit with 1 when a median error is past a --max bound."""
    from budsim.performance.measurements import read_tables
    from budsim.performance.predictor import AnalyticPredictor, load_predictor
    from budsim.performance.scoring import evaluate as score

    if by not in GROUPINGS:
        raise InvalidInput("--by", f"{by!r} is no grouping", "one of " + ", ".join(GROUPINGS))
    predictor = AnalyticPredictor() if analytic else load_predictor(models_folder, calibration)
    scores, problems = score(read_tables([file]), predictor, by)
    if not scores:
        raise InvalidInput("file", f"{file.name} has no row that can be scored", problems[0] if problems else "measured columns")
    _print(_scores(scores))
    _tell_drift(scores)
    _tell_left_out(problems)
    bounds = {"ttft_ms": max_ttft, "tpot_ms": max_tpot, "e2e_ms": max_e2e, "output_tokens_per_s": max_throughput}
    past = [s for s in scores if s.group == "all" and (limit := bounds[s.quantity]) is not None and s.median * 100 > limit]
    for each in past:
        typer.echo(f"{each.quantity}: median error {each.median:.1%} is past its bound", err=True)
    raise typer.Exit(FAILED if past else 0)


@app.command()
def train(
    data: Annotated[list[Path] | None, typer.Option(help="CSV files or folders; default: BUDSIM_DATA or ../shared/data.")] = None,
    add: Annotated[list[Path] | None, typer.Option(help="More of them, beside --data: a site's own.")] = None,
    output: Annotated[Path, typer.Option("--output", "-o", help="Where artefacts go.")] = Path("cache/pretrained_models"),
    seed: Annotated[int, typer.Option(min=0, max=2**31 - 1, help="Same data and seed, same bytes.")] = 0,
    guard: Annotated[Path, typer.Option(help="Rows whose median errors are recorded, for tests to hold.")] = GUARD,
) -> None:
    """Fit the regressors of every kind of hardware, print how well they predict what they have not seen, write artefacts."""
    from budsim.performance.guard import record
    from budsim.performance.measurements import read_tables
    from budsim.performance.reports import lines, markdown
    from budsim.performance.training import train as fit

    folders = [*(data or [Path(os.environ.get("BUDSIM_DATA", "../shared/data"))]), *(add or [])]
    trained = fit(read_tables(folders), output, seed=seed, progress=lambda step: typer.echo(step, err=True))
    if not trained:
        raise InvalidInput(
            "--data", "no kind of hardware has enough usable rows", "quality A or B rows of serving or static batches"
        )
    (output / "report.md").write_text(markdown(trained), encoding="utf-8")
    if guard.is_file():
        record(read_tables([guard]), output)
    table = _table("kind", "rows of", "withheld", "quantity", "rows>", "median>", "mean>", "p90>", "in 90 % interval>")
    for line in lines(trained):
        errors = ("" if math.isnan(value) else f"{value:.1%}" for value in (line.median, line.mean, line.p90, line.coverage90))
        table.add_row(line.kind, line.part, line.withheld, line.quantity, str(line.rows), *errors)
    _print(table)


@app.command()
def calibrate(
    *,
    measured: Annotated[list[Path], typer.Option("--with", help="CSV in the columns of measurements.csv, or a folder of them.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="Calibration to write.")] = Path("calibration.json"),
    models_folder: Annotated[Path | None, typer.Option("--models", help="Trained models; default: the shipped ones.")] = None,
) -> None:
    """Learn a site's own correction from a few of its measurements; a simulation uses it when it names it."""
    from datetime import UTC, datetime

    from budsim.performance.calibrating import calibrate as learn
    from budsim.performance.measurements import read_tables
    from budsim.performance.predictor import load_predictor
    from budsim.performance.scoring import evaluate as score

    table, predictor = read_tables(measured), load_predictor(models_folder)
    found = learn(table, predictor, created=datetime.now(UTC).date().isoformat())
    scores = score(table, predictor, "model")[0]
    typer.echo("What the models say of these rows before any correction:")
    _print(_scores(scores))
    _tell_drift(scores)
    checks = _table("correction of", "withheld", "rows>", "median before>", "median after>", "in 90 % interval>")
    for check in found.checks:
        figures = (f"{value:.1%}" for value in (check.before, check.after, check.inside90))
        checks.add_row(check.target, check.withheld, str(check.rows), *figures)
    typer.echo("How the correction does on rows it has not seen:")
    _print(checks)
    document = found.calibration.document
    with _writing(output):
        output.write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")
    _tell_left_out(found.problems)
    for target, stated in document["targets"].items():
        verdict = f"used, intervals {stated['widening']:.2f} times as wide" if stated["used"] else "not used: it does not help"
        typer.echo(f"{target}: {stated['rows']} configurations, correction {verdict}", err=True)
    typer.echo(f"written to {output}; name it with --calibration or CALIBRATION_FILE", err=True)


def _scores(scores: Sequence[Score]) -> Table:
    table = _table("quantity", "rows of", "rows>", "median>", "mean>", "p90>", "in 90 % interval>", "measured/predicted>")
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
    for reason, rows in Counter(problems).most_common(PLANS_SHOWN):
        typer.echo(f"{rows} rows left out: {reason}", err=True)


@app.command("import")
def import_(  # noqa: PLR0913 - one argument per option
    *,
    files: Annotated[list[Path], typer.Argument(help="JSON of vllm bench serve, GuideLLM or InferenceX.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="CSV to write, in the columns of measurements.csv.")],
    device: Annotated[str, typer.Option(help="Device it ran on, a name of `budsim devices`.")] = "",
    tp: Annotated[int | None, typer.Option(min=1, max=4096, help="Tensor parallelism.")] = None,
    pp: Annotated[int | None, typer.Option(min=1, max=4096, help="Pipeline parallelism; not given: 1.")] = None,
    ep: Annotated[int | None, typer.Option(min=1, max=4096, help="Expert parallelism; not given: none.")] = None,
    dp: Annotated[int | None, typer.Option(min=1, max=4096, help="Data parallelism; not given: 1.")] = None,
    model: Annotated[str, typer.Option(help="Model; not given: what the file calls it.")] = "",
    engine: Annotated[str, typer.Option(help="Serving engine (vllm, sglang, ...).")] = "",
    engine_version: Annotated[str, typer.Option(help="Its version.")] = "",
    precision: Annotated[str, typer.Option(help="Weight format; not given: the model's own.")] = "",
    kv_cache_dtype: Annotated[str, typer.Option(help="KV cache format; not given: 16 bit.")] = "",
    source: Annotated[str, typer.Option(help="Name of the measurements; not given: the program's.")] = "",
) -> None:
    """Turn benchmark results into rows for `predict`, `evaluate`, `calibrate` and `train`; each that cannot be one says why."""
    from budsim.performance.benchmarks import Setup, import_results

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
        raise InvalidInput("files", found.problems[0] if found.problems else "hold no benchmark", "results that become rows")
    with _writing(output):
        found.rows.to_csv(output, index=False)
    for problem in found.problems:
        typer.echo(problem, err=True)
    typer.echo(f"{len(found.rows)} rows written to {output}, {len(found.problems)} benchmarks left out", err=True)


@contextmanager
def _writing(output: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise InvalidInput("--output", f"{output.name} cannot be written ({error.strerror})", "a writable file") from error


def _complain(message: str, code: int) -> int:
    sys.stderr.write("budsim: " + " ".join(message.split()) + "\n")
    return code


def _usage(arguments: list[str]) -> str:
    return "no command given: try budsim --help" if not arguments else f"{' '.join(arguments)!r} is not a complete command"


def _option(field: str) -> str:
    return OPTIONS.get(field, "" if field.startswith(("--", "PLAN", "args.")) else "--cluster") or field


def _target(option: str, value: float | None, unit: float = 1.0) -> float | None:
    if value is not None and not 0 <= value < math.inf:
        raise typer.BadParameter(f"{value} is not in the range 0 <= x < infinity (0: no target).", param_hint=f"'{option}'")
    return value * unit if value else None


def _engine(name: str) -> str:
    from budsim.engine_ops import serving_engines

    wanted = name.strip().lower()
    if wanted not in serving_engines:
        raise typer.BadParameter(f"{name!r} is not one of {', '.join(serving_engines)}.", param_hint="'--engine'")
    return wanted


def _clusters(path: Path, option: str = "--cluster") -> tuple[Cluster, ...]:
    from budsim.hardware_ops.inventory import read_cluster_file

    if not path.is_file():
        raise typer.BadParameter(
            f"{str(path)!r} is not a file; an inventory JSON or the short YAML is.", param_hint=f"'{option}'"
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
        raise InvalidInput("PLAN", f"{path.name} cannot be read ({reason})", "a file `budsim simulate --json` wrote") from error


def _source() -> ModelSource:
    from budsim.simulator.services import ModelSource

    folder = os.environ.get("MODEL_REGISTRY_DIR")
    return ModelSource(registry_dir=Path(folder) if folder else None)


@contextmanager
def _progress() -> Iterator[Callable[[float], None]]:
    """Show a bar on stderr while the search runs; a line every quarter where stderr is no terminal."""
    if not sys.stderr.isatty():
        told: set[int] = set()

        def tell(share: float) -> None:
            quarter = int(4 * share)
            if quarter not in told:
                told.add(quarter)
                sys.stderr.write(f"searching: {25 * quarter} %\n")

        yield tell
        return
    from rich.console import Console
    from rich.progress import Progress

    with Progress(console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("searching", total=1.0)
        yield lambda share: bar.update(task, completed=share)


def _document(question: Question, outcome: Outcome) -> Mapping[str, Any]:
    """Return the answer in the wire's names, without what differs between two runs (ids of runs, times)."""
    from budsim.simulator.schemas import ClusterMetrics, DeploymentConfiguration, Reason, stored_plans

    stored = stored_plans(outcome, question, keep=len(outcome.plans))
    best = {plan.cluster_id: plan for plan in reversed(stored)}
    return {
        "object": "cluster_recommendations",
        "model": question.architecture.model_id,
        "input_tokens": question.workload.input_tokens,
        "output_tokens": question.workload.output_tokens,
        "recommendations": [ClusterMetrics.of(plan).model_dump(mode="json") for plan in stored if plan is best[plan.cluster_id]],
        "configurations": [DeploymentConfiguration.of(plan).model_dump(mode="json") for plan in stored],
        "reasons": [Reason.of(rejection).model_dump(mode="json") for rejection in outcome.rejections],
        "evaluations": outcome.evaluations,
        "seed": question.seed,
    }


def _print_outcome(question: Question, outcome: Outcome) -> None:
    console = _console()
    names = {cluster.cluster_id: cluster.name for cluster in question.clusters}
    traffic = question.workload
    console.print(
        f"[bold]{question.architecture.model_id}[/bold]: {traffic.concurrency} requests of {traffic.input_tokens} + "
        f"{traffic.output_tokens} tokens at a time; {_targets_text(question)}; {outcome.evaluations} configurations looked at"
    )
    if outcome.plans:
        console.print(_plan_table(outcome.plans[:PLANS_SHOWN], names))
        console.print("ranges in brackets hold 90 % of what will be measured", style="dim")
        _print_launch(console, outcome.plans[0])
        _print_explanation(console, outcome.plans[0])
    else:
        console.print("[bold red]nothing fits[/bold red]")
    if outcome.rejections:
        rejected = _table("rejected", "devices>", "why")
        for each in outcome.rejections:
            rejected.add_row(
                f"{names.get(each.cluster_id, each.cluster_id)}: {each.subject}", str(each.devices or "-"), each.reason
            )
        console.print(rejected)


def _targets_text(question: Question) -> str:
    targets = question.targets
    parts = [
        f"TTFT <= {targets.ttft_s / MILLI:g} ms" if targets.ttft_s else "",
        f">= {targets.tokens_per_s_per_user:g} tokens/s per user" if targets.tokens_per_s_per_user else "",
        f"end to end <= {targets.e2e_s:g} s" if targets.e2e_s else "",
    ]
    return ", ".join(filter(None, parts)) or "no targets"


def _plan_table(plans: tuple[Plan, ...], names: Mapping[str, str]) -> Table:
    table = _table("plan", "targets", "TTFT ms>", "tok/s/user>", "e2e s>", "USD/Mtok>", "USD/h>", "bound by")
    for number, plan in enumerate(plans, start=1):
        service = plan.slowest.service
        table.add_row(
            f"{number}. {_headline(plan, names)}",
            "[green]met[/green]" if plan.meets_targets else f"[red]missed\n{plan.error_rate:.0%}[/red]",
            _range(service.ttft_s, 1 / MILLI, ".0f"),
            _range(service.tokens_per_s_per_user, 1.0, ".1f"),
            _range(service.e2e_s, 1.0, ".2f"),
            f"{plan.cost_per_million_tokens_usd:.2f}",
            f"{plan.cost_usd_per_h:.2f}",
            f"{service.bound_by}\n[dim]{service.basis}{_novelty(service)}[/dim]",
        )
    return table


def _novelty(service: PredictedService) -> str:
    return "" if service.in_range or service.basis == "analytic" else ", outside training"


def _headline(plan: Plan, names: Mapping[str, str]) -> str:
    where = f"{names.get(plan.cluster_id, plan.cluster_id)}: " if len(names) > 1 else ""
    return where + "\n + ".join(_described(group) for group in plan.groups)


def _described(group: ReplicaGroup) -> str:
    config = group.config
    layout = f"tp{config.tp}" + (f" pp{config.pp}" if config.pp > 1 else "") + (f" ep{config.ep}" if config.ep > 1 else "")
    return (
        f"{group.replicas} x {config.device.name} {layout}\n   [dim]{group.engine}, {config.weight_precision} weights, "
        f"{config.kv_precision} KV[/dim]"
    )


def _range(figure: Figure, factor: float, spec: str) -> str:
    value, low, high = (format(x * factor, spec) for x in (figure.value, figure.low90, figure.high90))
    return f"{value}\n[dim]{low}-{high}[/dim]"


def _print_launch(console: Console, plan: Plan) -> None:
    whole = sum(group.replicas * group.service.tokens_per_s for group in plan.groups)
    for number, group in enumerate(plan.groups):
        share = f" (each gets {group.service.tokens_per_s / whole:.1%} of the requests)" if len(plan.groups) > 1 else ""
        nodes = dict.fromkeys(part.node_name for replica in group.placements for part in replica)
        named = "[bold]best plan[/bold]" if not number else "[bold]and[/bold]"
        console.print(
            f"\n{named}: {group.replicas} x {group.label.name} on {', '.join(nodes)}{share}; image {group.launch.image}"
        )
        settings = [f"{name}={shlex.quote(value)}" for name, value in group.launch.envs.items()]
        console.print(" ".join([*settings, shlex.join(group.launch.command)]), markup=False, soft_wrap=True)
        memory = group.memory
        parts = (
            f"weights {memory.weight_bytes / GIB:.1f}",
            f"KV cache {memory.kv_cache_bytes / GIB:.1f}",
            f"activations {memory.activation_bytes / GIB:.1f}",
            f"reserve {memory.reserved_bytes / GIB:.1f}",
        )
        console.print(f"memory of a device: {', '.join(parts)} of {memory.budget_bytes / GIB:.1f} GiB\n")


def _print_explanation(console: Console, plan: Plan) -> None:
    """Say where the time of the plan's slowest group goes, what room its targets leave, and what one more replica would do."""
    group, explanation = plan.slowest, plan.slowest.explanation
    shares = sorted(explanation.time_shares.items(), key=lambda share: -share[1])
    told = [f"{cause} {share:.0%}" for cause, share in shares if share >= LEAST_SHARE_TOLD]
    console.print(f"a request's time: {', '.join(told)}")
    rooms = sorted(explanation.headroom.items(), key=lambda room: room[1])
    told = [f"{TARGETS[name]} {abs(room):.0%}" + (" missed" if room < 0 else "") for name, room in rooms]
    if told:
        console.print(f"room before a target is missed: {', '.join(told)}; the first binds")
    after = explanation.next_replica
    if after:
        before, there = group.service, "free" if after.is_free else "not free in the cluster"
        changes = (
            f"TTFT {before.ttft_s.value / MILLI:.0f} -> {after.ttft_s / MILLI:.0f} ms",
            f"{before.tokens_per_s_per_user.value:.1f} -> {after.tokens_per_s_per_user:.1f} tokens/s per user",
            f"{group.cost_per_million_tokens_usd:.2f} -> {after.cost_per_million_tokens_usd:.2f} USD/Mtok",
        )
        console.print(f"one more replica ({after.devices} x {group.label.name}, {there}): {', '.join(changes)}")
    console.print()


def _table(*columns: str) -> Table:
    """Return an empty table; a column whose name ends in ``>`` is of numbers."""
    from rich.box import SIMPLE_HEAD
    from rich.table import Table

    table = Table(box=SIMPLE_HEAD, pad_edge=False)
    for column in columns:
        table.add_column(column.rstrip(">"), justify="right" if column.endswith(">") else "left", overflow="fold")
    return table


def _print(table: Table) -> None:
    _console().print(table)


def _console() -> Console:
    """Return where answers are printed: as wide as the terminal, wide enough for the tables where there is none."""
    from rich.console import Console

    return Console(highlight=False, width=None if sys.stdout.isatty() else NO_TERMINAL_COLUMNS)


if __name__ == "__main__":
    main()
