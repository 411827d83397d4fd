"""`--plot` draws in the terminal, `--report` into an HTML file."""

import io

from budsim.cli import run, terminal_plots
from budsim.simulator.planning.replay_curves import PlanReplay


def test_plots_show_cost_requests_and_load(simulate, capsys):
    """Cost against speed, distributions, the timeline and the load curve with its knee."""
    assert run([*simulate, "--plot"]) == 0
    out = capsys.readouterr().out
    for title in ("Cost against speed", "TTFT of single requests", "Gaps between tokens"):
        assert title in out
    assert "One replica over time" in out
    assert "knee at" in out
    assert "\x1b[" not in out


def test_json_is_not_mixed_with_plots(simulate, capsys):
    """`--json` prints the document alone."""
    assert run([*simulate, "--plot", "--json"]) == 0
    assert capsys.readouterr().out.rstrip().endswith("}")


def test_ascii_terminals_are_told(monkeypatch):
    """Block characters need UTF-8; without it a line says so."""
    stream = io.TextIOWrapper(io.BytesIO(), encoding="ascii", write_through=True)
    monkeypatch.setattr("sys.stdout", stream)
    terminal_plots.print_plots((), PlanReplay(curve=None, times=None))
    assert stream.buffer.getvalue() == b"no plots: they need a terminal with UTF-8\n"
