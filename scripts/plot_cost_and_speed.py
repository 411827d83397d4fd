"""Draws the README's picture: cost against speed of the demo's plans, with the range of each.

Run it as `python scripts/plot_cost_and_speed.py`; it writes docs/images/cost-against-speed.svg.
"""

from __future__ import annotations

from pathlib import Path

import matplotlib as mpl
import matplotlib.pyplot as plt

import budsim

PICTURE = Path("docs/images/cost-against-speed.svg")
TARGET_TOKENS_PER_S = 20.0
COLOURS = {"H100-SXM": "#1b6ca8", "Gaudi3": "#c8553d", "Xeon": "#5f7a3a"}


def main() -> None:
    """Ask the demo's question and draw its plans."""
    found = budsim.simulate(
        model="meta-llama/Llama-3.1-70B-Instruct",
        cluster="docs/examples/demo-cluster.yaml",
        traffic=budsim.Traffic.closed(concurrency=64, input_tokens=2048, output_tokens=512),
        targets=budsim.Targets(ttft_s=2.0, tokens_per_s_per_user=TARGET_TOKENS_PER_S),
    )
    # A fixed salt and no date: the same plans give the same bytes.
    mpl.rcParams.update({"svg.hashsalt": "budsim", "font.size": 10, "svg.fonttype": "path"})
    figure, axes = plt.subplots(figsize=(8.0, 4.5))
    table = found.to_pandas()
    for device, colour in COLOURS.items():
        _draw(axes, table[table.runs.str.contains(device)], device, colour)
    axes.axvline(TARGET_TOKENS_PER_S, linestyle="--", color="0.4", linewidth=1)
    axes.text(TARGET_TOKENS_PER_S * 1.03, 14.0, "target: 20", color="0.3", fontsize=8, va="top")
    axes.set(xscale="log", yscale="log", ylim=(1.4, 15.0))
    axes.set_xlabel("output tokens/s of one user (mean; bar: range of 90 % of measured means)")
    axes.set_ylabel("USD per million output tokens")
    axes.set_title("Llama-3.1-70B, 64 requests in flight of 2048 + 512 tokens", fontsize=11)
    axes.grid(visible=True, which="both", alpha=0.2)
    axes.set_xticks([1, 2, 5, 10, 20, 50, 100])
    axes.set_yticks([2, 3, 5, 10])
    for scale in (axes.xaxis, axes.yaxis):
        scale.set_major_formatter("{x:g}")
        scale.set_minor_formatter("")
    axes.legend(frameon=False, loc="lower left")
    figure.tight_layout()
    PICTURE.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(PICTURE, metadata={"Date": None})


def _draw(axes, plans, device, colour) -> None:  # noqa: ANN001 - matplotlib and pandas
    if plans.empty:
        return
    speed = plans.tokens_per_s_per_user
    ranges = (
        speed - plans.tokens_per_s_per_user_low90,
        plans.tokens_per_s_per_user_high90 - speed,
    )
    axes.errorbar(
        speed,
        plans.usd_per_million_tokens,
        xerr=ranges,
        fmt="o",
        color=colour,
        label=device,
        capsize=3,
        markersize=6,
        elinewidth=1.2,
        alpha=0.9,
    )
    for plan in plans[plans.is_knee].itertuples():
        axes.annotate(
            "knee: " + plan.runs.split(" (")[0],
            (plan.tokens_per_s_per_user, plan.usd_per_million_tokens),
            xytext=(8, -12),
            textcoords="offset points",
            fontsize=8,
        )


if __name__ == "__main__":
    main()
