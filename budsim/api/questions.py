"""The questions of the Python API; each asks the same functions as the HTTP service."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Unpack

from budsim.api.answers import Capacities, DeviceSets, RowPredictions, Simulation
from budsim.api.daily import DailyReplicas
from budsim.api.inputs import (
    Model,
    SearchOptions,
    architecture_of,
    clusters_of,
    offer_of,
    predictor_of,
    question_of,
    table_of,
)

if TYPE_CHECKING:
    import pandas as pd

    from budsim.hardware_ops.cluster import Cluster
    from budsim.performance.predictor import Predictor
    from budsim.performance.traffic import Traffic
    from budsim.simulator.planning.targets import Targets

__all__ = ["architecture_of", "capacity", "day", "predict", "read_clusters", "simulate", "size"]


def simulate(
    *,
    model: Model,
    cluster: Cluster | Sequence[Cluster] | str | Path,
    traffic: Traffic,
    targets: Targets | None = None,
    **options: Unpack[SearchOptions],
) -> Simulation:
    """Find the best deployments of a model on a cluster.

    Parameters
    ----------
    model : str, path or mapping
        Hugging Face id, known short name, path below MODEL_REGISTRY_DIR, or the content of a
        config.json.
    cluster : Cluster, sequence of Cluster, or path
        What there is: values, or an inventory file (JSON, or the short YAML form).
    traffic : Traffic
        What clients send, such as ``Traffic.closed(concurrency=64, input_tokens=2048,
        output_tokens=512)``.
    targets : Targets, optional
        The worst service that is good enough, in seconds and tokens/s. Default: no targets.
    **options
        See `SearchOptions`.

    Returns
    -------
    Simulation
        Plans, best first, and reasons for what is not among them. "Nothing fits" is an answer
        without plans, not an error.

    Raises
    ------
    NotFound
        Nobody knows the model, or the file does not exist.
    InvalidInput
        A value is out of range; the message names it and says what is right.

    Examples
    --------
    >>> import budsim
    >>> found = budsim.simulate(
    ...     model="meta-llama/Llama-3.1-8B-Instruct",
    ...     cluster="docs/examples/demo-cluster.yaml",
    ...     traffic=budsim.Traffic.closed(concurrency=16, input_tokens=512, output_tokens=128),
    ...     targets=budsim.Targets(ttft_s=0.5),
    ... )
    >>> found.best.meets_targets
    True
    """
    from budsim.simulator.planning.answer import answer

    predictor = _predictor(options)
    question = question_of(model, traffic, targets, clusters_of(cluster), options)
    outcome = answer(question, predictor)
    return Simulation(question=question, outcome=outcome, predictor=predictor)


def capacity(
    *,
    model: Model,
    cluster: Cluster | Sequence[Cluster] | str | Path,
    traffic: Traffic,
    targets: Targets,
    **options: Unpack[SearchOptions],
) -> Capacities:
    """Find how many requests each cluster serves within the targets.

    In flight for a closed loop (to 1 %), per second for traffic at a rate (to 2 %). Parameters are
    those of `simulate`; the traffic's own concurrency or rate does not matter. For a closed loop,
    one of the targets must be a latency: without one, every load can be served, however late.

    Raises
    ------
    NotFound, InvalidInput
        As `simulate`, and where no target is a latency.
    """
    from budsim.simulator.planning.sizing import capacities

    predictor = _predictor(options)
    question = question_of(model, traffic, targets, clusters_of(cluster), options)
    return Capacities(question=question, clusters=capacities(question, predictor))


def day(
    *,
    model: Model,
    cluster: Cluster | Sequence[Cluster] | str | Path,
    traffic: Traffic,
    targets: Targets,
    hourly: Sequence[float] | None = None,
    lead_time_s: float | None = None,
    **options: Unpack[SearchOptions],
) -> DailyReplicas:
    """Find how many replicas each hour of a day needs, and what that costs.

    Parameters
    ----------
    model, cluster, targets, **options
        As in `simulate`.
    traffic : Traffic
        Requests at a rate, whose own rate does not matter; or a trace, cut into hours.
    hourly : sequence of float, optional
        Requests per second of each hour, 1 to 24 of them. Left out for a trace.
    lead_time_s : float, optional
        Seconds from asking for a replica until it serves, at most an hour. By default the time to
        load its weights at 1 GiB/s and 120 s for the engine to start.

    Raises
    ------
    NotFound, InvalidInput
        As `simulate`, and where neither hourly rates nor a trace are given.
    """
    from budsim.simulator.planning.daily_replicas import hours_of, replicas_over_a_day

    predictor, hours = _predictor(options), hours_of(traffic, hourly)
    busiest = max(hours, key=lambda hour: hour.rate)
    question = question_of(model, busiest, targets, clusters_of(cluster), options)
    found = replicas_over_a_day(question, hours, predictor, lead_time_s=lead_time_s)
    return DailyReplicas(question=question, found=found)


def size(
    *,
    model: Model,
    traffic: Traffic,
    targets: Targets | None = None,
    devices: Sequence[str] = (),
    include: Sequence[str] = (),
    **options: Unpack[SearchOptions],
) -> DeviceSets:
    """Find the cheapest devices of the catalog for a load, as if any number could be had.

    Parameters
    ----------
    model, traffic, targets, **options
        As in `simulate`.
    devices : sequence of str
        Try only these devices of `budsim devices`. Default: data centre and workstation boards
        that can be rented (``basis="own"``: bought) today.
    include : sequence of str
        Offer these boards too: ``desktop``, ``embedded``, ``china`` (sold there only).

    Raises
    ------
    NotFound
        Nobody knows the model or a device.
    InvalidInput
        A value is out of range.
    """
    from budsim.simulator.planning.device_sets import cheapest_devices

    predictor = _predictor(options)
    question = question_of(model, traffic, targets, (), options)
    found = cheapest_devices(question, predictor, offer_of(devices, include, options))
    return DeviceSets(question=question, found=found)


def predict(
    rows: pd.DataFrame | Mapping[str, object] | Sequence[Mapping[str, object]] | str | Path,
    *,
    analytic: bool = False,
    calibration: str | Path | None = None,
) -> RowPredictions:
    """Predict given configurations, one a row, in the columns of measurements.csv.

    Parameters
    ----------
    rows : DataFrame, mapping, sequence of mappings, or path of a CSV
        Each row needs at least ``device_name``, ``engine``, ``model_hf``, ``tp``,
        ``input_tokens``, ``output_tokens`` and ``concurrency``; ``docs/data.md`` lists all columns.
    analytic : bool
        Use physics alone, without trained models.
    calibration : path, optional
        Correction for your own site, written by `budsim calibrate`.

    Returns
    -------
    RowPredictions
        The rows with ``pred_`` columns; rows without a prediction say why in ``pred_error``.
    """
    from budsim.performance.training.score import predict_table

    predictor = predictor_of(analytic=analytic, calibration=calibration)
    return RowPredictions(table=predict_table(table_of(rows), predictor))


def read_clusters(path: str | Path) -> tuple[Cluster, ...]:
    """Return the clusters of an inventory file (JSON, or the short YAML form).

    Raises
    ------
    NotFound
        There is no such file.
    InvalidInput
        The file holds no inventory.
    """
    return clusters_of(path)


def _predictor(options: SearchOptions) -> Predictor:
    return predictor_of(
        analytic=options.get("analytic", False), calibration=options.get("calibration")
    )
