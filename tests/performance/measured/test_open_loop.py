"""Open loops as closed ones."""

from __future__ import annotations

from budsim.performance.measured.open_loop import settle
from tests.performance.measured.measured_rows import read


def test_a_request_rate_becomes_the_concurrency_that_follows() -> None:
    """Requests in flight are the rate times the latency (Little's law).

    More of them come with a higher rate.
    """
    slow, fast = settle(
        read({"concurrency": "", "request_rate": "1"}, {"concurrency": "", "request_rate": "8"})
    ).candidates.concurrency
    assert 0 < slow < fast
