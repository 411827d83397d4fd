"""What an answer in the terminal adds that was not asked: other names, cheaper checkpoints."""

from __future__ import annotations

from typing import TYPE_CHECKING

from budsim.cli import cells

if TYPE_CHECKING:
    from rich.console import Console

    from budsim.simulator.planning.checkpoint_offers import CheckpointOffer


def print_model_taken(console: Console, asked: str, model_id: str) -> None:
    """Say which model a name was taken for that is not the model's own, and what else it may be."""
    from budsim.model_ops.registry import known_models

    given = asked.strip().lower().rpartition("/")[2]
    if given == model_id.lower().rpartition("/")[2]:
        return
    others = [name for name in known_models() if given in name.lower() and name != model_id]
    told = f"; also known: {', '.join(others[:OTHERS_TOLD])}" if others else ""
    console.print(f"{asked!r} was taken for {model_id}{told}", style="yellow", markup=False)


def print_checkpoint(console: Console, offer: CheckpointOffer) -> None:
    """Say that a quantized checkpoint would meet the targets for less."""
    group, cost = offer.plan.groups[0], offer.plan.cost_per_million_tokens_usd
    saving = f"{offer.cost_share:.0%} of the cost" if offer.cost_share else "which the model misses"
    layout = cells.described(group).split("\n")[0]
    console.print(
        f"a quantized checkpoint of this model exists: {offer.model_id} meets the targets for "
        f"{cells.price(cost)} USD/Mtok ({saving}): {layout}. Test its quality for your task.",
        markup=False,
    )


OTHERS_TOLD = 3
