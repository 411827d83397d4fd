"""Writes autoscalers of a plan: KEDA's ScaledObject, or Kubernetes' HorizontalPodAutoscaler.

Both add a replica when requests running and waiting exceed what one of them serves within the
targets, as its replay says, less what comes while the new one loads.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any, Final

from budsim.commons.errors import InvalidInput
from budsim.simulator.rendering.commands import heading
from budsim.simulator.rendering.deployments import Deployment, Group
from budsim.simulator.rendering.pods import Manifest, Workload, part_labels, part_name, workloads
from budsim.simulator.rendering.scaling import DOCUMENT, Scaling
from budsim.simulator.rendering.writing import yaml_text

# Seconds over which a metric is averaged: single bursts start no replica.
WINDOW_S: Final = 60
POLLING_S: Final = 15
# Kubernetes' own default before replicas are removed, and the most it allows.
USUAL_STABLE_S: Final = 300
MOST_STABLE_S: Final = 3600
SECONDS_PER_MINUTE: Final = 60
MINUTES_PER_DAY: Final = 1440
# Name under which the Prometheus adapter is to serve the load of a pod.
POD_METRIC: Final = "inference_requests_in_flight"


def keda(deployment: Deployment) -> str:
    """Return a KEDA ScaledObject for each set of equal replicas.

    It scales by the load, and by the clock before hours of a known day begin.

    Raises
    ------
    InvalidInput
        The document says no scaling, or the replicas are not all alike.
    """
    scaling = _scaling(deployment)
    return yaml_text(
        [
            *_notes(deployment, scaling),
            "needs KEDA 2.10 or newer (keda.sh), and a Prometheus that scrapes the replicas' pods",
        ],
        *(_scaled_object(deployment, scaling, *each) for each in _scaled(deployment)),
    )


def hpa(deployment: Deployment) -> str:
    """Return a HorizontalPodAutoscaler for each set of equal replicas.

    Raises
    ------
    InvalidInput
        As `keda`.
    """
    scaling = _scaling(deployment)
    notes = [*_notes(deployment, scaling), *_adapter_notes(deployment)]
    scaled = (workload for _, workload in _scaled(deployment))
    return yaml_text(notes, *(_autoscaler(deployment, scaling, each) for each in scaled))


def _scaling(deployment: Deployment) -> Scaling:
    if deployment.scaling is None:
        raise InvalidInput("PLAN.scaling", "it does not say when to scale", DOCUMENT)
    return deployment.scaling


def _scaled(deployment: Deployment) -> Iterator[tuple[Group, Workload]]:
    """Yield what is scaled; one threshold fits replicas that are all alike."""
    for group in deployment.groups:
        found = workloads(group)
        if len(found) > 1:
            problem = f"replicas of {group.name} differ in the cores they are bound to"
            raise InvalidInput("PLAN.node_groups", problem, "replicas that are alike")
        yield group, found[0]


def _notes(deployment: Deployment, scaling: Scaling) -> list[str]:
    notes = [
        *heading(deployment),
        f"apply beside the manifests of --format kubernetes; {scaling.min_replicas} to "
        f"{scaling.max_replicas} replicas",
        f"one replica meets its targets up to {scaling.in_flight_per_replica:.1f} requests running "
        f"and waiting ({scaling.requests_per_s_per_replica:.3g} requests/s); the next starts at "
        f"{scaling.in_flight_to_scale_at:.1f}, because it serves {scaling.lead_time_s:.0f} s later",
    ]
    flags = {flag for group in deployment.groups for flag in group.engine.metrics.enabled_by}
    return [*notes, *(f"the engine tells its load with --{flag} only: add it" for flag in flags)]


def _scaled_object(
    deployment: Deployment, scaling: Scaling, group: Group, workload: Workload
) -> Manifest:
    return {
        "apiVersion": "keda.sh/v1alpha1",
        "kind": "ScaledObject",
        "metadata": _metadata(deployment, workload),
        "spec": {
            "scaleTargetRef": _target(deployment, workload),
            "minReplicaCount": scaling.min_replicas,
            "maxReplicaCount": scaling.max_replicas,
            "pollingInterval": POLLING_S,
            "cooldownPeriod": _stable_s(scaling),
            "advanced": {"horizontalPodAutoscalerConfig": {"behavior": _behavior(scaling)}},
            "triggers": [
                {
                    "type": "prometheus",
                    "metricType": "AverageValue",
                    "metadata": {
                        "serverAddress": deployment.metrics.address,
                        "query": _query(deployment, group, workload),
                        "threshold": f"{_threshold(scaling):g}",
                    },
                },
                *_clock_triggers(deployment, scaling),
            ],
        },
    }


def _query(deployment: Deployment, group: Group, workload: Workload) -> str:
    """Return the requests running and waiting on all replicas, averaged over a minute."""
    pods = f'{{pod=~"{part_name(deployment, workload.name)}-.*"}}'
    metrics = group.engine.metrics
    return " + ".join(
        f"sum(avg_over_time({name}{pods}[{WINDOW_S}s]))"
        for name in (metrics.running, metrics.waiting)
    )


def _clock_triggers(deployment: Deployment, scaling: Scaling) -> Iterator[dict[str, Any]]:
    """Yield a trigger for each stretch of hours above the fewest replicas, begun in time.

    KEDA takes the most that any trigger asks for.
    """
    if len(scaling.replicas_by_hour) != 24:
        return
    lead_min = math.ceil(scaling.lead_time_s / SECONDS_PER_MINUTE)
    for first, last, replicas in _stretches(scaling.replicas_by_hour, scaling.min_replicas):
        yield {
            "type": "cron",
            "metadata": {
                "timezone": deployment.metrics.timezone,
                "start": _cron(first * SECONDS_PER_MINUTE - lead_min),
                "end": _cron(last * SECONDS_PER_MINUTE),
                "desiredReplicas": str(replicas),
            },
        }


def _stretches(by_hour: list[int], fewest: int) -> Iterator[tuple[int, int, int]]:
    """Yield hours from, to (excluded) and replicas of each stretch of equal hours.

    Hours 0 to 5 with 1, 6 to 23 with 2 replicas, of which 1 is the fewest: (6, 24, 2).
    """
    first = 0
    for hour in range(1, len(by_hour) + 1):
        if hour == len(by_hour) or by_hour[hour] != by_hour[first]:
            if by_hour[first] > fewest:
                yield first, hour, by_hour[first]
            first = hour


def _cron(minute: int) -> str:
    """Return a minute of the day as a daily cron expression; minutes before 0 are yesterday's."""
    minute %= MINUTES_PER_DAY
    return f"{minute % SECONDS_PER_MINUTE} {minute // SECONDS_PER_MINUTE} * * *"


def _autoscaler(
    deployment: Deployment,
    scaling: Scaling,
    workload: Workload,
) -> Manifest:
    load = f"{round(1000 * _threshold(scaling))}m"
    target = {"type": "AverageValue", "averageValue": load}
    return {
        "apiVersion": "autoscaling/v2",
        "kind": "HorizontalPodAutoscaler",
        "metadata": _metadata(deployment, workload),
        "spec": {
            "scaleTargetRef": _target(deployment, workload),
            "minReplicas": scaling.min_replicas,
            "maxReplicas": scaling.max_replicas,
            "behavior": _behavior(scaling),
            "metrics": [
                {"type": "Pods", "pods": {"metric": {"name": POD_METRIC}, "target": target}}
            ],
        },
    }


def _adapter_notes(deployment: Deployment) -> list[str]:
    """Return the rule by which the Prometheus adapter serves the load of a pod."""
    metrics = deployment.groups[0].engine.metrics
    load = " + ".join(
        f"sum(avg_over_time({name}{{<<.LabelMatchers>>}}[{WINDOW_S}s])) by (<<.GroupBy>>)"
        for name in (metrics.running, metrics.waiting)
    )
    return [
        "needs prometheus-adapter with this rule:",
        f"- seriesQuery: '{metrics.running}'",
        "resources: {overrides: {namespace: {resource: namespace}, pod: {resource: pod}}}",
        f"name: {{as: {POD_METRIC}}}",
        f"metricsQuery: '{load}'",
    ]


def _behavior(scaling: Scaling) -> Manifest:
    """Return how fast replicas come and go.

    A new one is waited for before more are added, and none is removed that will be needed soon.
    """
    period_s = max(1, min(math.ceil(scaling.lead_time_s), 1800))
    most = max(1, scaling.max_replicas - scaling.min_replicas)
    add = [{"type": "Pods", "value": most, "periodSeconds": period_s}]
    remove = [{"type": "Pods", "value": 1, "periodSeconds": SECONDS_PER_MINUTE}]
    return {
        "scaleUp": {"stabilizationWindowSeconds": 0, "policies": add},
        "scaleDown": {"stabilizationWindowSeconds": _stable_s(scaling), "policies": remove},
    }


def _stable_s(scaling: Scaling) -> int:
    return min(max(USUAL_STABLE_S, math.ceil(2 * scaling.lead_time_s)), MOST_STABLE_S)


def _threshold(scaling: Scaling) -> float:
    """Return the load of a replica at which the next is started, rounded down to a tenth."""
    return max(math.floor(10.0 * scaling.in_flight_to_scale_at), 1) / 10.0


def _target(deployment: Deployment, workload: Workload) -> Manifest:
    single = workload.size == 1
    return {
        "apiVersion": "apps/v1" if single else "leaderworkerset.x-k8s.io/v1",
        "kind": "Deployment" if single else "LeaderWorkerSet",
        "name": part_name(deployment, workload.name),
    }


def _metadata(deployment: Deployment, workload: Workload) -> Manifest:
    name = part_name(deployment, workload.name)
    return {"name": name, "labels": part_labels(deployment, workload.name)}
