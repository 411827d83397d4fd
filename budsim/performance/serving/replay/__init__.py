"""Serving request by request: what single requests see of a candidate under any traffic."""

from budsim.performance.serving.replay.answers import (
    Limits,
    Percentiles,
    Replayed,
    ReplayedService,
    Spread,
    Timeline,
    Unstable,
)
from budsim.performance.serving.replay.replay import Factors, replay
from budsim.performance.serving.replay.scheduling import FrontEnd, Host, Router

__all__ = [
    "Factors",
    "FrontEnd",
    "Host",
    "Limits",
    "Percentiles",
    "Replayed",
    "ReplayedService",
    "Router",
    "Spread",
    "Timeline",
    "Unstable",
    "replay",
]
