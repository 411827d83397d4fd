"""A closed loop through two pools, event by event in plain Python: what the kernel is held to."""

from __future__ import annotations

from dataclasses import dataclass, field
from heapq import heappop, heappush, heapreplace

from budsim.performance.serving.pools.runs import Run


def served(
    run: Run, prompts: list[float], decoding: list[float]
) -> tuple[list[float], list[float]]:
    """Return when each request is sent and when its first token comes, seconds."""
    state = _State(
        run=run,
        prompts=prompts,
        decoding=decoding,
        most=run.most_prompts,
        places=run.places,
        free_clients=[0.0] * run.clients,
    )
    while state.answered < len(prompts):
        state.step()
    return state.sent, state.first


@dataclass(slots=True, kw_only=True)
class _State:
    """A run at one moment. ``starts`` is when each worker's next batch begins, inf for none."""

    run: Run
    prompts: list[float]
    decoding: list[float]
    most: int
    places: int
    free_clients: list[float]
    starts: list[float] = field(init=False)
    free: list[float] = field(init=False)
    waiting: list[list[int]] = field(init=False)
    held: list[list[float]] = field(init=False)
    sent: list[float] = field(default_factory=list)
    first: list[float] = field(init=False)
    placed: int = 0
    answered: int = 0

    def __post_init__(self) -> None:
        """Start with idle workers and free places."""
        self.starts = [float("inf")] * self.run.workers
        self.free = [0.0] * self.run.workers
        self.waiting = [[] for _ in range(self.run.workers)]
        places = min(self.places, len(self.free_clients))
        self.held = [[0.0] * places for _ in range(self.run.decode_workers)]
        self.first = [0.0] * len(self.prompts)

    def step(self) -> None:
        """Read the next batch, or send the next request, whichever is sooner."""
        worker = min(range(len(self.starts)), key=self.starts.__getitem__)
        is_over = len(self.sent) == len(self.prompts) or not self.free_clients
        if is_over or self.starts[worker] < self.free_clients[0]:
            self._read(worker)
        else:
            self._send(heappop(self.free_clients))

    def _send(self, now: float) -> None:
        request, worker = len(self.sent), len(self.sent) % len(self.starts)
        self.sent.append(now)
        if not self.waiting[worker]:
            self.starts[worker] = max(now, self.free[worker])
        self.waiting[worker].append(request)

    def _read(self, worker: int) -> None:
        batch = self.waiting[worker][: self.most]
        del self.waiting[worker][: self.most]
        took = self.run.batch_s
        for request in batch:
            took += self.prompts[request]
        done = self.starts[worker] + took
        self.free[worker] = done
        self.starts[worker] = done if self.waiting[worker] else float("inf")
        ready = done + took * self.run.further
        for request in batch:
            self._decode(request, ready)

    def _decode(self, request: int, ready: float) -> None:
        held = self.held[self.placed % len(self.held)]
        self.placed += 1
        self.answered += 1
        start = max(ready, held[0]) + self.run.more_s
        heapreplace(held, start + self.decoding[request])
        self.first[request] = start
        heappush(self.free_clients, start + self.decoding[request])
