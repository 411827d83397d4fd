"""Closed form and replay side by side against measured rows: physics only, nothing learned.

    python scripts/validate_replay.py MEASUREMENTS.csv [--rows 400] [--markdown FILE]

For each source and engine: the median absolute error of means and percentiles, the bias of the
replay, and which share of pairs of configurations is ordered right by the p99 of TTFT. Clients are
those of `measured/catalog/protocols.yaml`. Rows that speculate or whose layout is ambiguous are
left out, and so are disaggregated ones.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from pathlib import Path
from time import perf_counter

import numpy as np
import pandas as pd

from budsim.performance.measured.clients import client_traffic
from budsim.performance.measured.measurements import Measurements, read_measurements
from budsim.performance.measured.open_loop import settle
from budsim.performance.measured.tables import read_tables
from budsim.performance.physics.memory import memory_use
from budsim.performance.physics.ranks import prepare
from budsim.performance.serving.replay import replay
from budsim.performance.serving.steady_state import steady_state

LEFT_OUT = "mtp|speculative|ambiguous"
"""Words in a row's notes that say its configuration is not what its columns say."""
COLUMNS = {
    "TTFT mean": ("ttft_ms_mean", "ttft_s", "mean"),
    "TTFT p50": ("ttft_ms_p50", "ttft_s", "p50"),
    "TTFT p99": ("ttft_ms_p99", "ttft_s", "p99"),
    "TPOT mean": ("tpot_ms_mean", "tpot_s", "mean"),
    "TPOT p50": ("tpot_ms_p50", "tpot_s", "p50"),
    "TPOT p99": ("tpot_ms_p99", "tpot_s", "p99"),
    "E2E mean": ("e2e_latency_ms", "e2e_s", "mean"),
    "E2E p50": ("e2e_ms_p50", "e2e_s", "p50"),
    "E2E p99": ("e2e_ms_p99", "e2e_s", "p99"),
}
"""Figure -> column of the table, field of the service, and percentile."""
LEAST_ROWS = 5
"""Groups of fewer rows are not shown."""
CLEAR_DIFFERENCE = 1.2
"""Two configurations differ when their measured p99 of TTFT differ by this factor."""


def main() -> None:
    """Read, predict both ways, and print."""
    arguments = _arguments()
    table = read_tables([arguments.table])
    kept = table["mode"].eq("serving") & ~table.notes.str.contains(LEFT_OUT, case=False)
    measured = read_measurements(_sampled(table[kept], arguments.rows))
    started = perf_counter()
    errors = _errors(settle(measured))
    seconds = perf_counter() - started
    report = "\n".join(_report(errors))
    print(f"{len(measured)} rows in {seconds:.1f} s\n\n{report}")
    if arguments.markdown:
        arguments.markdown.write_text(report + "\n", encoding="utf-8")


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("table", type=Path, help="rows with the columns of measurements.csv")
    parser.add_argument("--rows", type=int, default=400, help="at most so many of each source")
    parser.add_argument("--markdown", type=Path, help="write the tables to this file")
    return parser.parse_args()


def _sampled(table: pd.DataFrame, rows: int) -> pd.DataFrame:
    drawn = table.sample(frac=1.0, random_state=0).groupby("source").head(rows)
    return drawn.sort_index().reset_index(drop=True)


def _errors(measured: Measurements) -> pd.DataFrame:
    """Return log(predicted / measured) of every figure, one row each; nan where not measured."""
    candidates = measured.candidates
    ranks = prepare(candidates)
    memory = memory_use(ranks)
    steady = steady_state(ranks, memory)
    service = replay(candidates, memory, client_traffic(measured), finite=True)
    table = measured.table.iloc[measured.rows].reset_index(drop=True)
    e2e = steady.ttft_s + np.maximum(candidates.output_tokens - 1.0, 0.0) * steady.tpot_s
    closed = {"TTFT": steady.ttft_s, "TPOT": steady.tpot_s, "E2E": e2e}
    found = {"source": table.source, "engine": table.engine}
    for name, (column, field, percentile) in COLUMNS.items():
        truth = pd.to_numeric(table[column], errors="coerce").to_numpy() / 1e3
        truth = np.where(truth > 0.0, truth, np.nan)
        replayed = getattr(getattr(service, field), percentile)
        with np.errstate(invalid="ignore", divide="ignore"):
            found[name] = np.log(replayed / truth)
            if percentile != "p99":
                found[f"{name}, closed form"] = np.log(closed[name.split()[0]] / truth)
        if name == "TTFT p99":
            found["measured p99"], found["replayed p99"] = truth, replayed
    lengths = [table[name] for name in ("input_tokens", "output_tokens")]
    return pd.DataFrame({**found, "lengths": lengths[0] + "/" + lengths[1]})


def _report(errors: pd.DataFrame) -> Iterator[str]:
    """Yield a table in Markdown: closed form / replay (bias of the replay), in percent."""
    yield "| source, engine | rows | " + " | ".join(COLUMNS) + " |"
    yield "|---|---|" + "---|" * len(COLUMNS)
    groups = [*errors.groupby(["source", "engine"]), (("all", ""), errors)]
    for (source, engine), group in groups:
        if len(group) >= LEAST_ROWS:
            cells = " | ".join(_cell(group, name) for name in COLUMNS)
            yield f"| {source} {engine} | {len(group)} | {cells} |"
    yield ""
    right, pairs = _ordered(errors)
    yield (
        f"Pairs whose measured p99 TTFT differ by 20 % or more: {right:.1%} of {pairs:,} in order."
    )


def _cell(group: pd.DataFrame, name: str) -> str:
    replayed = group[name].dropna()
    if len(replayed) < LEAST_ROWS:
        return ""
    closed = group.get(f"{name}, closed form")
    before = f"{_percent(closed.abs().median()):.0f} / " if closed is not None else ""
    error, bias = _percent(replayed.abs().median()), _percent(replayed.median())
    return f"{before}**{error:.0f}** ({bias:+.0f})"


def _percent(logarithm: float) -> float:
    return float(np.expm1(logarithm) * 100.0)


def _ordered(errors: pd.DataFrame) -> tuple[float, int]:
    """Return the share of pairs of one source and lengths that the replay orders right."""
    right = pairs = 0
    for _, group in errors.groupby(["source", "lengths"]):
        known = group.dropna(subset=["measured p99", "replayed p99"])
        truth = np.log(known["measured p99"].to_numpy())
        guess = np.log(known["replayed p99"].to_numpy())
        differs = truth[:, None] - truth[None, :] > np.log(CLEAR_DIFFERENCE)
        right += int((differs & (guess[:, None] > guess[None, :])).sum())
        pairs += int(differs.sum())
    return right / max(pairs, 1), pairs


if __name__ == "__main__":
    main()
