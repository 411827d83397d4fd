"""Models whose layers share weights are refused by name."""

from __future__ import annotations

import pytest

from budsim.commons.errors import UnsupportedModel
from budsim.model_ops.config import architecture_from_config
from tests.model_ops.configs import llama


@pytest.mark.parametrize("model_type", ["dory", "hrm_text", "iquestloopcoder", "ouro", "zamba2"])
def test_layers_that_share_weights_are_refused(model_type: str) -> None:
    """Counting such layers once or each would both be wrong."""
    with pytest.raises(UnsupportedModel, match="share weights"):
        architecture_from_config("looped", llama(model_type=model_type))
