"""Values of a config.json are read with checks, and errors name the field with its path."""

from __future__ import annotations

import pytest

from budsim.commons.errors import InvalidInput, UnsupportedModel
from budsim.model_ops.config_reader import ConfigReader


def test_the_first_name_that_is_present_counts() -> None:
    """A null counts as absent, so the second name is read."""
    config = ConfigReader({"n_layer": 12, "num_hidden_layers": None})
    assert config.integer("num_hidden_layers", "n_layer", high=100) == 12


def test_a_whole_float_is_a_whole_number() -> None:
    """Some exporters write 64.0; 64.5 and true are refused."""
    assert ConfigReader({"width": 64.0}).integer("width", high=100) == 64
    for wrong in (64.5, True, 101, 0):
        with pytest.raises(InvalidInput, match="width"):
            ConfigReader({"width": wrong}).integer("width", high=100)


def test_errors_name_the_objects_around_a_field() -> None:
    """``attn_config.kv_n_heads`` is missing from the nested object."""
    nested = ConfigReader({"attn_config": {}}).nested("attn_config")
    assert nested is not None
    with pytest.raises(InvalidInput) as refused:
        nested.integer("kv_n_heads", high=8)
    assert refused.value.field == "attn_config.kv_n_heads"


def test_lists_have_one_entry_for_each_layer() -> None:
    """A list of three for four layers is refused, whatever it lists."""
    config = ConfigReader({"kinds": ["a", "b", "c"], "numbers": [0, 1, 1], "blocks": [{}, {}, {}]})
    assert config.texts("kinds", count=3) == ("a", "b", "c")
    assert config.integers("numbers", count=3, high=1) == (0, 1, 1)
    assert len(config.objects("blocks", count=3)) == 3
    with pytest.raises(InvalidInput, match="kinds"):
        config.texts("kinds", count=4)
    with pytest.raises(InvalidInput, match="numbers"):
        config.integers("numbers", count=4, high=1)
    with pytest.raises(InvalidInput, match="blocks"):
        config.objects("blocks", count=4)


def test_objects_of_a_list_know_their_place() -> None:
    """A bad value in the second block is ``blocks[1].width``."""
    blocks = ConfigReader({"blocks": [{"width": 1}, {"width": "x"}]}).objects("blocks", count=2)
    with pytest.raises(InvalidInput) as refused:
        blocks[1].integer("width", high=8)
    assert refused.value.field == "blocks[1].width"


def test_an_error_shows_at_most_forty_characters_of_a_value() -> None:
    """A field of a thousand characters does not fill the caller's screen."""
    with pytest.raises(InvalidInput) as refused:
        ConfigReader({"tied": "x" * 1000}).flag("tied", default=False)
    assert len(str(refused.value)) < 200


def test_shapes_that_cannot_be_read_are_unsupported() -> None:
    """The error names the nested field."""
    error = ConfigReader({}, "text_config.").unsupported("layers", "shared", "layers of their own")
    assert isinstance(error, UnsupportedModel)
    assert error.field == "text_config.layers"
