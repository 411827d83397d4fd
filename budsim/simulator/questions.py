"""From a request to a `Question`: look up the model and the clusters, and check that the model can do what is asked."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from budsim.commons.errors import InvalidInput, NotFound
from budsim.commons.precision import Precision
from budsim.engine_ops.llmc import schemes
from budsim.hardware_ops.cluster import Cluster
from budsim.model_ops.architecture import Architecture
from budsim.model_ops.registry import HubLookup, resolve_model
from budsim.performance.workload import Workload
from budsim.simulator.planning.question import Question
from budsim.simulator.planning.targets import Targets

if TYPE_CHECKING:  # the terminal builds questions too and must not pay for pydantic's models
    from budsim.simulator.cluster_sources import Inventory
    from budsim.simulator.schemas import HostsRequest, RunRequest
    from budsim.simulator.storage.records import Finding

WEIGHT_ONLY = {"w8a16": Precision.INT8, "nvfp4a16": Precision.NVFP4}
"""LLM Compressor 0.14 has these schemes; we know their stored format and ship no recipe for them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelSource:
    """Where models are looked up: the catalog, the registry folder, and the hub when allowed."""

    registry_dir: Path | None = None
    hub: HubLookup | None = None

    def find(self, model: str) -> Architecture:
        """Return the architecture of a model.

        Raises
        ------
        NotFound
            No source has the model.
        UnsupportedModel
            Its configuration has a shape we cannot read.
        """
        return resolve_model(model, registry_dir=self.registry_dir, hub=self.hub)


def served(
    architecture: Architecture, workload: Workload, targets: Targets, *, pooling: bool = False
) -> tuple[Architecture, Workload]:
    """Return a model and its traffic as the model serves it: pooling models generate no tokens.

    Parameters
    ----------
    architecture, workload, targets
        The model, what clients send, and how well it is to be served.
    pooling : bool
        Ask for vectors or scores of a model that could generate text as well.

    Raises
    ------
    InvalidInput
        A token rate is asked of a model that generates no tokens.
    """
    if not (pooling or architecture.is_embedding):
        return architecture, workload
    if targets.tokens_per_s_per_user:
        problem = f"{architecture.model_id} is asked for vectors or scores and generates no tokens"
        raise InvalidInput("target_throughput_per_user", problem, "0 or null: no target")
    return replace(architecture, is_embedding=True), replace(workload, output_tokens=0)


def question_of(
    request: RunRequest, clusters: tuple[Cluster, ...], source: ModelSource
) -> Question:
    """Return the question a request asks.

    Raises
    ------
    NotFound
        No such model or cluster.
    InvalidInput
        A number out of range, a sequence longer than the model's context, adapters no engine has
        kernels for, a token rate of a model that generates none, or an unknown quantization type or method.
    """
    _check_quantization(request)
    wanted = request.quantization_type if request.is_quantization else None
    found = source.find(request.pretrained_model_uri)
    targets = request.targets
    architecture, workload = served(found, workload_of(request), targets, pooling=request.pooling)
    return Question(
        architecture=architecture,
        workload=workload,
        targets=targets,
        clusters=chosen_clusters(clusters, request.wanted_cluster),
        mode=request.hardware_mode,
        may_quantize=request.is_quantization,
        weight_precision=precision_named(wanted) if wanted else None,
        max_context_tokens=request.model_max_context_length,
        analytic_only=request.simulation_method == "heuristic",
        parsed_as=request.model_uri or "",
        risk=request.risk,
        max_loras=request.max_loras,
        max_lora_rank=request.max_lora_rank,
    )


def hosts_question_of(
    request: HostsRequest, clusters: tuple[Cluster, ...], source: ModelSource
) -> Question:
    """Return the question about a model on the hosts a request names; errors as `question_of`."""
    from budsim.simulator.planning.layouts import restrict_to_hosts

    cluster = restrict_to_hosts(clusters, str(request.cluster_id), request.hostnames)
    architecture, workload = served(_hosted_model(request, source), workload_of(request), Targets())
    return Question(
        architecture=architecture,
        workload=workload,
        targets=Targets(),
        clusters=(cluster,),
        mode=request.hardware_mode,
        max_context_tokens=request.model_max_context_length,
    )


def workload_of(request: RunRequest | HostsRequest) -> Workload:
    """Return the traffic a request describes."""
    return Workload(
        input_tokens=request.input_tokens,
        output_tokens=request.output_tokens,
        concurrency=request.concurrency,
    )


def chosen_clusters(clusters: tuple[Cluster, ...], cluster_id: str | None) -> tuple[Cluster, ...]:
    """Return all clusters, or the one with ``cluster_id``.

    Raises
    ------
    NotFound
        The inventory has no such cluster.
    """
    if cluster_id is None:
        return clusters
    wanted = cluster_id.lower()
    chosen = tuple(cluster for cluster in clusters if cluster.cluster_id.lower() == wanted)
    if not chosen:
        hint = f"the inventory has {len(clusters)} clusters, none with this id"
        raise NotFound("cluster_id", cluster_id, hint)
    return chosen


def precision_named(name: str) -> Precision:
    """Return the weight format a caller names (`INT8`, `W4A16`, `fp8`).

    Raises
    ------
    InvalidInput
        No such format or scheme.
    """
    wanted = name.strip().lower()
    named = WEIGHT_ONLY | {scheme.name.lower(): scheme.precision for scheme in schemes().values()}
    if wanted in named:
        return named[wanted]
    try:
        return Precision(wanted)
    except ValueError:
        known = sorted({*(str(precision) for precision in Precision), *named})
        raise InvalidInput(
            "quantization_type", f"{name!r} is not known", "one of " + ", ".join(known)
        ) from None


class Subject:
    """What a run is about: its question, or a cloud model's price; built when first needed and kept.

    Parameters
    ----------
    request : RunRequest
        What is asked.
    inventory, source
        Where its clusters and its model are looked up.
    """

    def __init__(self, request: RunRequest, inventory: Inventory, source: ModelSource) -> None:
        self.request = request
        self._inventory, self._source = inventory, source
        self._question: Question | None = None
        self._priced: Finding | None = None

    async def check(self) -> None:
        """Raise what keeps the request from being answered; errors as `question_of`."""
        if self.request.is_proprietary_model:
            await self.priced()
        else:
            await self.question()

    async def question(self) -> Question:
        """Return the question; errors as `question_of` and `Inventory.clusters`."""
        if self._question is None:
            clusters = await self._inventory.clusters()
            self._question = await asyncio.to_thread(
                question_of, self.request, clusters, self._source
            )
        return self._question

    async def priced(self) -> Finding:
        """Return what a cloud model costs on each cluster; errors as `provider_price` and above."""
        if self._priced is None:
            from budsim.simulator.provider_models import priced_on, provider_price

            price = await asyncio.to_thread(provider_price, self.request.pretrained_model_uri)
            clusters = await self._inventory.clusters()
            chosen = chosen_clusters(clusters, self.request.wanted_cluster)
            self._priced = priced_on(price, workload_of(self.request), chosen)
        return self._priced


def _check_quantization(request: RunRequest) -> None:
    """Refuse a quantization nobody can make, also where the request does not ask for one."""
    if request.quantization_type:
        precision_named(request.quantization_type)
    known = sorted({method for scheme in schemes().values() for method in scheme.methods})
    if request.quantization_method and request.quantization_method.upper() not in known:
        problem = f"{request.quantization_method!r} is not known"
        raise InvalidInput("quantization_method", problem, "one of " + ", ".join(known))


def _hosted_model(request: HostsRequest, source: ModelSource) -> Architecture:
    field, model = (
        ("model_uri", request.model_uri) if request.model_uri else ("model_id", request.model_id)
    )
    try:
        return source.find(model)
    except NotFound as error:
        raise NotFound(field, error.value, error.hint) from error
