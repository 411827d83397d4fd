"""From what a caller gives to the values the search needs: model, clusters, predictor, question."""

from __future__ import annotations

import functools
import os
from collections.abc import Mapping, Sequence
from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypedDict

from budsim.commons.errors import InvalidInput, NotFound
from budsim.commons.units import GIB

if TYPE_CHECKING:
    import pandas as pd

    from budsim.hardware_ops.cluster import Cluster
    from budsim.hardware_ops.device import Device
    from budsim.hardware_ops.pricing import Pricing
    from budsim.model_ops.architecture import Architecture
    from budsim.performance.asked_speculation import AskedSpeculation
    from budsim.performance.predictor import Predictor
    from budsim.performance.traffic import Traffic
    from budsim.simulator.planning.device_sets import Offer
    from budsim.simulator.planning.question import Question
    from budsim.simulator.planning.targets import Targets

INCLUDED = frozenset({"desktop", "embedded", "china"})

Model = str | Path | Mapping[str, object]
"""A Hugging Face id, a known short name, a path below MODEL_REGISTRY_DIR, or a config.json."""


# Options that are text, and those that are one number.
TEXTS = frozenset(
    "speculative draft_model domain disaggregated kv_store basis term provider".split()
)
NUMBERS = frozenset(
    "max_context_tokens max_loras max_lora_rank kv_offload_gib kv_store_gib kv_store_gb_per_s "
    "draft_tokens acceptance temperature seed g_co2_per_kwh".split()
)


class SearchOptions(TypedDict, total=False):
    """What the search may try, and how it judges; every option may be left out.

    Attributes
    ----------
    engines : sequence of str
        Try only these serving engines: ``vllm``, ``sglang``. Default: all.
    quantize : bool
        Also try quantized weights. Default: False.
    shared : bool
        Use time-sliced GPUs instead of whole ones. Default: False.
    analytic : bool
        Use physics alone, without trained models, and try a fixed grid. Default: False.
    risk : float, "expected" or "cautious"
        Least chance (0 to below 1) of meeting all targets a plan must have. "expected" is 0 and
        compares the best estimates; "cautious" is 0.95. Default: 0.8.
    max_context_tokens : int
        Longest sequence the server must accept, where it is shorter than the model's own limit.
    max_loras, max_lora_rank : int
        LoRA adapters that each replica serves at once, and their highest rank. Default: 0, 16.
    kv_offload_gib : float
        Host memory of each node that replicas may keep KV cache in, GiB. Default: 0.
    kv_store_gib : float
        KV cache in a store that all replicas share, GiB. Default: 0.
    kv_store : "mooncake", "lmcache" or "file"
        Memory of all nodes, a Redis server behind LMCache, or a folder that all nodes mount, whose
        speed has to be stated. Default: "mooncake".
    kv_store_gb_per_s : float
        What the store delivers to all replicas together. Default: what its network cards can.
    speculative : str
        Let replicas guess tokens ahead where it gains: ``mtp``, ``eagle3``, ``draft_model`` or
        ``ngram``. Default: none does.
    draft_tokens : int
        Tokens guessed for each step, 1 to 16. Default: the search tries several.
    draft_model : str
        What guesses: the EAGLE-3 head or the smaller model by its Hugging Face id.
    acceptance : float
        Share of guesses that are right, each after right ones, 0 to 1. Default: as published.
    domain : str
        Texts whose published acceptance is taken: ``chat``, ``coding``, ``math``... Default: any.
    temperature : float
        Sampling temperature whose published acceptance is taken. Default: any.
    disaggregated : "off", "also" or "only"
        Whether prefill and decode may have workers of their own: never, where that is better, or
        always. Default: "off".
    calibration : path
        Correction for your own site, written by `budsim calibrate`.
    seed : int
        The same question and seed give the same answer. Default: 0.
    basis : "rent" or "own"
        What an hour of every device costs: its rent, or the cost of owning it. Default: "rent".
    term : "on-demand", "reserved" or "spot"
        How devices are rented. Default: "on-demand".
    provider : str
        Whose rents to take. Default: the lowest published price of each device.
    prices : path
        Your own prices in YAML, JSON or CSV; they win over the catalog's.
    g_co2_per_kwh : float
        Carbon intensity of the grid, g CO2 per kWh. Default: 445, the world's average of 2024.
    ownership : mapping
        Assumptions of `budsim.hardware_ops.ownership.Ownership`, such as ``{"years": 4}``.
    """

    engines: Sequence[str]
    quantize: bool
    shared: bool
    analytic: bool
    risk: float | str
    max_context_tokens: int
    max_loras: int
    max_lora_rank: int
    kv_offload_gib: float
    kv_store_gib: float
    kv_store: str
    kv_store_gb_per_s: float
    speculative: str
    draft_tokens: int
    draft_model: str
    acceptance: float
    domain: str
    temperature: float
    disaggregated: str
    calibration: str | Path
    seed: int
    basis: str
    term: str
    provider: str
    prices: str | Path
    ownership: Mapping[str, float]
    g_co2_per_kwh: float


def clusters_of(given: Cluster | Sequence[Cluster] | str | Path) -> tuple[Cluster, ...]:
    """Return the clusters of a file, of a sequence, or the one given.

    Raises
    ------
    NotFound
        There is no such file.
    InvalidInput
        The file holds no inventory.
    """
    from budsim.hardware_ops.cluster import Cluster
    from budsim.hardware_ops.cluster_file import read_cluster_file

    if isinstance(given, Cluster):
        return (given,)
    if isinstance(given, str | Path):
        return read_cluster_file(Path(given))
    return tuple(given)


def architecture_of(model: Model) -> Architecture:
    """Return the architecture of a model: by name, by path, or from its config.json.

    Raises
    ------
    NotFound
        Nobody knows the name; the message lists close ones.
    InvalidInput, UnsupportedModel
        The config.json cannot be read.
    """
    from budsim.model_ops.registry import resolve_model

    folder = os.environ.get("MODEL_REGISTRY_DIR")
    registry_dir = Path(folder) if folder else None
    if isinstance(model, Mapping):
        name = str(model.get("_name_or_path") or "model")
        return resolve_model(name, config=model, registry_dir=registry_dir)
    return resolve_model(str(model), registry_dir=registry_dir)


def predictor_of(*, analytic: bool = False, calibration: str | Path | None = None) -> Predictor:
    """Return the predictor of these options; trained models are loaded once a process.

    Raises
    ------
    InvalidInput
        A correction is given for trained models that ``analytic`` leaves out.
    """
    from budsim.performance.predictor import AnalyticPredictor

    if analytic and calibration:
        raise InvalidInput(
            "calibration", "corrects the trained models, which analytic leaves out", "one of both"
        )
    if analytic:
        return AnalyticPredictor()
    if calibration is None:
        return _loaded(None, 0)
    # A file that was written again is another correction.
    path = Path(calibration)
    return _loaded(path, path.stat().st_mtime_ns if path.is_file() else 0)


@functools.lru_cache(maxsize=4)
def _loaded(calibration: Path | None, _changed_ns: int) -> Predictor:
    from budsim.performance.predictor import load_predictor

    return load_predictor(calibration=calibration)


def question_of(
    model: Model,
    traffic: Traffic,
    targets: Targets | None,
    clusters: tuple[Cluster, ...],
    options: SearchOptions,
) -> Question:
    """Return the question that these values ask.

    Raises
    ------
    NotFound
        Nobody knows the model or an engine.
    InvalidInput
        A value is out of range, or the requests are longer than the model's context.
    """
    from budsim.engine_ops.kv_store import kv_store_of
    from budsim.hardware_ops.cluster import HardwareMode
    from budsim.hardware_ops.power import PowerSite
    from budsim.simulator.planning.question import Question, chance_of, disaggregation_of
    from budsim.simulator.planning.targets import Targets
    from budsim.simulator.questions import served

    unknown = sorted(options.keys() - SearchOptions.__annotations__.keys())
    if unknown:
        expected = f"one of {', '.join(SearchOptions.__annotations__)}"
        raise InvalidInput(unknown[0], "is no option of a search", expected)
    _check_types(options)
    targets, pricing = targets or Targets(), pricing_of(options)
    architecture, traffic = served(architecture_of(model), traffic, targets)
    return Question(
        architecture=architecture,
        traffic=traffic,
        targets=targets,
        clusters=pricing.priced_clusters(clusters),
        power_site=PowerSite(
            pue=pricing.ownership.pue, g_co2_per_kwh=options.get("g_co2_per_kwh", 445.0)
        ),
        mode=HardwareMode.SHARED if options.get("shared") else HardwareMode.DEDICATED,
        engines=frozenset(options.get("engines", ())),
        may_quantize=options.get("quantize", False),
        max_context_tokens=options.get("max_context_tokens"),
        analytic_only=options.get("analytic", False),
        chance=chance_of(options.get("risk")),
        max_loras=options.get("max_loras", 0),
        max_lora_rank=options.get("max_lora_rank", 16),
        speculations=asked_speculation(options).ways(architecture, architecture_of),
        disaggregation=disaggregation_of(options.get("disaggregated")),
        kv_offload_bytes=options.get("kv_offload_gib", 0.0) * GIB,
        kv_store=kv_store_of(
            options.get("kv_store_gib"), options.get("kv_store"), options.get("kv_store_gb_per_s")
        ),
        seed=options.get("seed", 0),
    )


def _check_types(options: SearchOptions) -> None:
    """Refuse text in place of a number, and anything else in place of text."""
    for name, value in options.items():
        text, number = name in TEXTS, name in NUMBERS
        if text and not isinstance(value, str | None):
            raise InvalidInput(name, f"is {value!r}"[:60], "text")
        if number and (isinstance(value, bool) or not isinstance(value, int | float | None)):
            raise InvalidInput(name, f"is {value!r}"[:60], "a number")


def asked_speculation(options: SearchOptions) -> AskedSpeculation:
    """Return what the options say about guessing tokens ahead."""
    from budsim.performance.asked_speculation import AskedSpeculation

    given: Mapping[str, Any] = options
    names = [each.name for each in fields(AskedSpeculation)]
    return AskedSpeculation(**{name: given[name] for name in names if name in given})


def pricing_of(options: SearchOptions) -> Pricing:
    """Return how an hour of every device is priced.

    Raises
    ------
    NotFound, InvalidInput
        An option or the price file is wrong; see `budsim.hardware_ops.price_file`.
    """
    from budsim.hardware_ops.price_file import read_pricing

    return read_pricing(
        basis=options.get("basis"),
        term=options.get("term"),
        provider=options.get("provider"),
        prices=options.get("prices"),
        ownership=options.get("ownership"),
    )


def offer_of(names: Sequence[str], include: Sequence[str], options: SearchOptions) -> Offer:
    """Return the devices to choose from, priced: those named, or all that can be had.

    Raises
    ------
    NotFound
        The catalog has no such device.
    InvalidInput
        ``include`` has another word than ``desktop``, ``embedded`` and ``china``.
    """
    from budsim.hardware_ops.catalog import devices
    from budsim.simulator.planning.device_sets import offer

    wanted = frozenset(word.strip().lower() for word in include)
    if unknown := sorted(wanted - INCLUDED):
        expected = ", ".join(sorted(INCLUDED))
        raise InvalidInput("include", f"{unknown[0][:40]!r} is not known", f"some of {expected}")
    named = devices_named(names) if names else ()
    return offer(devices().values(), pricing_of(options), named=named, include=wanted)


def devices_named(names: Sequence[str]) -> list[Device]:
    """Return the devices of these names, or the whole catalog where none is given.

    Raises
    ------
    NotFound
        The catalog has no such device.
    """
    from budsim.hardware_ops.catalog import devices
    from budsim.hardware_ops.device_names import close_text, find_device

    found: dict[str, Device] = {}
    for name in names:
        device = find_device(name)
        if device is None:
            close = close_text(name)
            told = f"; {close}" if close else ""
            raise NotFound("device", name, f"`budsim devices` lists them{told}")
        found.setdefault(device.name, device)
    return list(found.values()) or list(devices().values())


def table_of(
    rows: pd.DataFrame | Mapping[str, object] | Sequence[Mapping[str, object]] | str | Path,
) -> pd.DataFrame:
    """Return rows as a table of text, as a CSV holds them.

    Raises
    ------
    InvalidInput
        A CSV cannot be read.
    """
    import pandas as pd

    from budsim.performance.measured.tables import read_tables

    if isinstance(rows, str | Path):
        return read_tables([Path(rows)])
    if isinstance(rows, Mapping):
        rows = [rows]
    table = rows if isinstance(rows, pd.DataFrame) else pd.DataFrame(list(rows))
    # Readers of measurements take text, as a CSV holds it: blank means unknown.
    return table.fillna("").astype(str)
