"""Times of single requests, summed up into one candidate's answer."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from budsim.performance.candidates import Floats
from budsim.performance.serving.replay.answers import (
    QUANTILES,
    Limits,
    Replayed,
    Spread,
    Timeline,
)
from budsim.performance.serving.replay.runs import Run

NOTHING = Spread(mean=np.nan, p50=np.nan, p90=np.nan, p95=np.nan, p99=np.nan)


def summarise(
    runs: Sequence[Run], *, reply_s: float, cache_tokens: float, limits: Limits, unseen: int = 0
) -> Replayed:
    """Return what one candidate's lanes did together.

    Parameters
    ----------
    runs : sequence of Run
        One a lane.
    reply_s : float
        From a token's step to the client, seconds.
    cache_tokens : float
        What all lanes can hold.
    limits : Limits
        What makes a request good.
    unseen : int
        Requests in flight that were not replayed, because they only wait.
    """
    sent, admitted, first, done, output = (_measured(runs, name) for name in _COLUMNS)
    rate = sum(throughput(each) for each in runs)
    # Requests that are not replayed only wait, which adds their number over the rate (Little's
    # law).
    sent = sent - unseen / rate - reply_s
    ttft, e2e = first - sent, done - sent
    several = output > 1.0
    tpot = (done - first)[several] / (output[several] - 1.0)
    good = (ttft <= limits.ttft_s) & (e2e <= limits.e2e_s)
    # A request of one token has no gap, so the limit on gaps does not bind it.
    good[several] &= tpot <= limits.itl_s
    cached = sum(float(each.cached_tokens.mean()) for each in runs)
    return Replayed(
        ttft_s=spread(ttft),
        itl_s=_gaps(runs),
        tpot_s=spread(tpot),
        e2e_s=spread(e2e),
        requests_per_s=rate,
        output_tokens_per_s=rate * float(output.mean()),
        good_share=float(good.mean()),
        good_requests_per_s=rate * float(good.mean()),
        # Little's law: the mean number in a state is the rate times the mean time in it.
        running=rate * float((done - admitted).mean()),
        waiting=rate * float((admitted - sent - reply_s).mean()),
        cache_share=cached / cache_tokens,
        peak_waiting=sum(each.peak_waiting for each in runs) + unseen,
        utilisation=float(np.mean([each.busy_s / max(_span(each), 1e-30) for each in runs])),
        preemptions=sum(each.preemptions for each in runs) / sum(len(each.send_s) for each in runs),
    )


def timeline(runs: Sequence[Run], cache_tokens: float) -> Timeline:
    """Return the load over time; lanes are summed at the times of the first."""
    time = runs[0].time_s

    def total(name: str) -> Floats:
        """Return the sum of one figure over all lanes at the times of the first."""
        each = (np.interp(time, run.time_s, getattr(run, name), right=0.0) for run in runs)
        return np.asarray(sum(each), dtype=np.float64)

    return Timeline(
        time_s=time,
        running=total("running"),
        waiting=total("waiting"),
        cache_share=total("cached_tokens") / cache_tokens,
    )


def spread(values: Floats) -> Spread:
    """Return mean and percentiles; nan where there are no values."""
    if not len(values):
        return NOTHING
    ordered = np.sort(values)
    places = np.array(QUANTILES) * (len(ordered) - 1)
    below = places.astype(np.int64)
    above = np.minimum(below + 1, len(ordered) - 1)
    p50, p90, p95, p99 = ordered[below] + (places - below) * (ordered[above] - ordered[below])
    mean = float(ordered.sum() / len(ordered))
    return Spread(mean=mean, p50=float(p50), p90=float(p90), p95=float(p95), p99=float(p99))


_COLUMNS = ("send_s", "admitted_s", "first_s", "done_s", "output_tokens")


def _measured(runs: Sequence[Run], name: str) -> Floats:
    return np.concatenate([getattr(each, name)[each.measured] for each in runs])


def _span(run: Run) -> float:
    return run.end_s - float(run.send_s[0])


def throughput(run: Run) -> float:
    """Return requests per second of one lane.

    Where requests go on after the measured ones, the time between their sends counts: in a closed
    loop each is the end of another one. Else the run ends with its last token.
    """
    start, end = run.measured.start, run.measured.stop
    if end <= start:
        return 0.0
    until = float(run.send_s[end]) if end < len(run.send_s) else float(run.done_s[start:].max())
    return float((end - start) / max(until - float(run.send_s[start]), 1e-30))


def _gaps(runs: Sequence[Run]) -> Spread:
    """Return mean and percentiles of all gaps; a percentile is the mean gap of its bin."""
    counts = np.sum([each.gap_counts for each in runs], axis=0)
    sums = np.sum([each.gap_sums_s for each in runs], axis=0)
    total = float(counts.sum())
    if total <= 0.0:
        return NOTHING
    kept = counts > 0.0
    means, shares = sums[kept] / counts[kept], np.cumsum(counts[kept]) / total
    at = np.minimum(np.searchsorted(shares, QUANTILES), len(shares) - 1)
    p50, p90, p95, p99 = (float(value) for value in means[at])
    return Spread(mean=float(sums.sum()) / total, p50=p50, p90=p90, p95=p95, p99=p99)
