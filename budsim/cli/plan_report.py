"""One HTML file about an answer: plots and tables that need nothing else."""

from __future__ import annotations

import io
from html import escape
from typing import TYPE_CHECKING, Any

import numpy as np

from budsim.commons.errors import InvalidInput
from budsim.commons.units import MILLI

if TYPE_CHECKING:
    from budsim.api.answers import Simulation
    from budsim.simulator.planning.replay_curves import LoadCurve, PlanReplay, RequestTimes

STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; color: #1a1a1a; max-width: 1100px; margin: 2rem auto }
body { padding: 0 1rem } table { border-collapse: collapse; font-size: 13px }
th, td { padding: .2rem .6rem; border-bottom: 1px solid #ddd; text-align: left }
svg { max-width: 100%; height: auto }
"""
# Inches of a plot.
SIZE = (8.0, 3.4)


def report_page(found: Simulation, replay: PlanReplay) -> str:
    """Return the page: the plans, and what single requests of the best one see.

    Raises
    ------
    InvalidInput
        matplotlib is not installed.
    """
    plots = [_cost_and_speed(found)]
    if replay.times:
        plots += [_distributions(replay.times), _timeline(replay.times)]
    if replay.curve:
        plots.append(_curve(replay.curve))
    model = escape(found.question.architecture.model_id)
    return (
        f"<!doctype html><html lang=en><meta charset=utf-8><title>budsim: {model}</title>"
        f"<style>{STYLE}</style><h1>{model}</h1>{found._repr_html_()}{''.join(plots)}</html>\n"
    )


def _cost_and_speed(found: Simulation) -> str:
    figure, axes = _axes("Cost against speed, with the range of 90 % of measured means")
    for plan, row in zip(found.plans, found.rows(), strict=True):
        speed = row.get("tokens_per_s_per_user") or row["requests_per_s"]
        name = "tokens_per_s_per_user" if "tokens_per_s_per_user" in row else "requests_per_s"
        low, high = (row.get(f"{name}_{end}90", speed) for end in ("low", "high"))
        ends = [[speed - low], [high - speed]]
        colour = "tab:blue" if plan.meets_targets else "tab:red"
        axes.errorbar(speed, row["usd_per_million_tokens"], xerr=ends, fmt="o", color=colour)
    axes.set(xlabel="tokens/s per user, mean (red: misses the targets)", ylabel="USD/Mtok")
    axes.set(xscale="log", yscale="log")
    return _svg(figure)


def _distributions(times: RequestTimes) -> str:
    figure, axes = _axes("What single requests of one replica see")
    share = np.linspace(0, 100, len(times.ttft_s))
    axes.plot(times.ttft_s / MILLI, share, label="TTFT, % of requests")
    order = np.argsort(times.gap_s)
    if len(order):
        gaps = 100 * np.cumsum(times.gap_counts[order]) / times.gap_counts.sum()
        axes.plot(times.gap_s[order] / MILLI, gaps, label="gap between tokens, % of gaps")
    axes.set(xlabel="ms at most", ylabel="%", xscale="log")
    axes.legend()
    return _svg(figure)


def _timeline(times: RequestTimes) -> str:
    line = times.timeline
    figure, axes = _axes("One replica over time")
    axes.plot(line.time_s, line.running, label="running requests")
    axes.plot(line.time_s, line.waiting, label="waiting requests")
    axes.plot(line.time_s, 100 * line.cache_share, label="KV cache in use, %", alpha=0.6)
    axes.set(xlabel="s")
    axes.legend()
    return _svg(figure)


def _curve(curve: LoadCurve) -> str:
    load = "requests/s" if curve.is_rate else "requests in flight"
    figure, axes = _axes(f"TTFT against load; knee at {curve.knee:.3g} {load}")
    axes.plot(curve.load, curve.ttft_p99_s / MILLI, marker="o", label="p99")
    axes.plot(curve.load, curve.ttft_p50_s / MILLI, marker="o", label="p50")
    axes.axvline(curve.knee, linestyle=":", color="0.3", label="knee")
    axes.axvline(curve.asked, linestyle="--", color="0.3", label="asked")
    axes.set(xlabel=load, ylabel="TTFT, ms", yscale="log")
    axes.legend()
    return _svg(figure)


def _axes(title: str) -> tuple[Any, Any]:
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise InvalidInput(
            "--report", "needs matplotlib", "pip install 'budsim[report]'"
        ) from error
    figure = Figure(figsize=SIZE, layout="constrained")
    axes = figure.subplots()
    axes.set_title(title, fontsize=11)
    axes.grid(visible=True, alpha=0.25)
    return figure, axes


def _svg(figure: Any) -> str:
    """Return a figure as inline SVG, without the XML head."""
    written = io.StringIO()
    figure.savefig(written, format="svg", metadata={"Date": None})
    text = written.getvalue()
    return f"<div>{text[text.index('<svg') :]}</div>"
