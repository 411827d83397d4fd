"""Writes a plan as a compose file: a service for each process, a profile for each node."""

from __future__ import annotations

from typing import Any, Final

from budsim.commons.errors import InvalidInput
from budsim.simulator.rendering.commands import device_notes, heading
from budsim.simulator.rendering.deployments import Deployment, Group, Process
from budsim.simulator.rendering.platforms import Platform, platform_of, visible_devices
from budsim.simulator.rendering.routing import (
    PROXY_IMAGE,
    PROXY_PORT,
    proxy_config,
    replicas,
    router_port,
)
from budsim.simulator.rendering.stores import (
    client_keys,
    folder_mounts,
    store_configs,
    store_notes,
    store_services,
)
from budsim.simulator.rendering.writing import yaml_text

ROUTER: Final = "router"
CACHE: Final = "model-cache"


def compose(deployment: Deployment) -> str:
    """Return one compose file for all nodes.

    ``docker compose --profile NODE up`` starts what belongs on a node.
    """
    nodes = deployment.nodes()
    _check_names(nodes)
    services = {
        process.name: _service(deployment, group, process)
        for group in deployment.groups
        for replica in group.replicas
        for process in replica
    }
    services |= store_services(deployment, profiled=len(nodes) > 1)
    configs = store_configs(deployment)
    if deployment.is_disaggregated:
        services[ROUTER] = _pool_router(deployment, profiled=len(nodes) > 1)
    else:
        services[ROUTER] = _router(profiled=len(nodes) > 1)
        config = yaml_text((), proxy_config(deployment, replicas(deployment)))
        configs[ROUTER] = {"content": _escaped(config)}
    document = {
        "name": deployment.slug,
        "services": services,
        "volumes": {CACHE: {}},
        **({"configs": configs} if configs else {}),
    }
    notes = [*heading(deployment), *store_notes(deployment), *device_notes(deployment)]
    return yaml_text([*notes, *_how(nodes, router_port(deployment))], document)


def _how(nodes: tuple[str, ...], port: int) -> tuple[str, ...]:
    if len(nodes) <= 1:
        return (
            "start (Docker Compose 2.24 or newer): docker compose up;"
            f" requests go to the router on port {port}",
        )
    return (
        "start on every node (Docker Compose 2.24 or newer): docker compose --profile NODE up,"
        f" with NODE one of {', '.join(nodes)}",
        "start on one of them: docker compose --profile router up;"
        " nodes have to resolve each other's names",
    )


def _check_names(nodes: tuple[str, ...]) -> None:
    for node in nodes:
        if node == ROUTER or not node.replace("-", "").replace(".", "").replace("_", "").isalnum():
            raise InvalidInput(
                "PLAN.placements",
                f"{node!r} cannot be a compose profile",
                "letters, digits, dots and dashes",
            )


def _service(deployment: Deployment, group: Group, process: Process) -> dict[str, Any]:
    profiled = len(deployment.nodes()) > 1
    launch = group.launched_as(process.role)
    platform = platform_of(group.kind, group.device_name)
    return {
        "image": launch.image,
        **({"profiles": [process.node]} if profiled else {}),
        "volumes": [f"{CACHE}:/root/.cache/huggingface", *folder_mounts(deployment)],
        "environment": {
            **launch.envs,
            **visible_devices(platform.visible_inside, process.devices),
            "HF_TOKEN": None,
        },
        # Replicas over several nodes reach each other by their nodes' names and ports.
        "network_mode": "host",
        "command": [_escaped(word) for word in launch.command[1:]],
        "entrypoint": [_escaped(launch.command[0])],
        "restart": "unless-stopped",
        **_health(process),
        **_devices(platform, process),
        "ipc": "host",
        **platform.container,
        **({"cap_add": list(platform.capabilities)} if platform.capabilities else {}),
        **client_keys(deployment),
    }


def _devices(platform: Platform, process: Process) -> dict[str, Any]:
    if not platform.driver:
        return {}
    # Compose stops with this message until the variable names the slice.
    mig = "${{MIG_{}:?set it to the UUID of a MIG slice, see nvidia-smi -L}}"
    shown = mig if platform.by_uuid else "{}"
    devices = [shown.format(device) for device in process.devices]
    reserved = {"driver": platform.driver, "device_ids": devices, "capabilities": ["gpu"]}
    return {"deploy": {"resources": {"reservations": {"devices": [reserved]}}}}


def _health(process: Process) -> dict[str, Any]:
    if process.role.rank != 0:
        return {}
    address = f"http://localhost:{process.role.port}/health"
    asks = f"import urllib.request as r; r.urlopen('{address}', timeout=5)"
    return {
        "healthcheck": {
            "test": ["CMD", "python3", "-c", asks],
            "interval": "30s",
            "timeout": "10s",
            "retries": 3,
            "start_period": "30m",
        }
    }


def _router(*, profiled: bool) -> dict[str, Any]:
    return {
        "image": PROXY_IMAGE,
        **({"profiles": [ROUTER]} if profiled else {}),
        "configs": [{"source": ROUTER, "target": "/app/config.yaml"}],
        "environment": {
            "LITELLM_LOCAL_MODEL_COST_MAP": "True",
            "LITELLM_MASTER_KEY": None,
            "BUDSIM_REPLICA_API_KEY": "${BUDSIM_REPLICA_API_KEY:-none}",
        },
        "env_file": [{"path": f"{ROUTER}.env", "required": False}],
        "network_mode": "host",
        "command": ["--config", "/app/config.yaml", "--port", str(PROXY_PORT)],
        "restart": "unless-stopped",
    }


def _pool_router(deployment: Deployment, *, profiled: bool) -> dict[str, Any]:
    """Return the router before both pools: it starts after the workers, or waits for them.

    Services of other nodes are not started here, so that only those of one node can be named.
    """
    program, *words = deployment.pool_router_command()
    answering = [replica[0].name for group in deployment.groups for replica in group.replicas]
    after = {name: {"condition": "service_healthy"} for name in answering}
    return {
        "image": deployment.pool_router.image,
        **({"profiles": [ROUTER]} if profiled else {"depends_on": after}),
        "network_mode": "host",
        "entrypoint": [program],
        "command": words,
        "restart": "unless-stopped",
    }


def _escaped(text: str) -> str:
    """Return text that compose does not take for a variable."""
    return text.replace("$", "$$")
