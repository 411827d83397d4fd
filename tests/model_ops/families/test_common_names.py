"""Fields with names of their own are read under the common names."""

from __future__ import annotations

from budsim.model_ops.config import architecture_from_config
from budsim.model_ops.config_reader import ConfigReader
from budsim.model_ops.families.common_names import COMMON_NAMES, DEFAULTS, with_common_names
from budsim.model_ops.families.model_types import READERS
from tests.model_ops.configs import llama


def test_a_common_name_wins_over_the_family_s_own() -> None:
    """A config that states both keeps the common one."""
    stated = {"model_type": "afmoe", "num_dense_layers": 2, "first_k_dense_replace": 1}
    assert with_common_names(ConfigReader(stated)).values["first_k_dense_replace"] == 1
    own = with_common_names(ConfigReader({"model_type": "afmoe", "num_dense_layers": 2}))
    assert own.values["first_k_dense_replace"] == 2


def test_defaults_hold_where_the_config_is_silent() -> None:
    """OLMo-Hybrid has no output gate unless it says so."""
    silent = with_common_names(ConfigReader({"model_type": "olmo_hybrid"}))
    assert silent.values["attn_output_gate"] is False
    stated = ConfigReader({"model_type": "olmo_hybrid", "attn_output_gate": True})
    assert with_common_names(stated).values["attn_output_gate"] is True


def test_every_table_is_of_a_family_that_is_read() -> None:
    """No entry is left of a family that nobody reads."""
    assert set(COMMON_NAMES) | set(DEFAULTS) <= set(READERS)


def test_leading_dense_layers_of_trinity() -> None:
    """``num_dense_layers`` 1 of 2: one dense layer of 128, one of 4 experts of 32."""
    experts = {"num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 32}
    config = llama(model_type="afmoe", num_dense_layers=1, num_shared_experts=1, **experts)
    widths = [
        (group.feed_forward.width, group.feed_forward.experts)
        for group in architecture_from_config("afmoe", config).layers
        if group.feed_forward
    ]
    assert widths == [(128, 0), (32, 4)]
