"""Prometheus alert rules from a plan: what is measured leaves the range that was predicted."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from budsim.commons.errors import InvalidInput
from budsim.simulator.rendering.deployments import Deployment, Group
from budsim.simulator.rendering.pods import Manifest, part_labels, part_name
from budsim.simulator.rendering.stacks.shared import notes_of
from budsim.simulator.rendering.writing import yaml_text

# Long enough for a percentile of a quiet service, short enough for somebody to act.
WINDOW: Final = "10m"
LASTS: Final = "15m"
# Share of the KV cache from which requests are soon preempted: our choice.
FULL_CACHE: Final = 0.95


@dataclass(frozen=True, slots=True, kw_only=True)
class _Promise:
    """A predicted figure: its histogram, its percentile or the mean, and its range in seconds."""

    name: str
    histogram: str
    percent: int | None
    low_s: float
    high_s: float

    def expression(self, model: str) -> str:
        """Return what is measured of it, for all replicas together."""
        by = f"{{{model}}}[{WINDOW}]"
        if self.percent is None:
            return f"sum(rate({self.histogram}_sum{by})) / sum(rate({self.histogram}_count{by}))"
        buckets = f"sum by (le) (rate({self.histogram}_bucket{by}))"
        return f"histogram_quantile({self.percent / 100:g}, {buckets})"


def alerts(deployment: Deployment) -> str:
    """Return a `PrometheusRule` (monitoring.coreos.com/v1) for all groups of a plan.

    A latency above its predicted range is a warning; one below it is worth knowing, because the
    plan is larger than it has to be. Groups whose document has no ranges are refused.

    Raises
    ------
    InvalidInput
        The plan runs at a provider, or its document has no predicted ranges.
    """
    if not deployment.groups:
        problem = "alerts watch an engine's own metrics, and the model runs at its provider"
        raise InvalidInput("format", problem, "litellm, or another plan")
    groups = [
        {"name": part_name(deployment, group.name), "rules": list(_rules(group))}
        for group in deployment.groups
    ]
    switches = {
        f"--{flag}" for group in deployment.groups for flag in group.engine.metrics.enabled_by
    }
    notes = notes_of(
        deployment,
        "apply: kubectl apply -f FILE, where the Prometheus operator watches this namespace",
        *(f"the engine exports nothing without {flag}: start it with that" for flag in switches),
    )
    rule = {
        "apiVersion": "monitoring.coreos.com/v1",
        "kind": "PrometheusRule",
        "metadata": {
            "name": part_name(deployment, "promises"),
            "labels": part_labels(deployment, "promises"),
        },
        "spec": {"groups": groups},
    }
    return yaml_text(notes, rule)


def _rules(group: Group) -> Iterator[Manifest]:
    served = group.launch.args.get("served-model-name", group.launch.model)
    model = f'{group.engine.metrics.model_label}="{served}"'
    found = list(_promises(group))
    if not found:
        problem = f"the document has no predicted ranges of {group.name}"
        raise InvalidInput("PLAN.node_groups.confidence", problem, "a plan that budsim predicted")
    for each in found:
        measured = each.expression(model)
        above, below = f"{measured} > {each.high_s:.4g}", f"{measured} < {each.low_s:.4g}"
        yield _rule(f"{each.name}AbovePrediction", above, "warning", each)
        yield _rule(f"{each.name}BelowPrediction", below, "info", each)
    usage = f"max({group.engine.metrics.cache_usage}{{{model}}}) > {FULL_CACHE}"
    yield {
        "alert": "KvCacheNearlyFull",
        "expr": usage,
        "for": LASTS,
        "labels": {"severity": "warning", "configuration": group.config_id},
        "annotations": {"summary": "requests are about to be preempted: the KV cache is full"},
    }


def _rule(name: str, expression: str, severity: str, promise: _Promise) -> Manifest:
    which = f"p{promise.percent}" if promise.percent else "mean"
    told = f"{which}, predicted from {promise.low_s:.4g} to {promise.high_s:.4g} s"
    return {
        "alert": name,
        "expr": expression,
        "for": LASTS,
        "labels": {"severity": severity},
        "annotations": {"summary": f"{promise.name} ({told}) is measured as {{{{ $value }}}} s"},
    }


def _promises(group: Group) -> Iterator[_Promise]:
    """Yield the predicted figures: means, and the 99th percentile where requests were replayed."""
    metrics = group.engine.metrics
    for name, latency, histogram in (
        ("Ttft", "ttft", metrics.ttft),
        ("EndToEnd", "e2e", metrics.e2e),
    ):
        found = group.promised.get(latency)
        if found is None:
            continue
        yield _Promise(
            name=name, histogram=histogram, percent=None, low_s=found.low_s, high_s=found.high_s
        )
        if found.p99_s:
            # The range of a percentile is taken to be as wide, in proportion, as the mean's.
            factor = found.p99_s / found.mean_s
            yield _Promise(
                name=f"{name}P99",
                histogram=histogram,
                percent=99,
                low_s=found.low_s * factor,
                high_s=found.high_s * factor,
            )
