"""Errors of a command name its options, not the fields of the core or of HTTP."""

import pytest
import typer

from budsim.api.inputs import SearchOptions
from budsim.cli import run
from budsim.cli.app import app
from budsim.cli.option_names import in_options, option_of

OPTIONS = frozenset({"--acceptance", "--draft-model", "--ttft-ms", "--trace", "--output-tokens"})


@pytest.mark.parametrize(
    ("message", "told"),
    [
        ("ttft_s or output_tokens", "--ttft-ms or --output-tokens"),
        ("and `acceptance` is given", "and --acceptance is given"),
        ("an acceptance of 2", "an acceptance of 2"),
        ("'output_tokens' is none", "'output_tokens' is none"),
        ("the model's output_tokens, the rank's", "the model's --output-tokens, the rank's"),
        ("max_num_seqs or draft_model", "max_num_seqs or draft_model"),
        ("no `draft_model`", "no --draft-model"),
    ],
)
def test_fields_in_a_message_become_options(message, told):
    """Names of fields become options; words, values, methods and what was typed stay."""
    assert in_options(message, "--ttft-ms", OPTIONS) == told


def test_columns_of_files_keep_their_names():
    """An error about a trace speaks of the file's columns."""
    assert in_options("has no output_tokens", "--trace", OPTIONS) == "has no output_tokens"


def test_every_option_of_a_search_is_known_by_its_field():
    """`simulate` has an option for each field of a search, but for one that Python alone has."""
    commands = typer.main.get_command(app).commands
    options = {option for each in commands["simulate"].params for option in each.opts}
    lacking = [name for name in SearchOptions.__annotations__ if not option_of(name, options)]
    assert lacking == ["max_context_tokens"]


@pytest.mark.parametrize(
    ("extra", "told"),
    [
        (["--draft-tokens", "3"], "--draft-tokens: is given without a method; expected --specul"),
        (["--route-by-prefix"], "--route-by-prefix: is asked for without the tokens of all pref"),
        (["--route-by-prefix"], "expected --prefix-set-tokens beside it"),
        (["--own", "usd_per_kwh=1"], "--own usd_per_kwh: changes nothing with --basis rent"),
        (["--disaggregated", "maybe"], "--disaggregated: 'maybe' is not known"),
        (["--turns", "3", "--prefix-hits", "0.2"], "--prefix-hits: is given beside --turns,"),
        (["--turn-interval-s", "-1"], "--turn-interval-s: is given without conversations; exp"),
        (["--turn-interval-s", "9"], "expected --turns beside it"),
        (["--goodput", "0.9"], "expected --ttft-ms, --e2e-s or --tokens-per-s-per-user as well"),
    ],
)
def test_mistakes_are_told_in_options(simulate, capsys, extra, told):
    """Bad input of `simulate` is told in the names that the user can type."""
    assert run([*simulate, *extra]) == 2
    assert told in capsys.readouterr().err
