"""The search space of a cluster.

Genomes of integers, which of them are legal, and the choices each one spells.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from copy import copy
from functools import cached_property
from typing import Final

import numpy as np
from numpy.typing import ArrayLike

from budsim.commons.precision import Precision
from budsim.model_ops.architecture import Architecture
from budsim.performance.candidates import Integers
from budsim.performance.predictor import Predictor
from budsim.simulator.planning.choices import (
    PRECISIONS,
    Choices,
    ServingOption,
    replica_counts,
    with_burst_room,
)
from budsim.simulator.planning.hardware_groups import is_plain
from budsim.simulator.planning.question import Question
from budsim.simulator.planning.scoring import Scoring
from budsim.simulator.search_result import Scores

GENES: Final = (
    "option",
    "tp",
    "pp",
    "ep",
    "dp",
    "weights",
    "kv",
    "max_num_seqs",
    "max_num_batched_tokens",
    "memory_fraction",
    "replicas",
)
OPTION, TP, PP, EP, DP, WEIGHTS, KV, SEQS, BUDGET, FRACTION, REPLICAS = range(len(GENES))

# Genes of option, TP and PP: places in their lists of values.
Layout = tuple[int, int, int]


class SearchSpace:
    """The legal genomes over some serving options; see `budsim.simulator.evolution.Space`.

    A genome has one integer a gene: which option, and which value of that option's list for each
    setting. With the option "vLLM on eight H100", whose ``tp`` values are (1, 2, 4, 8) and whose
    ``max_num_seqs`` values are (16, 64, 256), the genes ``option=0, tp=2, max_num_seqs=1`` spell TP
    4 with at most 64 sequences.

    A genome is legal when

    * every gene names a value its option has, and the devices hold one replica of its layout;
    * experts are spread only where the engine can, and wherever it must; attention ranks divide TP,
      without a pipeline, and none lies on two nodes that only a network connects;
    * ``max_num_seqs`` is below the requests a rank can receive, so that some have to wait, or the
      smallest value with room for bursts: 10 requests a rank and the values (8, 12, 16, 32) leave 8
      and 16;
    * the step's token budget holds a token of every running sequence;
    * its number of replicas is one of `replica_counts`, and the devices hold them.

    `repair` turns any genome into a legal one that behaves alike where there is one.
    """

    def __init__(self, options: Sequence[ServingOption], question: Question) -> None:
        self.options = tuple(options)
        self.scoring = Scoring(question, self.options)
        self._concurrency = question.concurrency
        self._lengths = np.array([_lengths(option) for option in options], dtype=np.int64)
        self._tabulate_settings()
        self._tabulate_expert_spread(question.architecture)
        self._tabulate_capacity()
        self._tabulate_replicas()

    def _tabulate_settings(self) -> None:
        """Tabulate the values of each setting of each option.

        Options have lists of different lengths; tables are padded so that genes index them at once.
        """
        options = self.options
        self._tp = _padded([option.tp for option in options])
        self._pp = _padded([option.pp for option in options])
        self._dp = _padded([option.dp for option in options])
        self._seqs = _padded([option.max_num_seqs for option in options])
        self._budgets = _padded([option.max_num_batched_tokens for option in options])
        self._fractions = _padded([o.memory_fraction for o in options]).astype(np.float64)
        self._weights = _padded([_precision_codes(option.weights) for option in options])
        self._kv = _padded([_precision_codes(option.kv) for option in options])

    def _tabulate_expert_spread(self, architecture: Architecture) -> None:
        """Tabulate for each TP whether experts must or can be spread, and its least DP."""
        least_dp: list[list[int]] = []
        least_ep: list[list[int]] = []
        most_ep: list[list[int]] = []
        for option in self.options:
            spread = [option.engine.ep_sizes(architecture, tp) for tp in option.tp]
            ranks = [option.least_attention_ranks(tp) for tp in option.tp]
            least_dp.append([option.dp.index(dp) for dp in ranks])
            # Over a network, experts are spread and attention is not.
            is_spread = [sizes[0] > 1 or dp > 1 for sizes, dp in zip(spread, ranks, strict=True)]
            least_ep.append([int(each) for each in is_spread])
            most_ep.append([int(sizes[-1] > 1) for sizes in spread])
        self._least_dp, self._least_ep = _padded(least_dp), _padded(least_ep)
        self._most_ep = _padded(most_ep)
        self._tabulate_ranks()

    def _tabulate_ranks(self) -> None:
        """Tabulate which DP sizes divide each TP, shape (options, TP sizes, DP sizes)."""
        self._ranks_fit = np.zeros((*self._tp.shape, self._dp.shape[1]), dtype=bool)
        for number, option in enumerate(self.options):
            for t, tp in enumerate(option.tp):
                fit = np.isin(option.dp, option.attention_ranks(tp))
                self._ranks_fit[number, t, : len(option.dp)] = fit

    def under(self, question: Question) -> SearchSpace:
        """Return the space of the same options for the question under another load."""
        other = copy(self)
        vars(other).pop("count", None)
        other.scoring = Scoring(question, self.options)
        other._concurrency = question.concurrency
        other._tabulate_replicas()
        return other

    def _tabulate_capacity(self) -> None:
        """Tabulate how many replicas of each layout the devices hold."""
        shape = (len(self.options), self._tp.shape[1], self._pp.shape[1])
        self._capacities = np.zeros(shape, dtype=np.int64)
        for number, option in enumerate(self.options):
            for t, tp in enumerate(option.tp):
                held = [self._capacity(option, tp, pp) for pp in option.pp]
                self._capacities[number, t, : len(option.pp)] = held

    def _tabulate_replicas(self) -> None:
        """Tabulate how many replica counts each layout has, and its deepest legal pipeline."""
        most = max(1, int(self._capacities.max()))
        self._replicas = np.array(replica_counts(self._concurrency, most), dtype=np.int64)
        # A count is legal when the devices hold it, and counts ascend: how many is enough to know.
        self._replica_counts = np.searchsorted(self._replicas, self._capacities, side="right")
        self._deepest = np.maximum((self._replica_counts > 0).sum(axis=2) - 1, 0)
        longest = (int(length) for length in self._lengths[:, 1:].max(axis=0))
        self._sizes = (len(self.options), *longest, len(self._replicas))

    def _capacity(self, option: ServingOption, tp: int, pp: int) -> int:
        """Return how many replicas the devices hold; none of a layout that is not tried."""
        if self.scoring.question.plain_layouts and not is_plain(option.group, tp, pp):
            return 0
        return option.group.capacity(tp, pp)

    @cached_property
    def count(self) -> int:
        """See `Space.count`."""
        return sum(self._count_of_layout(*layout) for layout in self._layouts())

    @property
    def sizes(self) -> tuple[int, ...]:
        """See `Space.sizes`."""
        return self._sizes

    @property
    def knobs(self) -> tuple[int, ...]:
        """See `Space.knobs`."""
        return (SEQS, BUDGET, FRACTION)

    @property
    def replicas(self) -> Integers:
        """Numbers of replicas the gene of that name counts, ascending."""
        return self._replicas

    def replica_gene(self, replicas: int) -> int:
        """Return the gene of the most replicas that are at most so many."""
        return int(np.searchsorted(self._replicas, replicas, side="right")) - 1

    def legal_counts(self, genomes: Integers) -> Integers:
        """Return how many numbers of replicas the layout of each genome may have, from the least.

        Shape (n,).
        """
        return np.asarray(self._replica_counts[genomes[:, OPTION], genomes[:, TP], genomes[:, PP]])

    def score(self, genomes: Integers, predictor: Predictor) -> Scores:
        """Return objectives and violation of legal genomes; one prediction for all of them."""
        return self.scoring.score(self.decode(genomes), predictor)

    def decode(self, genomes: Integers) -> Choices:
        """Return the values legal genomes spell."""
        option = genomes[:, OPTION]
        tp = self._tp[option, genomes[:, TP]]
        replicas = self._replicas[genomes[:, REPLICAS]]
        budget = self._budgets[option, genomes[:, BUDGET]]
        return Choices(
            option=option,
            tp=tp,
            pp=self._pp[option, genomes[:, PP]],
            ep=np.where(genomes[:, EP] > 0, tp, 1),
            dp=self._dp[option, genomes[:, DP]],
            weights=self._weights[option, genomes[:, WEIGHTS]],
            kv=self._kv[option, genomes[:, KV]],
            max_num_seqs=self._seqs[option, genomes[:, SEQS]],
            max_num_batched_tokens=np.maximum(budget, self.scoring.least_step_tokens(option)),
            memory_fraction=self._fractions[option, genomes[:, FRACTION]],
            replicas=replicas,
            concurrency=-(-self._concurrency // replicas),
        )

    def niches(self, genomes: Integers) -> Integers:
        """Return a number for each genome's devices, option, TP, DP and formats.

        The front has something of nearly each.
        """
        genes = [OPTION, TP, DP, WEIGHTS, KV]
        columns = (self.decode(genomes).devices, *genomes[:, genes].T)
        sizes = (int(columns[0].max()) + 1, *np.array(self.sizes)[genes])
        return np.asarray(np.ravel_multi_index(columns, sizes))

    def repair(self, genomes: Integers) -> Integers:
        """See `Space.repair`; each step needs what those before it have repaired."""
        fixed = genomes.copy()
        option = fixed[:, OPTION]
        # Wrapping keeps random genes evenly spread; clipping would pile them up at the last value.
        fixed[:, 1:REPLICAS] %= self._lengths[option][:, 1:]
        self._repair_layout(fixed, option)
        self._repair_limits(fixed, option)
        return fixed

    def _repair_layout(self, fixed: Integers, option: Integers) -> None:
        """Make pipeline, spread of experts, attention ranks and replicas legal, in place."""
        fixed[:, PP] = np.minimum(fixed[:, PP], self._deepest[option, fixed[:, TP]])
        tp, pp = fixed[:, TP], fixed[:, PP]
        fixed[:, EP] = np.clip(fixed[:, EP], self._least_ep[option, tp], self._most_ep[option, tp])
        # Attention ranks of a pipeline's stages are documented by no engine.
        least = self._least_dp[option, tp]
        legal = self._ranks_fit[option, tp, fixed[:, DP]] & (pp == 0) & (fixed[:, DP] >= least)
        fixed[:, DP] = np.where(legal, fixed[:, DP], least)
        most = self._replica_counts[option, tp, pp] - 1
        fixed[:, REPLICAS] = np.minimum(fixed[:, REPLICAS], most)

    def _repair_limits(self, fixed: Integers, option: Integers) -> None:
        """Make ``max_num_seqs`` and the token budget legal for the requests of a rank, in place."""
        ranks = self._replicas[fixed[:, REPLICAS]] * self._dp[option, fixed[:, DP]]
        requests = -(-self._concurrency // ranks)
        binding, roomy = (
            (self._seqs[option] < least[:, None]).sum(axis=1)
            for least in (requests, with_burst_room(requests))
        )
        most = np.minimum(roomy, self._lengths[option, SEQS] - 1)
        fixed[:, SEQS] = np.where(fixed[:, SEQS] < binding, np.minimum(fixed[:, SEQS], most), most)
        # A step that cannot hold a token of each running sequence starves some of them.
        running = np.minimum(self._seqs[option, fixed[:, SEQS]], requests)
        roomy = (self._budgets[option] < running[:, None]).sum(axis=1)
        least = np.minimum(roomy, self._lengths[option, BUDGET] - 1)
        fixed[:, BUDGET] = np.maximum(fixed[:, BUDGET], least)

    def first_genomes(self, limit: int) -> Integers:
        """Return every layout in every format with generous limits.

        Where those are many, for some replica counts only.
        """
        layouts = list(self._layouts())
        # Every layout gets a look; with many of them replica counts are sampled evenly.
        formats = self._lengths[[option for option, _, _ in layouts], EP:SEQS].prod(axis=1).sum()
        most = max(2, limit // int(formats))
        return np.concatenate([self._generous(layout, most) for layout in layouts])

    def all_genomes(self, limit: int) -> Integers | None:
        """See `Space.all_genomes`."""
        if self.count > limit:
            return None
        return np.concatenate([self._of_layout(layout, {}) for layout in self._layouts()])

    def _layouts(self) -> Iterator[Layout]:
        """Yield every legal layout."""
        for number, option in enumerate(self.options):
            for tp in range(len(option.tp)):
                for pp in range(int(self._deepest[number, tp]) + 1):
                    yield number, tp, pp

    def _count_of_layout(self, option: int, tp: int, pp: int) -> int:
        """Return how many legal genomes a layout has, without making them.

        Formats, spread and memory fraction are free; so many times counts every legal set of ranks,
        replicas, ``max_num_seqs`` and token budget. Ten requests a rank, ``max_num_seqs`` of (8,
        16, 32) and budgets of (8, 512) leave two sequence limits (8 and 16): 8 goes with both
        budgets, 16 runs ten sequences and goes with 512 alone, three genomes.
        """
        values, devices = self.options[option], int(self._tp[option, tp])
        spread = int(self._most_ep[option, tp] - self._least_ep[option, tp]) + 1
        free = len(values.weights) * len(values.kv) * len(values.memory_fraction) * spread
        least = values.dp[int(self._least_dp[option, tp])]
        ranks = [
            dp for dp in values.attention_ranks(devices) if dp >= least and (pp == 0 or dp == 1)
        ]
        replicas = self._replicas[: self._replica_counts[option, tp, pp]]
        requests = -(-self._concurrency // np.outer(ranks, replicas).ravel())
        seqs, budgets = np.array(values.max_num_seqs), np.array(values.max_num_batched_tokens)

        def budgets_for(running: Integers) -> Integers:
            """Return how many token budgets admit these running requests; at least one does."""
            return len(budgets) - np.minimum(np.searchsorted(budgets, running), len(budgets) - 1)

        largest = np.minimum(np.searchsorted(seqs, with_burst_room(requests)), len(seqs) - 1)
        binding = np.minimum(np.searchsorted(seqs, requests), largest)
        of_smaller = np.concatenate([[0], np.cumsum(budgets_for(seqs))])[binding]
        of_largest = budgets_for(np.minimum(seqs[largest], requests))
        return int(free * (of_smaller + of_largest).sum())

    def _generous(self, layout: Layout, most: int) -> Integers:
        option, counts = self.options[layout[0]], int(self._replica_counts[layout])
        chosen: dict[int, ArrayLike] = {
            SEQS: [len(option.max_num_seqs) - 1],
            # The middle of the budgets suits both long prompts and short ones.
            BUDGET: [len(option.max_num_batched_tokens) // 2],
            FRACTION: [int(np.argmax(option.memory_fraction))],
            REPLICAS: np.unique(np.linspace(0, counts - 1, min(counts, most)).round()),
        }
        return self._of_layout(layout, chosen)

    def _of_layout(self, layout: Layout, chosen: Mapping[int, ArrayLike]) -> Integers:
        """Return the legal genomes of a layout, with only the ``chosen`` values of some genes."""
        lengths = [*self._lengths[layout[0], EP:].tolist(), int(self._replica_counts[layout])]
        values: dict[int, ArrayLike] = {
            **dict(zip((OPTION, TP, PP), ([gene] for gene in layout), strict=True)),
            **dict(enumerate(map(np.arange, lengths), start=EP)),
            **chosen,
        }
        grid = np.stack(np.meshgrid(*values.values(), indexing="ij"), axis=-1)
        genomes = grid.reshape(-1, len(GENES)).astype(np.int64)
        legal = self.repair(genomes)
        # One number a genome: unique rows of a table take four times as long to find.
        _, first = np.unique(np.ravel_multi_index(legal.T, self.sizes), return_index=True)
        return legal[first]


def _lengths(option: ServingOption) -> tuple[int, ...]:
    """Return how many values an option has of each gene but the number of replicas."""
    return (1, *(len(getattr(option, gene)) for gene in GENES[1:REPLICAS]))


def _precision_codes(precisions: Sequence[Precision]) -> list[int]:
    """Return the place of each precision in `PRECISIONS`."""
    return [PRECISIONS.index(precision) for precision in precisions]


def _padded(rows: Sequence[Sequence[float]]) -> Integers:
    """Return rows of unequal length as one array, each filled up with its last value."""
    width = max(len(row) for row in rows)
    return np.array([[*row, *[row[-1]] * (width - len(row))] for row in rows])
