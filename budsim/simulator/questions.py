"""From a request to a `Question`: look up the model and the clusters, and check both."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from budsim.commons.errors import InvalidInput, NotFound
from budsim.commons.precision import Precision
from budsim.commons.units import GIB
from budsim.engine_ops import serving_engines
from budsim.engine_ops.llmc import Scheme, schemes
from budsim.hardware_ops.cluster import Cluster
from budsim.model_ops.architecture import Architecture
from budsim.model_ops.model_names import find_by_name
from budsim.model_ops.registry import HubLookup, resolve_model
from budsim.performance.items import as_served
from budsim.performance.lengths import FixedLength
from budsim.performance.traffic import Traffic
from budsim.simulator.planning.question import FixedKnobs, Question, chance_of
from budsim.simulator.planning.targets import Targets
from budsim.simulator.site_costs import SiteCosts
from budsim.simulator.wire.traffic import FIELDS

if TYPE_CHECKING:  # the terminal builds questions too and must not pay for pydantic's models
    from budsim.simulator.cluster_sources import Inventory
    from budsim.simulator.schemas import HostsRequest, RunRequest, SearchRequest
    from budsim.simulator.storage.records import Finding

# What the deploying service passes to the engine in place of our own values.
DEPLOYER = FixedKnobs(memory_fraction=0.95, engines=frozenset({"vllm"}), max_loras=5)

# Schemes of LLM Compressor 0.14 whose stored format we know and for which we ship no recipe.
WEIGHT_ONLY = {"w8a16": Precision.INT8, "nvfp4a16": Precision.NVFP4}


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelSource:
    """Where models are looked up: the catalog, the registry folder, and the hub when allowed.

    ``pod_dir`` is the registry folder as the pods of a deployment see it.
    """

    registry_dir: Path | None = None
    hub: HubLookup | None = None
    pod_dir: str = "/data/models-registry"

    def path_in_pod(self, model: str) -> str:
        """Return what a pod of the callers loads: a path below ``pod_dir``, or a hub id as it is.

        A folder of the registry is a path. Without a registry here, names are hub ids when the
        catalog knows them or when they look like one (``organisation/name``).
        """
        if self.registry_dir is not None:
            is_path = (self.registry_dir / model).exists()
        else:
            is_path = model.count("/") != 1 and find_by_name(model) is None
        return f"{self.pod_dir.rstrip('/')}/{model.strip('/')}" if is_path else model

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
    architecture: Architecture, traffic: Traffic, targets: Targets, *, pooling: bool = False
) -> tuple[Architecture, Traffic]:
    """Return a model and its traffic as the model serves it.

    Items are tokens of prompts, and pooling models generate no tokens.

    Parameters
    ----------
    architecture, traffic, targets
        The model, what clients send, and how well it is to be served.
    pooling : bool
        Ask for vectors or scores of a model that could generate text as well.

    Raises
    ------
    InvalidInput
        A token rate is asked of a model that generates no tokens, or images or audio of one that
        does not read them.
    """
    architecture = replace(architecture, is_embedding=pooling or architecture.is_embedding)
    if architecture.is_embedding and targets.tokens_per_s_per_user:
        problem = f"{architecture.model_id} is asked for vectors or scores and generates no tokens"
        raise InvalidInput("target_throughput_per_user", problem, "0 or null: no target")
    return architecture, as_served(architecture, traffic)


@contextmanager
def _fields_of_requests() -> Iterator[None]:
    """Let errors name the request's field where the core has another name for it."""
    try:
        yield
    except InvalidInput as error:
        field = FIELDS.get(error.field, error.field)
        raise InvalidInput(field, error.problem, error.expected) from error


@_fields_of_requests()
def question_of(
    request: SearchRequest,
    clusters: tuple[Cluster, ...],
    source: ModelSource,
    engines: frozenset[str] = frozenset(),
    deployer: FixedKnobs = DEPLOYER,
    costs: SiteCosts | None = None,
) -> Question:
    """Return the question a request asks; ``engines`` are those of this site, empty: all.

    ``deployer`` states what is passed to engines in place of the plan's own values, ``costs`` how
    this site has priced ``clusters``.

    Raises
    ------
    NotFound
        No such model, cluster or engine.
    InvalidInput
        A number out of range, a sequence longer than the model's context, adapters no engine has
        kernels for, a token rate of a model that generates none, or an unknown quantization type
        or method.
    """
    precision = wanted_precision(request)
    site = costs or SiteCosts()
    asked = site.asked(request.asked_costs)
    found = source.find(request.pretrained_model_uri)
    targets = request.targets
    architecture, traffic = served(found, request.traffic, targets, pooling=request.pooling)
    return Question(
        architecture=architecture,
        traffic=traffic,
        targets=targets,
        clusters=asked.priced(chosen_clusters(clusters, request.wanted_cluster), site),
        power_site=asked.power_site,
        mode=request.hardware_mode,
        engines=allowed_engines(request.engines, engines),
        fixed_knobs=deployer,
        may_quantize=request.is_quantization,
        weight_precision=precision if request.is_quantization else None,
        max_context_tokens=request.model_max_context_length,
        analytic_only=request.simulation_method == "heuristic",
        allow_mixed=request.may_mix,
        parsed_as=request.model_uri or "",
        chance=chance_of(request.risk),
        max_loras=request.max_loras,
        max_lora_rank=request.max_lora_rank,
        kv_offload_bytes=request.kv_offload_gib * GIB,
        kv_store=request.asked_store,
        disaggregation=request.disaggregated,
        speculations=request.asked_speculation.ways(architecture, source.find),
    )


def hosts_question_of(
    request: HostsRequest,
    clusters: tuple[Cluster, ...],
    source: ModelSource,
    engines: frozenset[str] = frozenset(),
    deployer: FixedKnobs = DEPLOYER,
    costs: SiteCosts | None = None,
) -> Question:
    """Return the question about a model on the hosts a request names; errors as `question_of`.

    Prompts longer than a pooling model's context are cut to it, as its engine does.
    """
    from budsim.simulator.planning.layouts import restrict_to_hosts

    cluster = restrict_to_hosts(clusters, str(request.cluster_id), request.hostnames)
    architecture, traffic = served(_hosted_model(request, source), request.traffic, Targets())
    if architecture.is_embedding:
        # The defaults of these requests, 1,024 + 512 tokens, are for models that write.
        limit = min(architecture.max_context_tokens, request.model_max_context_length or math.inf)
        prompt = FixedLength(tokens=int(min(traffic.prompt.most, limit)))
        traffic = replace(traffic, prompt=prompt)
    return Question(
        architecture=architecture,
        traffic=traffic,
        targets=Targets(),
        clusters=(cluster,),
        power_site=(costs or SiteCosts()).power_site,
        mode=request.hardware_mode,
        engines=engines,
        fixed_knobs=deployer,
        max_context_tokens=request.model_max_context_length,
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


def wanted_precision(request: SearchRequest) -> Precision | None:
    """Return the weight format that the quantization a request names leaves; None: it names none.

    A method without a type stands for the first scheme it reaches.

    Raises
    ------
    InvalidInput
        An unknown type or method, or a method that does not reach the type.
    """
    named, method = request.quantization_type, (request.quantization_method or "").strip().upper()
    precision = precision_named(named) if named else None
    if not method:
        return precision
    reached = _schemes_of_method(method, request.quantization_method)
    if precision is None:
        return reached[0].precision
    if precision not in {scheme.precision for scheme in reached}:
        known = [scheme.name for scheme in reached]
        problem = f"{method} does not reach {named}"
        raise InvalidInput("quantization_method", problem, f"a type of {', '.join(known)}")
    return precision


def _schemes_of_method(method: str, stated: str | None) -> list[Scheme]:
    """Return the schemes a method reaches; ``stated`` is how the request spells it."""
    reached = [scheme for scheme in schemes().values() if method in scheme.methods]
    if not reached:
        known = sorted({each for scheme in schemes().values() for each in scheme.methods})
        problem = f"{stated!r} is not known"
        raise InvalidInput("quantization_method", problem, "one of " + ", ".join(known))
    return reached


def allowed_engines(wanted: Sequence[str] | None, site: frozenset[str]) -> frozenset[str]:
    """Return the engines a search may use: those asked for, of those of this site; empty: all.

    Raises
    ------
    NotFound
        An engine asked for is not known.
    InvalidInput
        None of the engines asked for is one of this site.
    """
    asked = frozenset(name.strip().lower() for name in wanted or ())
    for name in sorted(asked - serving_engines.keys()):
        raise NotFound("engines", name, f"one of {', '.join(serving_engines)}")
    # Empty means all, so that the intersection is taken only where both restrict.
    if not asked or not site:
        return asked or site
    if not asked & site:
        problem = f"{', '.join(sorted(asked))} may not be used here"
        raise InvalidInput("engines", problem, "some of " + ", ".join(sorted(site)))
    return asked & site


class Subject:
    """The subject of a run: its question, or a cloud model's price; built when first needed.

    Parameters
    ----------
    request : RunRequest
        What is asked.
    inventory, source
        Where its clusters and its model are looked up.
    engines : frozenset of str
        Engines of this site; empty: all.
    proxy_image : str, optional
        The site's own image of LiteLLM's proxy.
    deployer : FixedKnobs
        What is passed to engines in place of the plan's own values.
    costs : SiteCosts, optional
        How this site prices devices and power.
    """

    def __init__(
        self,
        request: RunRequest,
        inventory: Inventory,
        source: ModelSource,
        engines: frozenset[str] = frozenset(),
        proxy_image: str | None = None,
        deployer: FixedKnobs = DEPLOYER,
        costs: SiteCosts | None = None,
    ) -> None:
        self.request = request
        self._deployer, self._costs = deployer, costs
        self._inventory, self._source, self._engines = inventory, source, engines
        self._proxy_image = proxy_image
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
                question_of,
                self.request,
                clusters,
                self._source,
                self._engines,
                self._deployer,
                self._costs,
            )
        return self._question

    async def priced(self) -> Finding:
        """Return what a cloud model costs on each cluster; errors as `provider_price` and above."""
        if self._priced is None:
            from budsim.simulator.provider_models import priced_on, provider_price

            price = await asyncio.to_thread(provider_price, self.request.pretrained_model_uri)
            clusters = await self._inventory.clusters()
            chosen = chosen_clusters(clusters, self.request.wanted_cluster)
            self._priced = priced_on(price, self.request.traffic, chosen, self._proxy_image)
        return self._priced


def _hosted_model(request: HostsRequest, source: ModelSource) -> Architecture:
    field, model = (
        ("model_uri", request.model_uri) if request.model_uri else ("model_id", request.model_id)
    )
    try:
        return source.find(model)
    except NotFound as error:
        raise NotFound(field, error.value, error.hint) from error
