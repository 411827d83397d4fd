"""Routers as Kubernetes manifests: LiteLLM's proxy before whole replicas, or that of pools."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence

from budsim.engine_ops.base import PoolRole, RouteTarget
from budsim.engine_ops.pool_router import STARTUP_S
from budsim.simulator.rendering.deployments import Deployment, Group
from budsim.simulator.rendering.pods import PROBE_PERIOD_S, Manifest, part_labels, part_name
from budsim.simulator.rendering.routing import PROXY_IMAGE, PROXY_PORT, proxy_config
from budsim.simulator.rendering.writing import yaml_text


def proxy_router(deployment: Deployment, targets: Iterable[RouteTarget]) -> Iterator[Manifest]:
    """Yield the proxy, which spreads requests over the groups' Services by their speed."""
    name = part_name(deployment, "router")
    config = yaml_text((), proxy_config(deployment, targets))
    # Engines ask for no key unless told to. A Secret of the router's name overrides this key and
    # holds those of providers.
    yield {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": metadata(deployment, "router"),
        "data": {
            "BUDSIM_REPLICA_API_KEY": "none",
            "LITELLM_LOCAL_MODEL_COST_MAP": "True",
            "config.yaml": config,
        },
    }
    spec = {
        "containers": [_proxy_container(name)],
        "volumes": [
            {
                "name": "config",
                "configMap": {
                    "name": name,
                    "items": [{"key": "config.yaml", "path": "config.yaml"}],
                },
            }
        ],
    }
    yield _deployment(deployment, spec)
    yield service(deployment, "router", "router", PROXY_PORT)


def pool_router(
    deployment: Deployment, addresses: Mapping[PoolRole, Sequence[str]]
) -> Iterator[Manifest]:
    """Yield the router before both pools; it listens as soon as the workers answer."""
    router = deployment.pool_router
    container = {
        "name": "router",
        "image": router.image,
        "command": list(router.command(addresses[PoolRole.PREFILL], addresses[PoolRole.DECODE])),
        "ports": [{"name": "http", "containerPort": router.port}],
        "resources": {"requests": {"cpu": "1", "memory": "1Gi"}, "limits": {"memory": "4Gi"}},
        "startupProbe": _probe("/liveness", failures=math.ceil(STARTUP_S / PROBE_PERIOD_S)),
        "readinessProbe": _probe("/readiness"),
        "livenessProbe": _probe("/liveness"),
    }
    yield _deployment(deployment, {"enableServiceLinks": False, "containers": [container]})
    yield service(deployment, "router", "router", router.port)


def _probe(path: str, failures: int = 6) -> Manifest:
    """Return an HTTP probe of a router."""
    return {
        "httpGet": {"path": path, "port": "http"},
        "periodSeconds": PROBE_PERIOD_S,
        "failureThreshold": failures,
    }


def _deployment(deployment: Deployment, spec: Manifest) -> Manifest:
    """Return the only pod of a router as a Deployment."""
    labels = part_labels(deployment, "router")
    template = {"metadata": {"labels": {**labels, "budsim/answers": "router"}}, "spec": spec}
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": metadata(deployment, "router"),
        "spec": {"replicas": 1, "selector": {"matchLabels": labels}, "template": template},
    }


def _proxy_container(name: str) -> Manifest:
    return {
        "name": "litellm",
        "image": PROXY_IMAGE,
        "args": ["--config", "/etc/litellm/config.yaml", "--port", str(PROXY_PORT)],
        "envFrom": [
            {"configMapRef": {"name": name}},
            {"secretRef": {"name": name, "optional": True}},
        ],
        "ports": [{"name": "http", "containerPort": PROXY_PORT}],
        "resources": {"requests": {"cpu": "1", "memory": "1Gi"}, "limits": {"memory": "2Gi"}},
        "readinessProbe": _probe("/health/readiness"),
        "livenessProbe": _probe("/health/liveliness"),
        "volumeMounts": [{"name": "config", "mountPath": "/etc/litellm"}],
    }


def service(deployment: Deployment, part: str, name: str, port: int) -> Manifest:
    """Return a Service before the pods that answer for a part."""
    selector = {"app.kubernetes.io/instance": deployment.slug, "budsim/answers": part}
    ports = [{"name": "http", "port": port, "targetPort": "http"}]
    spec = {"selector": selector, "ports": ports}
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": metadata(deployment, name),
        "spec": spec,
    }


def metadata(deployment: Deployment, name: str, group: Group | None = None) -> Manifest:
    """Return the name and labels of a part, with the configuration of a group."""
    found: Manifest = {
        "name": part_name(deployment, name),
        "labels": part_labels(deployment, name),
    }
    if group:
        found["annotations"] = {
            "budsim/configuration": group.config_id,
            "budsim/device": group.device_name,
        }
    return found
