"""Compares our first plans with the layouts that the field's guides run.

A question is won where the guide's layout is among our first three plans, or where ours carries the
same traffic within the same targets for less. Guides and layouts are in
``tests/benchmarks/expert_questions.yaml``.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import yaml

from budsim.hardware_ops.cluster import Cluster, DeviceLabel, DevicePool, Node
from budsim.hardware_ops.device_names import find_device
from budsim.model_ops.registry import resolve_model
from budsim.performance.predictor import Predictor, load_predictor
from budsim.performance.traffic import Traffic
from budsim.simulator.planning.answer import answer
from budsim.simulator.planning.plans import Plan
from budsim.simulator.planning.question import ParallelLayout, Question
from budsim.simulator.planning.targets import PercentileTarget, Targets

QUESTIONS = Path(__file__).parents[1] / "tests/benchmarks/expert_questions.yaml"
FIRST = 3
# Replay decides: 95 of 100 requests see their first token within so many times the mean allowed.
WORST_TTFT = 3.0


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """What a guide runs, what we answer, and who is right by our own replay."""

    name: str
    expert: str
    ours: Sequence[str]
    outcome: str
    reason: str

    @property
    def is_won(self) -> bool:
        """Whether the guide's layout is among ours, or ours is cheaper."""
        return self.outcome in {"among our first three", "ours is cheaper"}


def question_of(entry: Mapping[str, Any]) -> Question:
    """Return the question of one entry of the table."""
    traffic, targets = entry["traffic"], entry["targets"]
    worst = PercentileTarget.named("ttft_p95_s", WORST_TTFT * targets["ttft_s"])
    return Question(
        architecture=resolve_model(entry["model"]),
        traffic=Traffic.closed(**traffic),
        targets=Targets(**targets, percentiles=(worst,)),
        clusters=(_cluster(**entry["devices"]),),
    )


def _cluster(*, device: str, per_node: int, nodes: int) -> Cluster:
    found = find_device(device)
    assert found is not None, device
    label = DeviceLabel(
        name=device, raw_name=device, device_model=device, wire_type=str(found.kind)
    )
    pool = DevicePool(
        device=found,
        label=label,
        total=per_node,
        available=per_node,
        memory_free_bytes=found.memory_bytes,
    )
    made = (Node(node_id=f"n{at}", name=f"n{at}", pools=(pool,)) for at in range(nodes))
    return Cluster(cluster_id="experts", name="experts", nodes=tuple(made))


def matches(plan: Plan, expert: Mapping[str, Any]) -> bool:
    """Return whether a plan's replicas are laid out as the guide's."""
    sizes = expert["tp"] if isinstance(expert["tp"], list) else [expert["tp"]]
    attention = expert.get("attention")
    config = plan.groups[0].config
    is_split = config.dp > 1
    return (
        len(plan.groups) == 1
        and config.tp in sizes
        and config.pp == expert.get("pp", 1)
        and attention in (None, "dp" if is_split else "tp")
    )


def judged(entry: Mapping[str, Any], predictor: Predictor) -> Verdict:
    """Return the verdict on one question."""
    question, expert = question_of(entry), entry["expert"]
    plans = answer(question, predictor).plans
    ours = [_text(plan) for plan in plans[:FIRST]]
    theirs = f"tp{expert['tp']} pp{expert.get('pp', 1)} {expert.get('attention', '')}".strip()
    if any(matches(plan, expert) for plan in plans[:FIRST]):
        return Verdict(name=entry["id"], expert=theirs, ours=ours, outcome="among our first three",
                       reason="")  # fmt: skip
    best, own = plans[0] if plans else None, _experts_plan(question, expert, predictor)
    outcome, reason = _compared(best, own)
    return Verdict(name=entry["id"], expert=theirs, ours=ours, outcome=outcome, reason=reason)


def _experts_plan(
    question: Question, expert: Mapping[str, Any], predictor: Predictor
) -> Plan | None:
    """Return the best plan in a layout of the guide's, or None where there is none."""
    sizes = expert["tp"] if isinstance(expert["tp"], list) else [expert["tp"]]
    found = []
    for tp in sizes:
        layout = ParallelLayout(tp=tp, pp=expert.get("pp", 1))
        plans = answer(replace(question, layout=layout), predictor).plans
        found += [plan for plan in plans if matches(plan, expert)][:1]
    return min(found, key=lambda plan: (plan.shortfall, _cost(plan)), default=None)


def _compared(ours: Plan | None, theirs: Plan | None) -> tuple[str, str]:
    """Return who is better, and why."""
    if ours is None:
        return "no plan of ours", "nothing fits"
    if theirs is None:
        return "not offered", "the guide's layout is not in our search"
    if ours.meets_targets and not theirs.meets_targets:
        return "ours is cheaper", f"theirs meets the targets with {theirs.chance:.0%} only"
    if ours.meets_targets and _cost(ours) < _cost(theirs):
        share = _cost(ours) / _cost(theirs)
        return "ours is cheaper", f"{_text(ours)} costs {share:.0%} of {_text(theirs)}"
    return (
        "theirs is as good",
        f"{_text(ours)} {_cost(ours):.2f}, {_text(theirs)} {_cost(theirs):.2f}",
    )


def _cost(plan: Plan) -> float:
    return plan.cost_per_million_tokens_usd


def _text(plan: Plan) -> str:
    return " + ".join(
        f"{group.replicas} x tp{group.config.tp} pp{group.config.pp}"
        + (f" ep{group.config.ep}" if group.config.ep > 1 else "")
        + (f" attn-dp{group.config.dp}" if group.config.dp > 1 else "")
        + f" {group.engine} {plan.chance:.0%}"
        for group in plan.groups
    )


def main() -> None:
    """Print a verdict for each question, and how many were won."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", nargs="*", help="ids of questions")
    chosen = parser.parse_args().only
    entries = yaml.safe_load(QUESTIONS.read_text())["questions"]
    predictor, won, asked = load_predictor(), 0, 0
    for entry in entries:
        if chosen and entry["id"] not in chosen:
            continue
        verdict = judged(entry, predictor)
        asked, won = asked + 1, won + verdict.is_won
        print(f"{verdict.name}: guide {verdict.expert}; {verdict.outcome}. {verdict.reason}")
        print(f"    ours: {'; '.join(verdict.ours) or 'none'}", flush=True)
    print(f"{won} of {asked}")


if __name__ == "__main__":
    main()
