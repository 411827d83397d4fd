"""`budsim render`: the commands and files that start a plan."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from budsim.cli.files import read_plan
from budsim.engine_ops.limits import DEFAULT_MAX_LORA_RANK

Plan = Annotated[
    Path, typer.Argument(help="What `budsim simulate --json` printed; - reads it from stdin.")
]
Form = Annotated[
    str,
    typer.Option(
        "--format",
        help="command, compose, kubernetes, litellm, recipe (of LLM Compressor), kserve, "
        "kserve-llm, llm-d, dynamo, production-stack, ray-serve, aibrix or alerts (of "
        "Prometheus); of a day also keda or hpa, its autoscalers.",
    ),
]
Number = Annotated[int, typer.Option("--number", "-n", min=1, help="Which plan, best first.")]
Fallback = Annotated[
    list[str] | None,
    typer.Option(help="A provider's model that LiteLLM tries when all replicas fail."),
]
Loras = Annotated[
    int, typer.Option(min=0, max=1024, help="LoRA adapters that each replica serves at once.")
]
Prometheus = Annotated[
    str, typer.Option(help="Address of the Prometheus that KEDA asks.", metavar="URL")
]
Timezone = Annotated[
    str, typer.Option(help="Time zone of the day's hours, for KEDA.", metavar="ZONE")
]
Claim = Annotated[
    str, typer.Option(help="PersistentVolumeClaim that keeps weights (Kubernetes formats).")
]
LoraRank = Annotated[int, typer.Option(min=1, max=512, help="Highest rank of these adapters.")]


def render(
    plan: Plan,
    *,
    form: Form,
    number: Number = 1,
    fallback: Fallback = None,
    max_loras: Loras = 0,
    max_lora_rank: LoraRank = DEFAULT_MAX_LORA_RANK,
    weights_claim: Claim = "",
    prometheus: Prometheus = "http://prometheus-server.monitoring.svc:9090",
    timezone: Timezone = "Etc/UTC",
) -> None:
    """Print what starts a plan: commands, compose, Kubernetes, LiteLLM, or another stack."""
    from budsim.simulator.rendering import Additions, Metrics
    from budsim.simulator.rendering import render as rendered

    additions = Additions(
        fallbacks=tuple(fallback or ()),
        max_loras=max_loras,
        max_lora_rank=max_lora_rank,
        weights_claim=weights_claim,
        metrics=Metrics(address=prometheus, timezone=timezone),
    )
    sys.stdout.write(rendered(read_plan(plan), form, number=number, additions=additions))
