"""Spaces of real models, devices, engines and targets, small enough to enumerate.

Where the search is held against the truth.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import cache, cached_property
from itertools import count

import moocore
import numpy as np

from budsim.engine_ops import serving_engines
from budsim.performance.candidates import Floats, Integers
from budsim.performance.predictor import AnalyticPredictor, Predictor
from budsim.simulator.evolution import CHUNK, SearchSettings, SearchSteps, run_together
from budsim.simulator.planning.choices import ServingOption, make_option, spanning_nodes
from budsim.simulator.planning.genome import SearchSpace
from budsim.simulator.planning.hardware_groups import usable
from budsim.simulator.planning.partitions import merge_results, partition_names, search_partitions
from budsim.simulator.planning.question import Question
from budsim.simulator.search_result import Scores, SearchResult
from tests.simulator.situations import make_cluster, make_question

H100, H200, A100, L40S = ("H100-SXM", 8), ("H200-SXM", 8), ("A100-SXM4-80GB", 8), ("L40S", 8)
GAUDI, XEON, MI300X, B200 = (
    ("Gaudi3", 8),
    ("Xeon Platinum 8480+", 2),
    ("MI300X", 8),
    ("B200-SXM", 8),
)
LIMIT = 4_000_000
"""Genomes a space may have at most to be enumerated here."""
REFERENCE = 1.1


def question(
    *nodes: tuple[str, int], model: str, load: tuple[int, int, int], **changes: object
) -> Question:
    """Return a question about one pool a node.

    ``load`` is prompt tokens, output tokens and concurrency.
    """
    names = ("input_tokens", "output_tokens", "concurrency")
    cluster = make_cluster(*((node,) for node in nodes))
    return make_question(cluster, model=model, **dict(zip(names, load, strict=True)), **changes)


def targets(
    ttft_s: float | None, tokens_per_s_per_user: float | None, e2e_s: float | None = None
) -> dict[str, float | None]:
    """Return targets by name."""
    return {"ttft_s": ttft_s, "tokens_per_s_per_user": tokens_per_s_per_user, "e2e_s": e2e_s}


@cache
def questions() -> dict[str, Question]:
    """Return the questions of the benchmark by name.

    From about a thousand genomes to about a million.
    """
    eight, seventy = "meta-llama/Llama-3.1-8B-Instruct", "meta-llama/Llama-3.1-70B-Instruct"
    only_vllm = {"engines": frozenset({"vllm"})}
    return {
        "8B, 4 L40S, vLLM": question(
            ("L40S", 4), model=eight, load=(512, 128, 48), targets=targets(0.3, 40.0), **only_vllm
        ),
        "7B, 8 Xeon nodes": question(
            *[XEON] * 8,
            model="mistralai/Mistral-7B-Instruct-v0.3",
            load=(256, 128, 64),
            targets=targets(4.0, 5.0),
            may_quantize=True,
        ),
        "8B, 8 L40S, quantized": question(
            ("L40S", 8),
            model=eight,
            load=(512, 128, 32),
            targets=targets(0.2, 50.0),
            may_quantize=True,
        ),
        "32B, 8 A100": question(
            A100,
            model="Qwen/Qwen2.5-32B-Instruct",
            load=(2000, 300, 48),
            targets=targets(2.0, 20.0, 20.0),
        ),
        "70B, H100 and Gaudi 3": question(
            H100, H100, GAUDI, model=seventy, load=(1024, 256, 64), targets=targets(1.5, 20.0, 20.0)
        ),
        "Mixtral, A100 and L40S": question(
            A100,
            L40S,
            model="mistralai/Mixtral-8x7B-Instruct-v0.1",
            load=(1024, 512, 64),
            targets=targets(1.0, 30.0),
        ),
        "DeepSeek-V3, H200": question(
            H200,
            H200,
            model="deepseek-ai/DeepSeek-V3",
            load=(4096, 512, 64),
            targets=targets(4.0, 15.0),
        ),
        "Qwen3-235B, H100": question(
            H100,
            H100,
            H100,
            H100,
            model="Qwen/Qwen3-235B-A22B",
            load=(2048, 512, 256),
            targets=targets(3.0, 15.0),
            may_quantize=True,
        ),
        "gpt-oss-120b, H100 and MI300X": question(
            H100,
            MI300X,
            model="openai/gpt-oss-120b",
            load=(8000, 1000, 100),
            targets=targets(5.0, 30.0),
        ),
        "405B, H200 and MI300X": question(
            H200,
            H200,
            MI300X,
            model="meta-llama/Llama-3.1-405B-Instruct",
            load=(1024, 1024, 32),
            targets=targets(2.0, None, 90.0),
            may_quantize=True,
        ),
        "8B, H100 and A100, quantized": question(
            H100,
            A100,
            model=eight,
            load=(2000, 300, 200),
            targets=targets(0.5, 60.0),
            may_quantize=True,
        ),
        "70B, five types, quantized": question(
            H100,
            A100,
            L40S,
            GAUDI,
            MI300X,
            model=seventy,
            load=(2048, 256, 128),
            targets=targets(2.0, 25.0),
            may_quantize=True,
        ),
        "8B, six types, 500 users": question(
            H100,
            A100,
            L40S,
            GAUDI,
            MI300X,
            B200,
            model=eight,
            load=(3000, 200, 500),
            targets=targets(1.0, 40.0, 8.0),
            may_quantize=True,
        ),
        "70B, no targets": question(
            H100, L40S, model=seventy, load=(1000, 1000, 100), may_quantize=True
        ),
    }


DRAWN_TYPES = (
    "H100-SXM H100-PCIe H200-SXM A100-SXM4-80GB A100-SXM4-40GB L40S L4 A10G T4 Gaudi2 Gaudi3 "
    "MI300X MI250X"
).split()
DRAWN_MODELS = (
    "meta-llama/Llama-3.1-8B-Instruct",
    "meta-llama/Llama-3.1-70B-Instruct",
    "Qwen/Qwen2.5-32B-Instruct",
    "mistralai/Mixtral-8x7B-Instruct-v0.1",
    "openai/gpt-oss-120b",
    "deepseek-ai/DeepSeek-V3",
)


def drawn(seed: int) -> Question:
    """Return a question about up to five nodes of different types, drawn at random.

    Nobody chose it because it goes well.
    """
    rng = np.random.default_rng(seed)
    types = rng.choice(DRAWN_TYPES, size=rng.integers(1, 6), replace=False)
    limits = targets(
        *(
            float(rng.choice(values))
            for values in ((0.3, 1.0, 3.0, 10.0), (5.0, 10.0, 20.0, 40.0), (5.0, 20.0, 60.0))
        )
    )
    given = rng.choice(list(limits), size=rng.integers(1, 4), replace=False)
    return question(
        *((str(name), int(rng.integers(1, 9))) for name in types),
        model=str(rng.choice(DRAWN_MODELS)),
        load=(
            int(rng.choice([128, 512, 2048, 8000])),
            int(rng.choice([64, 256, 1000])),
            int(np.exp(rng.uniform(1.0, 6.5))),
        ),
        targets={name: limits[name] for name in given},
        may_quantize=bool(rng.random() < 0.4),
    )


@cache
def space_of(name: str) -> SearchSpace:
    """Return every engine on every group of devices of a named question."""
    return make_space(questions()[name])


def make_space(asked: Question) -> SearchSpace:
    """Return every engine on every group of the devices of the question's first cluster."""
    return SearchSpace(options_of(asked), asked)


def options_of(asked: Question) -> list[ServingOption]:
    """Return every engine that serves the model on each device group of the first cluster."""
    groups = usable(asked.clusters[0], asked.mode, skip_master_cpus=True).groups
    options = []
    for group in spanning_nodes(asked, groups):
        for name, engine in serving_engines.items():
            if engine.why_not(asked.architecture, group.device) is None and (
                not asked.engines or name in asked.engines
            ):
                weights = engine.precisions(
                    asked.architecture, group.device, may_quantize=asked.may_quantize
                )
                options.append(make_option(asked, group, engine, weights))
    return options


@dataclass(frozen=True, kw_only=True)
class Truth:
    """A space looked at in full.

    A search may ask it for scores of legal genomes instead of a predictor.
    """

    explored: SearchResult
    keys: Integers
    sizes: tuple[int, ...]

    def score(self, genomes: Integers) -> Scores:
        """Return what was found of legal genomes."""
        wanted = np.ravel_multi_index(tuple(genomes.T), self.sizes)
        at = np.searchsorted(self.keys, wanted)
        assert (self.keys[at] == wanted).all(), "not a legal genome"
        return Scores(
            objectives=self.explored.objectives[at], violation=self.explored.violation[at]
        )

    @cached_property
    def best(self) -> Floats:
        """Return the objectives of the best genome."""
        return self.explored.objectives[self.explored.ranking()[0]]

    def found_by(self, search: SearchResult) -> bool:
        """Whether a search found one that misses no more than the best.

        Costs at most 1 % more.
        """
        miss, cost = search.objectives[search.ranking()[0]][:2]
        return bool(
            search.feasible.any() and miss <= self.best[0] + 1e-9 and cost <= 1.01 * self.best[1]
        )

    def hypervolume_ratio(self, search: SearchResult) -> float:
        """Return the hypervolume of the search's front over the true front's."""
        return self._hypervolume(search) / self._whole

    @cached_property
    def _whole(self) -> float:
        return self._hypervolume(self.explored)

    @cached_property
    def _scale(self) -> tuple[Floats, Floats]:
        front = self.explored.objectives[self.explored.front()]
        low, high = front.min(axis=0), front.max(axis=0)
        return low, np.where(high > low, high - low, np.maximum(np.abs(high), 1e-9))

    def _hypervolume(self, search: SearchResult) -> float:
        """Each objective from the true front's best (0) to its worst (1).

        The reference lies a tenth beyond the worst.
        """
        low, span = self._scale
        scaled = np.minimum((search.objectives[search.front()] - low) / span, REFERENCE)
        return float(moocore.hypervolume(scaled, ref=np.full(scaled.shape[1], REFERENCE)))


def enumerate_space(space: SearchSpace, predictor: Predictor) -> Truth:
    """Look at every legal genome of a space."""
    genomes = space.all_genomes(LIMIT)
    assert genomes is not None, f"more than {LIMIT} genomes"
    keys = np.ravel_multi_index(tuple(genomes.T), space.sizes)
    order = np.argsort(keys)
    explored = _enumerated(genomes[order], space, predictor)
    return Truth(explored=explored, keys=keys[order], sizes=space.sizes)


def _enumerated(genomes: Integers, space: SearchSpace, predictor: Predictor) -> SearchResult:
    starts = range(0, len(genomes), CHUNK)
    scores = [space.score(genomes[start : start + CHUNK], predictor) for start in starts]
    return SearchResult(
        genomes=genomes,
        objectives=np.concatenate([each.objectives for each in scores]),
        violation=np.concatenate([each.violation for each in scores]),
    )


def run_alone(steps: SearchSteps, evaluate: Callable[[Integers], Scores]) -> SearchResult:
    """Return the result of one search."""
    return run_together([steps], lambda asked: {0: evaluate(asked[0])})[0]


def drawn_truths(
    predictor: Predictor, largest: int, first: int = 0
) -> Iterator[tuple[Question, Truth]]:
    """Yield questions drawn with one seed after another, and all of their spaces.

    Those an answer would search, not enumerate.
    """
    for seed in count(first):
        asked = drawn(seed)
        options = options_of(asked)
        space = SearchSpace(options, asked) if options else None
        if space and SearchSettings().enumerate_below < space.count <= largest:
            truth = enumerate_space(space, predictor)
            if truth.explored.feasible.any():
                yield asked, truth


SEARCHED = SearchSettings(enumerate_below=0)
"""The usual settings, but that small spaces are searched too instead of looked at in full."""


class _Remembered(SearchSpace):
    """A space whose scores are looked up in its truth."""

    def __init__(self, asked: Question, truth: Truth) -> None:
        super().__init__(make_space(asked).options, asked)
        self._truth = truth

    def score(self, genomes: Integers, predictor: Predictor) -> Scores:
        """Return what was found of legal genomes."""
        return self._truth.score(genomes)


def search_remembered(
    asked: Question, truth: Truth, seed: int, settings: SearchSettings = SEARCHED
) -> tuple[SearchResult, int]:
    """Return what `answer` finds for a question with a seed, and how many genomes it looks at."""
    asked = replace(asked, seed=seed)
    space = _Remembered(asked, truth)
    names = partition_names("lab", space)
    found = search_partitions("lab", space, AnalyticPredictor(), names, settings=settings)
    return merge_results(
        space, AnalyticPredictor(), [found[name] for name in names], settings=settings
    )
