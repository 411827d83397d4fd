"""Options shared by several commands are written once and arrive as one value."""

from dataclasses import dataclass
from typing import Annotated, ClassVar

import pytest
import typer
from typer.testing import CliRunner

from budsim.cli.option_groups import with_option_groups


@dataclass(frozen=True, slots=True, kw_only=True)
class Paint:
    """Two options, one of them required."""

    panel: ClassVar[str] = "How it looks"
    colour: Annotated[str, typer.Option(help="Any colour.")]
    coats: Annotated[int, typer.Option(min=1, help="How often.")] = 2


def test_a_group_becomes_options_and_arrives_as_one_value():
    """`--colour red` and the default of `--coats` make one `Paint`, listed under its title."""
    app = typer.Typer()
    found = []

    @app.command()
    @with_option_groups
    def paint(*, paint: Paint, wall: Annotated[str, typer.Option()] = "north") -> None:
        """Paint a wall."""
        found.append((paint, wall))

    runner = CliRunner()
    assert runner.invoke(app, ["--colour", "red", "--wall", "south"]).exit_code == 0
    assert found == [(Paint(colour="red", coats=2), "south")]
    assert runner.invoke(app, ["--coats", "1"]).exit_code == 2
    assert "How it looks" in runner.invoke(app, ["--help"]).output


def test_fields_without_an_option_are_refused():
    """A field that is not Annotated with typer.Option cannot be given in a terminal."""

    @dataclass(frozen=True, slots=True, kw_only=True)
    class Bare:
        panel: ClassVar[str] = "Bare"
        depth: Annotated[int, "no option"] = 1

    def dig(*, bare: Bare) -> None:
        """Dig."""

    dig.__annotations__["bare"] = Bare
    with pytest.raises(TypeError, match="depth"):
        with_option_groups(dig)
