"""Every model_type that is listed is read, or refused for a stated reason."""

from __future__ import annotations

import pytest

from budsim.commons.errors import InvalidInput
from budsim.model_ops.config import architecture_from_config
from budsim.model_ops.families.model_types import READERS
from tests.model_ops.configs import LAYER, llama


@pytest.mark.parametrize("model_type", sorted(READERS))
def test_a_small_llama_of_any_family_is_a_shape_or_a_named_field(model_type: str) -> None:
    """No family ends in a traceback when the fields of a Llama are all there is."""
    problem = ""
    parameters = 0
    try:
        model = architecture_from_config("small", llama(model_type=model_type))
        parameters = model.parameters
    except InvalidInput as refused:
        problem = refused.field
    assert bool(problem) != bool(parameters)


@pytest.mark.parametrize(
    "model_type", ["llama", "solar", "step1", "telechat3", "TeleFLM", "aquila"]
)
def test_families_without_traits_are_llamas(model_type: str) -> None:
    """They differ from Llama in name, positions or training, not in weights."""
    model = architecture_from_config("small", llama(model_type=model_type))
    assert model.parameters == 2 * LAYER + 2 * 6400 + 64
