"""A slow simulator of one replica that takes every step by itself: the truth the kernel is held to.

It shares no code and no shortcut with the kernel: sequences are objects in lists, every token is
counted, and the time of a step comes from a function of what is in it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np

from budsim.performance.serving.arrivals import ALWAYS_CACHED, Requests

StepSeconds = Callable[[Sequence[tuple[float, float]], Sequence[float]], float]
"""Seconds of a step of prompt pieces (tokens, mean context) and of decoding contexts."""
FIRST_RATIO, LEAST_RATIO, RATIO_STEPS, RETRACTED, LONGEST = 0.7, 0.098, 600, 0.1, 4096.0
"""SGLang's reserve for outputs to come."""


@dataclass(frozen=True, kw_only=True)
class Scheduler:
    """How the engine schedules; the fields mean what they mean in `scheduling.Schedulers`."""

    kind: str = "mixed"
    budget: float = 2048.0
    places: float = 64.0
    cache_tokens: float = 1e9
    block_tokens: float = 16.0
    reserves_output: bool = False
    whole_prompts: bool = False
    sharing: str = "after_prompt"
    lag: int = 1
    receive_steps: float = 0.0
    ranks: int = 1
    router: str = "in_turn"
    request_s: float = 0.001
    burst_s: float = 0.0
    token_s: float = 3e-6


@dataclass
class Asked:
    """One request on its way."""

    index: int
    prompt: float
    output: float
    reused: float
    reused_from: int
    sent: float = 0.0
    entered: float = 0.0
    ready: int = 0
    generated: float = 0.0
    computed: float = 0.0
    to_compute: float = 0.0
    cached: float = 0.0
    first: float = -1.0
    last: float = -1.0
    done: float = -1.0
    rank: int = 0
    kept_until: float = -1.0
    known: float = 0.0


@dataclass
class Rank:
    """One attention rank: requests that wait, that decode, and whose prompts are computed."""

    queue: list[Asked] = field(default_factory=list)
    decoding: list[Asked] = field(default_factory=list)
    starting: list[Asked] = field(default_factory=list)
    partial: Asked | None = None
    pieces: list[tuple[float, float]] = field(default_factory=list)
    allocated: float = 0.0
    ratio: float = FIRST_RATIO
    gate_open: bool = True

    @property
    def running(self) -> list[Asked]:
        """All requests in the cache, oldest first."""
        return [*self.decoding, *self.starting, *([self.partial] if self.partial else [])]

    @property
    def used(self) -> float:
        """Cache tokens held."""
        return sum(each.cached for each in self.running)


@dataclass
class Outcome:
    """Times of all requests, and every gap between two tokens of a request, seconds."""

    ttft: np.ndarray
    e2e: np.ndarray
    gaps: np.ndarray
    preemptions: int
    steps: int


class Simulator:
    """Serves requests step by step."""

    def __init__(self, requests: Requests, scheduler: Scheduler, seconds: StepSeconds) -> None:
        self.scheduler, self.seconds = scheduler, seconds
        self.requests = [
            Asked(
                index=at,
                prompt=requests.prompt_tokens[at],
                output=requests.output_tokens[at],
                reused=min(requests.reused_tokens[at], requests.prompt_tokens[at] - 1.0),
                reused_from=int(requests.reused_from[at]),
            )
            for at in range(len(requests))
        ]
        self.is_closed = requests.concurrency > 0
        self.send_s = requests.send_s
        self.unsent = list(self.requests)
        self.travelling: list[Asked] = []
        self.ranks = [Rank() for _ in range(scheduler.ranks)]
        self.now = self.host_free = self.since_receive = self.delivered = 0.0
        self.step = self.preemptions = self.turn = 0
        self.gaps: list[float] = []
        first = min(requests.concurrency, len(requests)) if self.is_closed else len(requests)
        self.together = first
        for _ in range(first):
            self.send(0.0)

    def run(self) -> Outcome:
        """Serve all requests."""
        while any(each.done < 0.0 for each in self.requests):
            self.take_step()
        first, done, sent = (
            np.array([getattr(each, name) for each in self.requests])
            for name in ("first", "done", "sent")
        )
        return Outcome(first - sent, done - sent, np.array(self.gaps), self.preemptions, self.step)

    def send(self, at: float) -> None:
        """Send the next request; the host reads one after another."""
        asked = self.unsent.pop(0)
        asked.sent = at if self.is_closed else float(self.send_s[asked.index])
        starts = max(asked.sent, self.host_free)
        self.host_free = starts + self.scheduler.request_s + self.scheduler.token_s * asked.prompt
        behind = self.together - 1 - asked.index if self.is_closed else 0
        asked.entered = self.host_free + self.scheduler.burst_s * max(behind, 0)
        self.travelling.append(asked)

    def receive(self) -> None:
        """Move arrived requests to the ranks' queues, in turn."""
        busy = any(rank.running for rank in self.ranks)
        idle = not busy and not any(rank.queue for rank in self.ranks)
        if idle and self.travelling:
            self.now = max(self.now, self.travelling[0].entered)
        interval = self.scheduler.receive_steps
        if not idle and interval > 1.0 and self.since_receive < interval:
            return
        self.since_receive = 0.0
        while self.travelling and self.travelling[0].entered <= self.now + 1e-12:
            asked = self.travelling.pop(0)
            asked.ready = self.step + (self.scheduler.lag if busy else 0)
            asked.rank = self.rank_for(asked)
            self.turn += 1
            self.ranks[asked.rank].queue.append(asked)

    def rank_for(self, asked: Asked) -> int:
        """Return the rank a request goes to: the next one, the emptiest, or where its prefix is."""
        ranks, router = len(self.ranks), self.scheduler.router
        in_turn = [(self.turn + after) % ranks for after in range(ranks)]
        if router == "in_turn":
            return in_turn[0]
        load = [
            4 * len(rank.queue) + len(rank.decoding) + bool(rank.partial) for rank in self.ranks
        ]
        emptiest = min(in_turn, key=lambda rank: load[rank])
        source = asked.reused_from
        if router == "prefix_aware" and 0 <= source < asked.index:
            home = self.requests[source].rank
            # A holder of the prefix that is far busier than the emptiest is passed over.
            return home if load[home] <= 2 * load[emptiest] + 4 else emptiest
        return emptiest

    def take_step(self) -> None:
        """Form one step on every rank, let its time pass, and hand out tokens."""
        self.receive()
        for rank in self.ranks:
            self.form(rank)
        mixed = self.scheduler.kind == "mixed"
        decoding = [rank for rank in self.ranks if rank.decoding and (mixed or not rank.pieces)]
        pieces = [piece for rank in self.ranks for piece in rank.pieces]
        contexts = [each.prompt + each.generated for rank in decoding for each in rank.decoding]
        if not pieces and not contexts:
            self.wait()
            return
        self.now += self.seconds(pieces, contexts)
        self.deliver()
        self.step += 1
        self.since_receive += self.scheduler.receive_steps if pieces else 1.0
        for rank in decoding:
            self.decode(rank)
        for rank in self.ranks:
            self.begin(rank)

    def deliver(self) -> None:
        """Tokens leave once the front end has read every request that came before them."""
        came = [each.entered for each in self.requests if each.entered and each.sent <= self.now]
        self.delivered = max([self.now, self.delivered, *came])

    def wait(self) -> None:
        """Nothing can run: go to the step in which a request is ready, or to the next arrival."""
        self.since_receive = self.scheduler.receive_steps
        ready = [rank.queue[0].ready for rank in self.ranks if rank.queue]
        if ready and min(ready) > self.step:
            self.step = min(ready)
        elif self.travelling:
            self.now = max(self.now, self.travelling[0].entered)

    def form(self, rank: Rank) -> None:
        """Choose the prompt pieces of a rank's step."""
        rank.pieces = []
        if rank.partial and self.scheduler.sharing == "after_step":
            rank.partial.known = rank.partial.computed
        kind = self.scheduler.kind
        if rank.decoding and self.make_room(rank):
            return
        if not rank.running:
            rank.gate_open = True
        if kind != "static" or rank.gate_open:
            budget = self.scheduler.budget - (len(rank.decoding) if kind == "mixed" else 0.0)
            reserved = self.reserve(rank)
            while budget > 0.0 and (rank.partial or self.admit(rank, budget, reserved)):
                budget -= self.compute(rank, budget)
        if rank.decoding and not rank.pieces:
            rank.gate_open = False

    def compute(self, rank: Rank, budget: float) -> float:
        """Compute a piece of the partial prompt; return its tokens."""
        asked = rank.partial
        assert asked is not None
        left = asked.to_compute - asked.computed
        tokens = left if self.scheduler.whole_prompts else min(left, budget)
        rank.pieces.append((tokens, asked.computed + tokens / 2.0))
        asked.computed += tokens
        if self.scheduler.sharing == "as_scheduled":
            asked.known = asked.computed
        if not self.scheduler.reserves_output:
            asked.cached += tokens
            rank.allocated += tokens
        if asked.computed >= asked.to_compute - 1e-9:
            rank.partial = None
            rank.starting.append(asked)
            return tokens
        return budget

    def reserve(self, rank: Rank) -> float:
        """Tokens SGLang keeps free for outputs to come."""
        if self.scheduler.kind != "prefill_first":
            return 0.0
        to_come = sum(each.output - each.generated for each in rank.decoding)
        return rank.ratio * min(to_come, LONGEST * len(rank.decoding))

    def hit(self, rank: Rank, asked: Asked) -> float:
        """Tokens of the prompt found in the rank's cache."""
        if asked.reused_from == ALWAYS_CACHED:
            return asked.reused
        shared, source = asked.reused, asked
        while source.reused_from >= 0:
            shared = min(shared, source.reused)
            source = self.requests[source.reused_from]
            if source.known > 0.0 and self.ranks[source.rank] is rank:
                return min(shared, source.known) if rank.allocated <= source.kept_until else 0.0
        return 0.0

    def admit(self, rank: Rank, budget: float, reserved: float) -> bool:
        """Take the first of the queue if there is a place and cache for it."""
        scheduler, running = self.scheduler, rank.running
        if not rank.queue or rank.queue[0].ready > self.step or len(running) >= scheduler.places:
            return False
        asked = rank.queue[0]
        hit = self.hit(rank, asked)
        left = asked.prompt - hit + asked.generated
        reserved += sum(
            min(each.output, LONGEST) for each in rank.starting if scheduler.kind == "prefill_first"
        )
        free = scheduler.cache_tokens - rank.used - reserved
        if self.needed(asked, hit, left, budget) > free and running:
            return False
        others = rank.pieces or (scheduler.kind == "mixed" and rank.decoding)
        if scheduler.whole_prompts and left > budget and others:
            return False
        rank.queue.pop(0)
        asked.kept_until = np.inf
        if scheduler.sharing != "after_prompt":
            asked.known = max(asked.known, hit)
        asked.computed, asked.to_compute = hit, hit + left
        new = scheduler.block_tokens / 2.0
        if scheduler.reserves_output:
            new += left + asked.output - asked.generated
        asked.cached = hit + new
        rank.allocated += new
        rank.partial = asked
        return True

    def needed(self, asked: Asked, hit: float, left: float, budget: float) -> float:
        """Cache tokens that must be free to admit a request."""
        to_come = asked.output - asked.generated
        if self.scheduler.reserves_output:
            return hit + left + to_come + self.scheduler.block_tokens / 2.0
        if self.scheduler.kind == "mixed":
            return hit + min(left, budget) + self.scheduler.block_tokens / 2.0
        return hit + left + min(to_come, LONGEST)

    def make_room(self, rank: Rank) -> bool:
        """Preempt the newest requests until all decoding ones may grow by a token."""
        before, free = self.preemptions, self.scheduler.cache_tokens
        if self.scheduler.reserves_output:
            return False
        while len(rank.running) > 1 and free - rank.used < len(rank.decoding):
            asked = rank.running[-1]
            if asked is rank.partial:
                rank.partial = None
            else:
                rank.decoding.remove(asked)
            self.release(rank, asked)
            asked.ready = 0
            rank.queue.insert(0, asked)
            rank.ratio = min(rank.ratio + RETRACTED, 1.0)
            self.preemptions += 1
        return self.preemptions > before

    def release(self, rank: Rank, asked: Asked) -> None:
        """Give back a request's cache; remember how much may be allocated until it is gone."""
        asked.cached = 0.0
        asked.kept_until = rank.allocated + self.scheduler.cache_tokens - rank.used

    def decode(self, rank: Rank) -> None:
        """One more token for every decoding sequence."""
        for asked in rank.decoding:
            asked.generated += 1.0
            self.gaps.append(self.now - asked.last)
            asked.last = self.now
            if not self.scheduler.reserves_output:
                asked.cached += 1.0
                rank.allocated += 1.0
        ended = [each for each in rank.decoding if each.generated >= each.output]
        rank.decoding = [each for each in rank.decoding if each.generated < each.output]
        for asked in ended:
            self.finish(rank, asked)
        rank.ratio = max(rank.ratio - (FIRST_RATIO - LEAST_RATIO) / RATIO_STEPS, LEAST_RATIO)

    def begin(self, rank: Rank) -> None:
        """Prompts are computed and their first tokens are out."""
        for asked in rank.starting:
            asked.first = self.delivered if asked.first < 0.0 else asked.first
            asked.known = asked.prompt
            if asked.generated > 0.0:
                self.gaps.append(self.now - asked.last)
            asked.last = self.now
            asked.generated += 1.0
        started, rank.starting = rank.starting, []
        rank.decoding += [each for each in started if each.generated < each.output]
        for asked in started:
            if asked.generated >= asked.output:
                self.finish(rank, asked)

    def finish(self, rank: Rank, asked: Asked) -> None:
        """End a request with its last token; in a closed loop its client sends the next request."""
        asked.done = self.delivered
        self.release(rank, asked)
        if self.is_closed and self.unsent:
            self.send(self.delivered)
