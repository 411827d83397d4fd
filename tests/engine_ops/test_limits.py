"""Limits have one default each, and the rest of the code imports it."""

from __future__ import annotations

import inspect
import re
from pathlib import Path

import budsim
from budsim.engine_ops import limits, serving_engines
from budsim.engine_ops.base import ReplicaConfig
from budsim.engine_ops.limits import DEFAULT_MAX_LORA_RANK, LORA_RANKS
from budsim.hardware_ops.device import DeviceKind

ROOT = Path(budsim.__file__).parent


def test_nothing_else_writes_a_default_of_these_limits_as_a_number() -> None:
    """No parameter or field of these names has a number as its default outside `limits`."""
    written = re.compile(r"max_(lora_rank|num_seqs): [^=(\n]*= ?(Field\()?\d")
    found = [path for path in ROOT.rglob("*.py") if written.search(path.read_text("utf-8"))]
    assert [path for path in found if path != Path(inspect.getfile(limits))] == []


def test_the_default_rank_is_one_the_engines_take() -> None:
    """16, as vLLM has it."""
    assert DEFAULT_MAX_LORA_RANK in LORA_RANKS


def test_every_knob_is_one_the_search_turns() -> None:
    """What `budsim engines` lists is what a genome of the search holds."""
    from budsim.simulator.planning.genome import GENES

    for engine in serving_engines.values():
        for knob in engine.knobs(DeviceKind.CUDA):
            assert knob.name in GENES
            assert knob.name in ReplicaConfig.__dataclass_fields__
