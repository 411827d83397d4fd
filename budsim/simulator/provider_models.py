"""Cloud models behind LiteLLM: priced from LiteLLM's cost map; their latency stays unknown."""

from __future__ import annotations

from collections.abc import Sequence
from uuid import UUID, uuid5

from budsim.engine_ops import routers
from budsim.engine_ops.base import ProviderPrice
from budsim.hardware_ops.cluster import Cluster, DeviceLabel, HardwareMode
from budsim.hardware_ops.device import DeviceKind
from budsim.performance.traffic import Traffic
from budsim.simulator.planning.plans import Rejection
from budsim.simulator.schemas import Labels, NodeGroup, output_share, reason_documents
from budsim.simulator.storage.records import Finding, StoredGroup, StoredPlan

ROUTER = "litellm"
# LiteLLM's proxy image without registry host, stable tag (LiteLLM docs, "Docker, Helm, Terraform").
IMAGE = "berriai/litellm:main-stable"

NAMESPACE = UUID("0b0ad1a3-1f57-5f0c-9a0e-3f2b7a1c9d42")
LATENCY_UNKNOWN = (
    "the latency of a provider's model is unknown: only its price is answered, targets are not"
    " compared"
)


def provider_price(model: str) -> ProviderPrice:
    """Return what a cloud model costs.

    Raises
    ------
    NotFound
        The cost map has no such model.
    """
    return routers[ROUTER].price(model)


def priced_on(
    price: ProviderPrice, traffic: Traffic, clusters: Sequence[Cluster], image: str | None = None
) -> Finding:
    """Return one plan for each cluster with a CPU for LiteLLM's proxy, and reasons for the others.

    The cost is the provider's charge for prompt and output tokens, per million output tokens; there
    is none per hour. ``image`` is the site's own of the proxy.
    """
    cost_usd = price.usd_per_million_output_tokens(traffic.input_tokens, traffic.output_tokens)
    hosts = [(cluster.cluster_id, _host(cluster)) for cluster in clusters]
    placed = [(cluster_id, label) for cluster_id, label in hosts if label is not None]
    plans = tuple(
        _plan(rank, cluster_id, label, price, traffic, cost_usd, image or IMAGE)
        for rank, (cluster_id, label) in enumerate(placed)
    )
    unhosted = [
        Rejection(
            cluster_id=cluster_id,
            subject=ROUTER,
            reason="no CPU for the proxy; the model itself costs"
            f" {cost_usd:g} USD per million output tokens",
        )
        for cluster_id, label in hosts
        if label is None
    ]
    unknown = [
        Rejection(cluster_id=cluster_id, subject=price.model, reason=LATENCY_UNKNOWN)
        for cluster_id, _ in placed
    ]
    reasons = reason_documents([*unhosted, *unknown])
    return Finding(plans=plans, reasons=reasons, evaluations=len(plans))


def _host(cluster: Cluster) -> DeviceLabel | None:
    return next(
        (
            pool.label
            for node, pool in cluster.pools()
            if node.is_up
            and not node.is_master
            and pool.available
            and pool.device
            and pool.device.kind is DeviceKind.CPU
        ),
        None,
    )


def _plan(  # one argument per thing that differs between clusters
    rank: int,
    cluster_id: str,
    label: DeviceLabel,
    price: ProviderPrice,
    traffic: Traffic,
    cost_usd: float,
    image: str,
) -> StoredPlan:
    group = _group(cluster_id, label, price, traffic, cost_usd, image)
    return StoredPlan(
        rank=rank,
        cluster_id=cluster_id,
        replicas=1,
        concurrency=_concurrency(traffic),
        ttft_s=None,
        tokens_per_s_per_user=None,
        e2e_s=None,
        error_rate=0.0,
        cost_per_million_tokens_usd=cost_usd,
        cost_usd_per_h=0.0,
        quantized=False,
        groups=(StoredGroup(config_id=group.config_id, document=group.model_dump(mode="json")),),
    )


def _group(
    cluster_id: str,
    label: DeviceLabel,
    price: ProviderPrice,
    traffic: Traffic,
    cost_usd: float,
    image: str,
) -> NodeGroup:
    return NodeGroup(
        config_id=str(uuid5(NAMESPACE, f"{cluster_id}/{price.model}/{_lengths(traffic)}")),
        name=label.name,
        labels=Labels(device_name=label.name, concurrency=str(_concurrency(traffic))),
        type=label.wire_type,
        engine_type=ROUTER,
        tp_size=1,
        pp_size=1,
        envs={"LITELLM_LOCAL_MODEL_COST_MAP": "True"},
        args={"model": price.model},
        replicas=1,
        image=image,
        memory=0.0,
        hardware_mode=HardwareMode.DEDICATED,
        ttft=None,
        throughput_per_user=None,
        e2e_latency=None,
        error_rate=0.0,
        cost_per_million_tokens=cost_usd,
        cost_per_million_tokens_blended=cost_usd * output_share(traffic),
        device_name=label.name,
        device_model=label.device_model,
        raw_name=label.raw_name,
        weight_memory_gb=0.0,
        kv_cache_memory_gb=0.0,
        engine_version=routers[ROUTER].version,
        architecture_family=price.provider,
    )


def _concurrency(traffic: Traffic) -> int:
    """Return the requests in flight; 1 at a rate, because a provider's latency is unknown."""
    return max(1, traffic.concurrency)


def _lengths(traffic: Traffic) -> str:
    """Return what one request is, in words: 512 + 128 tokens."""
    output = f" + {traffic.output_tokens:g}" if traffic.output_tokens else ""
    return f"{traffic.input_tokens:g}{output} tokens"
