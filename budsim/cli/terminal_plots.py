"""Plots in the terminal: `budsim simulate --plot`."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from budsim.commons.units import MILLI

if TYPE_CHECKING:
    from budsim.simulator.planning.days import DayOfReplicas
    from budsim.simulator.planning.plans import Plan
    from budsim.simulator.planning.replay_curves import LoadCurve, PlanReplay, RequestTimes

WIDEST, ROWS = 100, 16
PERCENTS = np.arange(1, 100)


def print_plots(plans: Sequence[Plan], replay: PlanReplay) -> None:
    """Print cost against speed of all plans, and what requests of the best one see."""
    if not _can_draw():
        return
    _print_cost_and_speed(plans)
    if replay.times:
        _print_distributions(replay.times)
        _print_timeline(replay.times)
    if replay.curve:
        _print_curve(replay.curve)


def print_day_plot(day: DayOfReplicas) -> None:
    """Plot the load of each hour, and the rate that its replicas carry within the targets."""
    if not _can_draw():
        return
    figure = _figure("Requests/s that arrive, and that replicas carry", "hour", "requests/s")
    hours = [hour.hour for hour in day.hours]
    # A rate holds for an hour, so each is drawn as a step.
    steps = np.repeat([*hours, hours[-1] + 1], 2)[1:-1]
    _line(figure, steps, np.repeat([hour.rate for hour in day.hours], 2), "arrive")
    if day.rule:
        carried = [hour.replicas * day.rule.largest_rate for hour in day.hours]
        _line(figure, steps, np.repeat(carried, 2), "within the targets")
    _show(figure)


def _can_draw() -> bool:
    if (sys.stdout.encoding or "").lower().startswith("utf"):
        return True
    sys.stdout.write("no plots: they need a terminal with UTF-8\n")
    return False


def _print_cost_and_speed(plans: Sequence[Plan]) -> None:
    figure = _figure("Cost against speed, one point a plan", "tokens/s per user, mean", "USD/Mtok")
    speeds = [plan.tokens_per_s_per_user or 1.0 / plan.e2e_s for plan in plans]
    costs = [plan.cost_per_million_tokens_usd for plan in plans]
    figure.draw(figure.signal(speeds, costs, marker="o"))
    _show(figure)


def _print_distributions(times: RequestTimes) -> None:
    figure = _figure("TTFT of single requests", "% of requests see at most", "ms")
    _line(figure, PERCENTS, np.percentile(times.ttft_s, PERCENTS) / MILLI)
    _show(figure)
    if len(times.gap_s):
        order = np.argsort(times.gap_s)
        shares = 100 * np.cumsum(times.gap_counts[order]) / times.gap_counts.sum()
        figure = _figure("Gaps between tokens (ITL)", "% of gaps are at most", "ms")
        _line(figure, shares, times.gap_s[order] / MILLI)
        _show(figure)


def _print_timeline(times: RequestTimes) -> None:
    line = times.timeline
    figure = _figure("One replica over time", "s", "requests, cache in %")
    _line(figure, line.time_s, line.running, "running")
    _line(figure, line.time_s, line.waiting, "waiting")
    _line(figure, line.time_s, 100 * line.cache_share, "KV cache, %")
    _show(figure)


def _print_curve(curve: LoadCurve) -> None:
    load = "requests/s" if curve.is_rate else "requests in flight"
    title = f"TTFT against load; lines: knee at {curve.knee:.3g}, asked {curve.asked:.3g} {load}"
    figure = _figure(title, load, "ms")
    _line(figure, curve.load, curve.ttft_p99_s / MILLI, "p99")
    _line(figure, curve.load, curve.ttft_p50_s / MILLI, "p50")
    for load_at in (curve.knee, curve.asked):
        figure.line(load_at, orientation=1)
    _show(figure)


def _figure(title: str, x: str, y: str) -> Any:
    """Return plotext's figure, emptied and titled."""
    import plotext

    # plotext keeps one figure for the whole process.
    figure = plotext.figure
    figure.clear()
    figure.plot_size(min(shutil.get_terminal_size((WIDEST, 0)).columns, WIDEST), ROWS)
    figure.title(title)
    figure.label(x, "x")
    figure.label(y, "y")
    return figure


def _line(figure: Any, x: Any, y: Any, label: str | None = None) -> None:
    signal = figure.signal(np.asarray(x).tolist(), np.asarray(y).tolist())
    signal.lines()
    if label:
        signal.label(label)
    figure.draw(signal)


def _show(figure: Any) -> None:
    """Print the figure, in colours where stdout is a terminal that wants them."""
    is_plain = not sys.stdout.isatty() or "NO_COLOR" in os.environ
    sys.stdout.write("\n" + figure.build().string(colorless=is_plain) + "\n")
