"""What a capacity costs against a plain question, and whether the question agrees with it.

``python -m tests.benchmarks.capacities``, off by default: about two minutes. Questions are drawn at
random: clusters of one to three types of devices, seven models, requests in flight, at rates and of
traces, with prefixes, adapters and pools, and targets on means, percentiles, gaps and goodput. CPU
time of both is taken in one process, one after the other.
"""

import argparse
import math
import sys
import time
from dataclasses import replace

import numpy as np

from budsim.performance.lengths import EmpiricalLength
from budsim.performance.predictor import Predictor, load_predictor
from budsim.performance.prefixes import PrefixSet, PrefixShare, Sessions
from budsim.performance.recorded import Trace
from budsim.performance.traffic import OpenLoop, Traffic
from budsim.simulator.planning.answer import answer
from budsim.simulator.planning.carried import RATE_STEP, under
from budsim.simulator.planning.question import Disaggregation, Question
from budsim.simulator.planning.sizing import capacities
from budsim.simulator.planning.targets import PercentileTarget
from tests.simulator.situations import make_cluster, make_question

DEVICES = "H100-SXM H200-SXM B200 A100-SXM4-80GB L40S L4 A10G MI300X H100-PCIe".split()
MODELS = (
    *["meta-llama/Llama-3.1-8B-Instruct"] * 2,
    "meta-llama/Llama-3.1-70B-Instruct",
    "Qwen/Qwen3-32B",
    "openai/gpt-oss-120b",
    "mistralai/Mixtral-8x7B-Instruct-v0.1",
    "Qwen/Qwen3-30B-A3B",
)
TARGETS = "mean means p99 percentiles gap goodput e2e".split()
TRAFFIC = "closed poisson gamma trace set share sessions adapters pools".split()
MOST_TIMES, LEAST_WITHIN = 2.0, 0.9
"""Nine of ten capacities cost at most twice a plain question."""


def main() -> int:
    """Print one line a question; 1 where too few capacities cost at most twice as much."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--questions", type=int, default=60)
    predictor, times = load_predictor(), []
    answer(drawn(1), predictor)
    for seed in range(1, parser.parse_args().questions + 1):
        times += measured(seed, drawn(seed), predictor)
    within = float(np.mean(np.array(times) <= MOST_TIMES))
    print(f"{len(times)} drawn: median {np.median(times):.2f} times, worst {max(times):.2f}")
    print(f"{within:.0%} at most {MOST_TIMES:g} times (at least {LEAST_WITHIN:.0%})")
    return int(within < LEAST_WITHIN)


def measured(seed: int, question: Question, predictor: Predictor) -> list[float]:
    """Return how many times a plain question it takes, in a list; none where nothing is carried."""
    start = time.process_time()
    found = capacities(question, predictor)[0]
    taken = time.process_time() - start
    load = round(found.rate / RATE_STEP) if question.traffic.is_open else found.concurrency
    if not load:
        return []
    start = time.process_time()
    meets = _meets(question, load, predictor)
    plain = time.process_time() - start
    more = _meets(question, max(load + 1, math.ceil(1.05 * load)), predictor)
    agrees = ["" if meets else "is missed", "5 % more is met" if more else ""]
    print(f"{seed:3d} {taken / plain:6.2f} times {plain:6.3f} s {load:10,d}", *agrees, flush=True)
    return [taken / plain]


def drawn(seed: int) -> Question:
    """Return a question about a cluster of one to three types of devices."""
    rng = np.random.default_rng(1000 + seed)
    nodes: list[tuple[tuple[str, int], ...]] = []
    for name in rng.choice(DEVICES, size=rng.choice([1, 2, 3], p=[0.5, 0.3, 0.2]), replace=False):
        whole = rng.random() < 0.25
        count = int(rng.integers(1, 5)) if whole else 1
        nodes += [((str(name), 8 if whole else int(rng.choice([1, 2, 4, 8]))),)] * count
    model, kind = str(rng.choice(MODELS)), str(rng.choice(TRAFFIC))
    prompt, output = int(rng.choice([256, 1024, 2048, 6000])), int(rng.choice([64, 128, 256, 500]))
    engines = (frozenset(), frozenset({"vllm"}), frozenset({"vllm", "sglang"}))
    asked = make_question(
        make_cluster(*nodes),
        model=model,
        input_tokens=prompt,
        output_tokens=output,
        targets=_targets(rng, output),
        chance=float(rng.choice([0.0, 0.8], p=[0.3, 0.7])),
        engines=frozenset({"vllm"}) if kind == "adapters" else engines[int(rng.integers(3))],
        max_loras=4 if kind == "adapters" else 0,
        disaggregation=Disaggregation.ALSO if kind == "pools" else Disaggregation.OFF,
    )
    return replace(asked, traffic=_traffic(rng, kind, asked.traffic))


def _targets(rng: np.random.Generator, output: int) -> dict[str, object]:
    kind, named = str(rng.choice(TARGETS)), PercentileTarget.named
    ttft, per_s = float(rng.choice([0.3, 0.5, 1.0, 2.0])), float(rng.choice([15, 20, 30, 50]))
    of_kind: dict[str, dict[str, object]] = {
        "mean": {"ttft_s": ttft},
        "means": {"ttft_s": ttft, "tokens_per_s_per_user": per_s},
        "p99": {"percentiles": (named("ttft_p99_s", 2 * ttft),)},
        "percentiles": {
            "percentiles": (named("ttft_p95_s", 2 * ttft), named("tpot_p99_s", 1.2 / per_s))
        },
        "gap": {"percentiles": (named("ttft_p99_s", 3 * ttft), named("itl_p99_s", 4 / per_s))},
        "goodput": {"ttft_s": 2 * ttft, "tokens_per_s_per_user": per_s, "goodput": 0.95},
        "e2e": {"e2e_s": 3 * ttft + output / per_s},
    }
    return of_kind[kind]


def _traffic(rng: np.random.Generator, kind: str, closed: Traffic) -> Traffic:
    """Return traffic of a kind: at a rate, in flight, or either of these."""
    prefixes = {
        "set": PrefixSet(share=0.6, tokens=float(rng.choice([1e5, 1e6, 1e7]))),
        "share": PrefixShare(share=0.5),
        "sessions": Sessions(turns=4, interval_s=10.0),
    }
    if kind == "trace":
        return _trace(rng, closed)
    if kind in prefixes:
        closed = replace(closed, prefix=prefixes[kind])
    is_closed = kind == "closed" or (kind not in {"poisson", "gamma"} and rng.random() < 0.5)
    arrival = "gamma:2" if kind == "gamma" else "poisson"
    return closed if is_closed else replace(closed, arrivals=OpenLoop.named(arrival, 1.0))


def _trace(rng: np.random.Generator, closed: Traffic) -> Traffic:
    """Return 3,000 requests whose gaps and lengths vary widely."""
    count, longest = 3000, 4 * closed.input_tokens
    prompt = np.clip(rng.lognormal(np.log(closed.input_tokens), 0.8, count), 16, longest)
    output = np.clip(rng.lognormal(np.log(closed.output_tokens), 0.6, count), 2, 1500)
    trace = Trace(
        send_s=np.cumsum(rng.gamma(0.5, size=count)),
        prompt_tokens=prompt.astype(np.int64),
        output_tokens=output.astype(np.int64),
        reused_from=np.full(count, -1),
        reused_tokens=np.zeros(count, dtype=np.int64),
    )
    lengths = (
        EmpiricalLength(values=tuple(each.astype(int).tolist())) for each in (prompt, output)
    )
    return Traffic(arrivals=trace, prompt=next(lengths), output=next(lengths))


def _meets(question: Question, load: int, predictor: Predictor) -> bool:
    plans = answer(under(question, load), predictor).plans
    return bool(plans) and plans[0].meets_targets


if __name__ == "__main__":
    sys.exit(main())
