"""Families whose layers share weights, which are known by name and cannot be counted here.

Looped models run the same layers several times; Zamba2 uses one attention block at many places.
Their weights are fewer than their work, and `Architecture` has one number of layers for both.
"""

from __future__ import annotations

from typing import NoReturn

from budsim.model_ops.config_reader import ConfigReader
from budsim.model_ops.families.traits import FamilyTraits


def refuse_shared_weights(config: ConfigReader, traits: FamilyTraits) -> NoReturn:
    """Refuse a model whose layers share weights.

    Raises
    ------
    UnsupportedModel
        Always.
    """
    del traits
    problem = f"layers of {config.text('model_type')!r} share weights"
    raise config.unsupported(
        "model_type", problem, "a model whose layers have weights of their own"
    )
