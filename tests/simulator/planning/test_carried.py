"""How much each way to run a replica carries by means, and types of devices together."""

import math
from dataclasses import replace

import numpy as np
import pytest

from budsim.commons.precision import Precision
from budsim.engine_ops import serving_engines
from budsim.performance.predictor import AnalyticPredictor
from budsim.performance.traffic import Traffic
from budsim.simulator.planning.answer import carried_loads
from budsim.simulator.planning.carried import (
    as_closed_loop,
    bounded,
    most_load,
    numbered,
    sums_of_groups,
    under,
)
from budsim.simulator.planning.choices import make_option
from budsim.simulator.planning.genome import SearchSpace
from budsim.simulator.planning.hardware_groups import usable
from budsim.simulator.planning.targets import PercentileTarget
from tests.simulator.situations import make_cluster, make_question

PREDICTOR = AnalyticPredictor()


def told(*nodes: tuple[tuple[str, int], ...], **changes: object) -> int:
    """Return the largest load told of a cluster, for 0.5 s to the first token; 0 for none."""
    changes.setdefault("targets", {"ttft_s": 0.5})
    asked = make_question(make_cluster(*nodes), analytic_only=True, **changes)
    return max(carried_loads(asked, PREDICTOR), default=0)


def test_nothing_is_told_where_nothing_is_carried():
    """No request sees its first token within a microsecond."""
    assert told((("H100-SXM", 1),), targets={"ttft_s": 1e-6}) == 0


def test_unlike_types_are_not_summed_where_no_mix_is_allowed():
    """Without mixes an A100 and an H100 carry what the better one does."""
    both = told((("A100-SXM4-80GB", 1),), (("H100-SXM", 1),), allow_mixed=False)
    alone = [told(((name, 1),)) for name in ("A100-SXM4-80GB", "H100-SXM")]
    assert both == max(alone)


def test_devices_left_by_one_layout_run_another():
    """On six Gaudi 3 one tp4 carries more with a tp2 beside it."""
    asked = make_question(
        make_cluster((("Gaudi3", 6),)),
        model="meta-llama/Llama-3.1-70B-Instruct",
        targets={"ttft_s": 0.5},
        analytic_only=True,
        engines=frozenset({"vllm"}),
    )
    option = make_option(
        asked,
        usable(asked.clusters[0], asked.mode, skip_master_cpus=True).groups[0],
        serving_engines["vllm"],
        (Precision.BF16,),
    )
    space = SearchSpace([option], asked)
    ways = bounded(space, PREDICTOR)
    of_tp = dict(zip(ways.choices.tp.tolist(), ways.low.tolist(), strict=True))
    four = ways.rows(np.flatnonzero((ways.choices.pp == 1) & (ways.choices.tp != 1)))
    alone = four.low * four.most
    assert max(sums_of_groups(space, four, alone)) == max(of_tp[4] + of_tp[2], alone.max())


def test_a_rate_is_counted_in_ten_thousandths():
    """A load of 25,000 is 2.5 requests/s; of a closed loop it is 25,000 requests in flight."""
    closed = make_question(make_cluster((("H100-SXM", 1),)))
    rate = Traffic.at_rate(requests_per_s=1.0, input_tokens=512, output_tokens=128)
    asked = make_question(make_cluster((("H100-SXM", 1),)))
    asked = replace(asked, traffic=rate)
    assert under(asked, 25_000).traffic.rate == pytest.approx(2.5)
    assert under(closed, 25_000).concurrency == 25_000
    assert most_load(asked) > most_load(closed)


def test_equal_rows_have_the_same_number():
    """(1, 5), (1, 6) and (1, 5) again are two different rows."""
    numbers = numbered(np.array([1, 1, 1]), np.array([5, 6, 5])).tolist()
    assert numbers[0] == numbers[2] != numbers[1]


def test_a_closed_loop_of_means_stands_for_percentiles():
    """A p99 of TTFT of 1 s bounds its mean by 1 s."""
    targets = {"percentiles": (PercentileTarget.named("ttft_p99_s", 1.0),)}
    closed = as_closed_loop(make_question(make_cluster((("H100-SXM", 1),)), targets=targets))
    assert closed.targets.ttft_s == 1.0
    assert not closed.needs_replay
    assert math.isnan(closed.traffic.rate)
