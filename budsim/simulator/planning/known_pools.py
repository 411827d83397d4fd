"""Two pools that are known, not searched: their options, and their workers as a table."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from budsim.engine_ops.base import ReplicaConfig, ServingEngine
from budsim.simulator.planning.choices import make_option
from budsim.simulator.planning.group_changes import row_of
from budsim.simulator.planning.pool_finalists import Groups
from budsim.simulator.planning.pool_plans import link_between, without_adapters
from budsim.simulator.planning.pool_search import (
    JudgedPools,
    PairedPools,
    judge_pools,
    replayed_pools,
)
from budsim.simulator.planning.pool_workers import tabulated_decode, tabulated_prefill
from budsim.simulator.planning.question import Question
from budsim.simulator.planning.scoring import Scoring

# Of the prefill and of the decode workers.
Configs = tuple[ReplicaConfig, ReplicaConfig]
Counts = tuple[int, int]


def scoring_of(
    question: Question, engine: ServingEngine, hardware: Groups, configs: Configs
) -> Scoring:
    """Return one option for each pool: its engine on its devices, in its format."""
    options = (
        make_option(question, group, engine, (config.weight_precision,))
        for group, config in zip(hardware, configs, strict=True)
    )
    return Scoring(question, without_adapters(question, tuple(options)))


def paired_of(scoring: Scoring, hardware: Groups, configs: Configs, counts: Counts) -> PairedPools:
    """Return workers of both pools, in these numbers, as a table of one row."""
    first, second = (row_of(*each) for each in zip(configs, counts, strict=True))
    second = replace(second, option=np.ones_like(second.option))
    return PairedPools(
        prefill=tabulated_prefill(scoring, first),
        decode=tabulated_decode(scoring, second),
        prefill_count=first.replicas,
        decode_count=second.replicas,
        link_bytes_per_s=link_between(*hardware),
    )


def judged_as_shown(question: Question, paired: PairedPools) -> JudgedPools:
    """Return what deployments do, as plans show it: replayed."""
    return replayed_pools(question, judge_pools(question, paired))
