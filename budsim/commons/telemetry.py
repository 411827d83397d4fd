"""Structured log lines on stderr, and the Prometheus figures the service keeps."""

from __future__ import annotations

import logging
import sys
from dataclasses import dataclass

import structlog
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram


@dataclass(frozen=True, slots=True, kw_only=True)
class Metrics:
    """The service's Prometheus figures.

    They are in a registry of their own, so that several applications can run in one process.
    """

    registry: CollectorRegistry
    runs: Counter
    step_seconds: Histogram
    evaluations: Counter
    plans: Counter
    events_published: Counter
    publish_failures: Counter
    events_given_up: Counter
    runs_waiting: Gauge
    outbox_waiting: Gauge
    outbox_lag: Gauge
    requests: Counter
    request_seconds: Histogram


def new_metrics() -> Metrics:
    """Return fresh figures, all zero."""
    registry = CollectorRegistry()
    return Metrics(
        registry=registry,
        runs=Counter("budsim_runs", "Runs by how they ended", ["status"], registry=registry),
        step_seconds=Histogram(
            "budsim_step_seconds", "Duration of one step of a run", ["step"], registry=registry
        ),
        evaluations=Counter(
            "budsim_evaluations", "Distinct candidates predicted", registry=registry
        ),
        plans=Counter(
            "budsim_plan_groups",
            "Replica groups answered, by what the prediction rests on",
            ["basis"],
            registry=registry,
        ),
        events_published=Counter(
            "budsim_events_published", "Events handed to the broker or the log", registry=registry
        ),
        publish_failures=Counter(
            "budsim_publish_failures", "Events the sidecar did not take", registry=registry
        ),
        events_given_up=Counter(
            "budsim_events_given_up",
            "Events that their topic refused for too long",
            registry=registry,
        ),
        runs_waiting=Gauge(
            "budsim_runs_waiting",
            "Accepted runs that have not ended, of all replicas",
            registry=registry,
        ),
        outbox_lag=Gauge(
            "budsim_outbox_lag_seconds",
            "Age of the oldest event not yet handed over",
            registry=registry,
        ),
        outbox_waiting=Gauge(
            "budsim_outbox_waiting", "Events not yet handed over", registry=registry
        ),
        requests=Counter(
            "budsim_requests", "HTTP requests", ["method", "route", "status"], registry=registry
        ),
        request_seconds=Histogram(
            "budsim_request_seconds", "Duration of HTTP requests", ["route"], registry=registry
        ),
    )


def configure_logging(level: str) -> None:
    """Write one JSON object per log line to stderr, with the workflow and trace ids in it."""
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.format_exc_info,
            structlog.processors.JSONRenderer(),
        ],
        wrapper_class=structlog.make_filtering_bound_logger(logging.getLevelNamesMapping()[level]),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
    )
