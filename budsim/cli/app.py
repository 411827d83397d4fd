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
from budsim.cli.option_names import assumption_of, in_options, option_of
from budsim.cli.render import render
from budsim.cli.serve import serve
from budsim.cli.simulate import simulate
from budsim.cli.sizing import capacity, size
from budsim.cli.streams import BAD_INPUT, FAILED, complain
from budsim.cli.together import together
from budsim.cli.training import train, tune
from budsim.commons.errors import BudsimError, InvalidInput, NotFound

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
commands = typer.main.get_command(app)


def run_command(arguments: list[str]) -> int:
    """Run one command and return its exit code; errors become one line on stderr."""
    try:
        code = commands(arguments, standalone_mode=False)
    except TyperException as error:
        message = error.format_message() or _usage(arguments)
        return complain(message + _advice(message, arguments), BAD_INPUT)
    except (InvalidInput, NotFound) as error:
        return complain(_told(error, arguments), BAD_INPUT)
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


def _told(error: InvalidInput | NotFound, arguments: list[str]) -> str:
    """Return an error with options of the command in place of fields."""
    field, options = error.field, _options(arguments)
    if option := option_of(field, options) or assumption_of(field, options):
        # An option that sets one field says all that the field's name would.
        told = str(error).removeprefix(f"{field}: ")
        return f"{option}: {in_options(told, option, options)}"
    # Inventory errors name fields of the file (`clusters[0].nodes`), of which there are many.
    is_of_cluster = field.startswith(("cluster", "[")) and "--cluster" in options
    return f"--cluster: {error}" if is_of_cluster else str(error)


def _options(arguments: list[str]) -> frozenset[str]:
    """Return the options of the command that was given."""
    command = getattr(commands, "commands", {}).get(next(iter(arguments), ""))
    parameters = command.params if command else ()
    return frozenset(option for each in parameters for option in each.opts)
