"""What a population needs and how well it does: memory and service, as tables of arrays."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

import numpy as np
from numpy.typing import NDArray

from budsim.performance.candidates import Floats


class Basis(StrEnum):
    """What a prediction rests on.

    A measurement of a near-identical configuration, a regressor, or the analytic model alone.
    """

    MEASURED = "measured"
    LEARNED = "learned"
    ANALYTIC = "analytic"


@dataclass(frozen=True, slots=True, kw_only=True)
class MemoryUse:
    """Memory of the fullest device rank of each candidate, bytes; arrays of shape (n,).

    ``budget_bytes`` is what the engine may take. Weights, activations and reserve come out of it
    first, and the KV cache gets the rest. ``kv_capacity_tokens`` is what the whole replica holds as
    the engine counts it to admit requests, and as it logs it; ``kv_running_tokens`` what it holds
    of sequences whose prompts are processed, of which layers with a window keep just that.
    """

    budget_bytes: Floats
    weight_bytes: Floats
    activation_bytes: Floats
    reserved_bytes: Floats
    kv_bytes: Floats
    kv_bytes_per_token: Floats
    kv_capacity_tokens: Floats
    kv_running_tokens: Floats

    @property
    def fits(self) -> NDArray[np.bool_]:
        """Whether weights, activations, reserve and one cached token stay within the budget."""
        return self.kv_capacity_tokens >= 1.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Interval:
    """Lower and upper ends of a prediction interval; arrays of shape (n,)."""

    low: Floats
    high: Floats


def rate(tpot_s: Floats) -> Floats:
    """Return 1 / TPOT: tokens per second, 0 where no token is generated and none takes time."""
    return np.divide(1.0, tpot_s, out=np.zeros_like(tpot_s), where=tpot_s > 0)


def latency(ttft_s: Floats, tpot_s: Floats, output_tokens: Floats) -> Floats:
    """Return the end-to-end latency, seconds: TTFT and the remaining output tokens."""
    return ttft_s + np.maximum(output_tokens - 1.0, 0.0) * tpot_s


@dataclass(frozen=True, slots=True, kw_only=True)
class Service:
    """Predicted service of each candidate, as seen by one request; arrays of shape (n,).

    End-to-end latency and throughput follow from TTFT and TPOT and can never contradict them.
    """

    ttft_s: Floats
    tpot_s: Floats
    output_tokens: Floats
    concurrency: Floats

    @property
    def e2e_s(self) -> Floats:
        """End-to-end latency: TTFT and the remaining output tokens."""
        return latency(self.ttft_s, self.tpot_s, self.output_tokens)

    @property
    def tokens_per_s_per_user(self) -> Floats:
        """Output tokens one user receives per second after the first: 1 / TPOT, interactivity."""
        return rate(self.tpot_s)


@dataclass(frozen=True, slots=True, kw_only=True)
class Predictions:
    """Service with intervals, and what it rests on.

    Attributes
    ----------
    service : Service
        Best estimates.
    ttft_s, tpot_s, e2e_s, tokens_per_s_per_user : mappings of coverage (0.8, 0.9) to Interval
        Prediction intervals.
    learned : bool array, shape (n,)
        Whether a regressor corrected the analytic model.
    in_range : bool array, shape (n,)
        Whether the candidate lies inside what the regressors were trained on.
    measured : bool array, shape (n,)
        Whether a site's calibration holds a measurement of a near-identical configuration.
    measured_targets : mapping of "ttft" and "tpot" to bool array, shape (n,)
        Which of the two such a measurement corrected; empty without a calibration.
    time_s : float array, shape (len(BOUNDS), n)
        Where the analytic model sees a request's time go.
    percentiles : mapping of `PERCENTILES` to coverage to Interval
        Prediction intervals of percentiles over requests, seconds; empty without a replay.
    middles : mapping of ``ttft``, ``tpot``, ``e2e`` and `PERCENTILES` to float array, shape (n,)
        Medians of log(measured / predicted) in the row's stratum of measured servers; 0 where
        nothing is known.
    """

    service: Service
    ttft_s: Mapping[float, Interval]
    tpot_s: Mapping[float, Interval]
    e2e_s: Mapping[float, Interval]
    tokens_per_s_per_user: Mapping[float, Interval]
    learned: NDArray[np.bool_]
    in_range: NDArray[np.bool_]
    measured: NDArray[np.bool_]
    time_s: Floats
    percentiles: Mapping[str, Mapping[float, Interval]] = field(default_factory=dict)
    middles: Mapping[str, Floats] = field(default_factory=dict)
    measured_targets: Mapping[str, NDArray[np.bool_]] = field(default_factory=dict)

    def basis(self, row: int) -> Basis:
        """Return what the whole prediction of a row rests on: measured where TTFT and TPOT were."""
        bases = set(self.bases(row).values())
        return bases.pop() if len(bases) == 1 else self._unmeasured(row)

    def bases(self, row: int) -> dict[str, Basis]:
        """Return what TTFT and TPOT of a row rest on, each for itself."""
        rest = self._unmeasured(row)
        return {
            target: Basis.MEASURED
            if target in self.measured_targets and self.measured_targets[target][row]
            else rest
            for target in ("ttft", "tpot")
        }

    def _unmeasured(self, row: int) -> Basis:
        return Basis.LEARNED if self.learned[row] else Basis.ANALYTIC


# Percentiles over requests that have intervals of their own.
PERCENTILES = ("ttft_p50", "ttft_p99", "tpot_p99", "e2e_p99")

BOUNDS = ("weight bandwidth", "KV cache bandwidth", "compute", "link", "engine overhead", "queue")
