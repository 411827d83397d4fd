"""The router before prefill and decode workers: its package, its image and its command."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

# Predictions assume that the workers of a pool get requests in turn. The routers' own default,
# ``cache_aware``, lets one worker have 64 requests more than another (both routers' documentation).
POLICY: Final = "round_robin"
# How long the router waits for its workers, seconds. Its defaults are 10 or 30 minutes, and large
# weights take longer to load.
STARTUP_S: Final = 3600


@dataclass(frozen=True, slots=True, kw_only=True)
class PoolRouter:
    """A program that sends each request to a prefill and a decode worker.

    Attributes
    ----------
    package, version : str
        Its name on PyPI, and the version whose parser was read.
    image : str
        Image that has its program.
    program : tuple of str
        Words of its command before the workers.
    port : int
        Where it listens: next to the ports of the workers of a node.
    bootstrap : int, optional
        Added to a prefill worker's port, the port where decode workers reach it; None where the
        router is not told one.
    """

    package: str
    version: str
    image: str
    program: tuple[str, ...]
    port: int
    bootstrap: int | None = None

    def command(self, prefill: Sequence[str], decode: Sequence[str]) -> tuple[str, ...]:
        """Return its command for workers at these addresses (``http://host:port``)."""
        words = [word for each in prefill for word in ("--prefill", each, *self._bootstrap(each))]
        words += [word for each in decode for word in ("--decode", each)]
        policies = ("--prefill-policy", POLICY, "--decode-policy", POLICY)
        waits = ("--worker-startup-timeout-secs", str(STARTUP_S))
        where = ("--host", "0.0.0.0", "--port", str(self.port))
        return (*self.program, *words, *policies, *waits, *where)

    def _bootstrap(self, address: str) -> tuple[str, ...]:
        if self.bootstrap is None:
            return ()
        return (str(int(address.rpartition(":")[2]) + self.bootstrap),)
