"""The runs of the service and their state, and what one run recommends."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from budsim.commons.units import MILLI
from budsim.page.charts import number
from budsim.page.html import rendered
from budsim.simulator.storage.records import FINISHED, Run, StoredPlan

PLANS_SHOWN = 20


@dataclass(frozen=True, slots=True, kw_only=True)
class RunRow:
    """One run in words."""

    run_id: str
    status: str
    step: str
    model: str
    traffic: str
    created: str
    age: str
    message: str


@dataclass(frozen=True, slots=True, kw_only=True)
class PlanRow:
    """One stored plan in words."""

    rank: int
    runs: str
    ttft_ms: str
    tokens_per_s_per_user: str
    e2e_s: str
    error: str
    usd_per_million: str


def runs_page(runs: Sequence[Run], *, now_s: float) -> str:
    """Return runs as HTML, in the order given; ``now_s`` is seconds since the epoch."""
    return rendered("runs.html", runs=[_row(run, now_s) for run in runs])


def run_page(run: Run, plans: Sequence[StoredPlan]) -> str:
    """Return one run as HTML: its plans, best first, and the reasons for what is missing."""
    return rendered(
        "run.html",
        run=_row(run, run.written_s),
        plans=[_plan(plan) for plan in plans[:PLANS_SHOWN]],
        reasons=[_reason(reason) for reason in run.reasons],
    )


def _row(run: Run, now_s: float) -> RunRow:
    request = run.request
    created = datetime.fromtimestamp(run.created_s, UTC)
    return RunRow(
        run_id=run.run_id,
        status=run.status.value.lower(),
        step="" if run.status in FINISHED else run.step.value.replace("_", " "),
        model=str(request.get("pretrained_model_uri", "")),
        traffic=_traffic(request),
        created=f"{created:%Y-%m-%d %H:%M:%S} UTC",
        age=_age(now_s - run.created_s),
        message=run.message,
    )


def _traffic(request: Mapping[str, Any]) -> str:
    lengths = f"{request.get('input_tokens', '–')} + {request.get('output_tokens', '–')} tokens"
    if concurrency := request.get("concurrency"):
        return f"{concurrency} in flight, {lengths}"
    return lengths


def _age(seconds: float) -> str:
    """Return a time span in its largest unit: 40 s, 5 min, 3 h, 2 d."""
    for unit, length_s in (("d", 86_400), ("h", 3_600), ("min", 60)):
        if seconds >= length_s:
            return f"{seconds / length_s:.0f} {unit}"
    return f"{max(0.0, seconds):.0f} s"


def _plan(plan: StoredPlan) -> PlanRow:
    return PlanRow(
        rank=plan.rank + 1,
        runs=" + ".join(_group(group.document) for group in plan.groups),
        ttft_ms=_known(plan.ttft_s, 1 / MILLI),
        tokens_per_s_per_user=_known(plan.tokens_per_s_per_user),
        e2e_s=_known(plan.e2e_s),
        error=f"{plan.error_rate:.0%}",
        usd_per_million=number(plan.cost_per_million_tokens_usd),
    )


def _group(document: Mapping[str, Any]) -> str:
    device = document.get("device_name") or document.get("name") or document.get("type")
    pipeline = f" pp{document['pp_size']}" if document.get("pp_size", 1) > 1 else ""
    return f"{document['replicas']} x {device} tp{document['tp_size']}{pipeline}"


def _reason(reason: Mapping[str, Any]) -> tuple[str, str]:
    return str(reason.get("subject", "")), str(reason.get("reason", ""))


def _known(value: float | None, factor: float = 1.0) -> str:
    return "–" if value is None else number(value * factor)
