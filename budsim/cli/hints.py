"""What an answer in the terminal adds that was not asked: other names, cheaper checkpoints."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from budsim.cli import cells
from budsim.engine_ops.llmc import job_for
from budsim.model_ops.quantized_checkpoints import published_in
from budsim.model_ops.registry import known_models

if TYPE_CHECKING:
    from rich.console import Console

    from budsim.model_ops.architecture import Architecture
    from budsim.simulator.planning.checkpoint_offers import CheckpointOffer
    from budsim.simulator.planning.plans import ReplicaGroup


def print_model_taken(console: Console, asked: str, model_id: str) -> None:
    """Say which model a name was taken for that is not the model's own, and what else it may be."""
    given = asked.strip().lower().rpartition("/")[2]
    if given == model_id.lower().rpartition("/")[2]:
        return
    others = [name for name in known_models() if given in name.lower() and name != model_id]
    told = f"; also known: {', '.join(others[:OTHERS_TOLD])}" if others else ""
    console.print(f"{asked!r} was taken for {model_id}{told}", style="yellow", markup=False)


def print_guesses(console: Console, group: ReplicaGroup) -> None:
    """Say how many tokens a group's guesses yield, and who published that."""
    way = group.speculation
    if way is None:
        return
    low, high = (max(way.tokens_per_step * math.exp(s), 1.0) for s in (-way.spread, way.spread))
    console.print(
        f"guesses: {way.draft_tokens} a step yield {way.tokens_per_step:.2f} tokens "
        f"({low:.2f} to {min(high, way.draft_tokens + 1.0):.2f}); {way.source}",
        markup=False,
    )


def print_checkpoint(console: Console, offer: CheckpointOffer) -> None:
    """Say that a quantized checkpoint would meet the targets for less."""
    cost = offer.plan.cost_per_million_tokens_usd
    layout = " + ".join(cells.described(group).split("\n")[0] for group in offer.plan.groups)
    console.print(
        f"a quantized checkpoint of this model exists: {offer.model_id} {offer.does} "
        f"{cells.price(cost)} USD/Mtok ({offer.saving}): {layout}. Test its quality for your task.",
        markup=False,
    )


def print_quantization(console: Console, architecture: Architecture, group: ReplicaGroup) -> None:
    """Say how the weights a group loads are made where no such checkpoint is published."""
    config = group.config
    job = job_for(architecture, config.weight_precision, config.device)
    if job is None:
        return
    minutes = max(1, round(job.hours * MINUTES_PER_HOUR))
    console.print(
        f"first: quantize. {group.launch.model} does not exist yet; LLM Compressor makes it of "
        f"{architecture.model_id} ({job.method}, {job.scheme}) in about {minutes} min on one "
        f"{config.device.name}. budsim render PLAN.json --format recipe writes the recipe "
        "(--json writes PLAN.json).",
        markup=False,
    )
    published = published_in(architecture, config.weight_precision)
    if published:
        console.print(
            f"or load a checkpoint published in {config.weight_precision}, with no such step: "
            f"--model {published}",
            markup=False,
        )


OTHERS_TOLD = 3
MINUTES_PER_HOUR = 60
