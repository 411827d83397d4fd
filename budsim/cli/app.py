"""The commands, and one line on stderr for every mistake."""

from __future__ import annotations

import typer
from typer.exceptions import TyperException

from budsim.cli.accuracy import evaluate, predict
from budsim.cli.calibration import calibrate, import_results
from budsim.cli.catalogs import devices, engines, models
from budsim.cli.comparison import explain
from budsim.cli.day import day
from budsim.cli.mcp import mcp
from budsim.cli.render import render
from budsim.cli.serve import serve
from budsim.cli.simulate import simulate
from budsim.cli.sizing import capacity, size
from budsim.cli.streams import BAD_INPUT, FAILED, complain
from budsim.cli.together import together
from budsim.cli.training import train, tune
from budsim.commons.errors import BudsimError, InvalidInput, NotFound

# The option that sets a field which errors name. The cluster file sets the fields not listed.
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
    "kv_offload_gib": "--kv-offload-gib",
    "prefix_set_tokens": "--prefix-set-tokens",
    "route_by_prefix": "--route-by-prefix",
    "turns": "--turns",
    "interval_s": "--turn-interval-s",
    "images_per_request": "--images-per-request",
    "image_size": "--image-size",
    "video_frames": "--video-frames",
    "audio_seconds": "--audio-seconds",
    "max_lora_rank": "--max-lora-rank",
    "rate": "--rate",
    "arrival": "--arrival",
    "trace": "--trace",
    "lengths": "--lengths",
    "variation": "--lengths",
    "longest": "--max-input-tokens",
    "prefix_hits": "--prefix-hits",
    "ttft_p95_s": "--ttft-p95-ms",
    "ttft_p99_s": "--ttft-p99-ms",
    "itl_p99_s": "--itl-p99-ms",
    "e2e_p95_s": "--e2e-p95-s",
    "e2e_p99_s": "--e2e-p99-s",
    "goodput": "--goodput",
    "hourly": "--hourly",
    "lead_time_s": "--lead-time-s",
    "risk": "--risk",
    "speculative": "--speculative",
    "disaggregated": "--disaggregated",
    "draft_tokens": "--draft-tokens",
    "draft_model": "--draft-model",
    "acceptance": "--acceptance",
    "domain": "--domain",
    "temperature": "--temperature",
}

app = typer.Typer(
    name="budsim",
    help="What to deploy, how it will perform, what it will cost, and how sure that is.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
# The help lists commands in this order: questions first, then catalogs, then accuracy.
for command in (
    simulate,
    capacity,
    day,
    size,
    together,
    explain,
    render,
    serve,
    mcp,
    devices,
    models,
    engines,
    predict,
    evaluate,
    train,
    tune,
    calibrate,
):
    app.command()(command)
app.command("import")(import_results)


def run_command(arguments: list[str]) -> int:
    """Run one command and return its exit code; errors become one line on stderr."""
    try:
        code = app(arguments, standalone_mode=False)
    except TyperException as error:
        message = error.format_message() or _usage(arguments)
        return complain(message + _advice(message, arguments), BAD_INPUT)
    except (InvalidInput, NotFound) as error:
        option = _option(error.field, arguments)
        # An option that sets one field says all that the field's name would.
        told = str(error).removeprefix(f"{error.field}: " if error.field in OPTIONS else "")
        message = told if option == error.field else f"{option}: {told}"
        return complain(message, BAD_INPUT)
    except BudsimError as error:
        return complain(str(error), FAILED)
    return code if isinstance(code, int) else 0


def _usage(arguments: list[str]) -> str:
    if not arguments:
        return "no command given: try budsim --help"
    return f"{' '.join(arguments)!r} is not a complete command"


def _advice(message: str, arguments: list[str]) -> str:
    """Return what to ask instead, where the mistake shows it."""
    lacks_cluster = "'--cluster'" in message and "Missing" in message
    is_simulation = arguments[:1] == ["simulate"]
    return " Without machines, ask `budsim size`." if lacks_cluster and is_simulation else ""


def _option(field: str, arguments: list[str]) -> str:
    """Return the option that set a field: the cluster file's, where no other option sets it."""
    # Inventory errors name fields of the file (`clusters[0].nodes`), of which there are many.
    has_cluster = any(argument.partition("=")[0] == "--cluster" for argument in arguments)
    is_of_cluster = has_cluster and field.startswith(("cluster", "["))
    return OPTIONS.get(field, "--cluster" if is_of_cluster else field)
