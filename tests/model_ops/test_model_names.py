"""Names are compared by letters and numbers, and only if a single shape answers to them."""

from __future__ import annotations

from budsim.model_ops import model_names
from budsim.model_ops.catalog import catalog_entries
from budsim.model_ops.model_names import spellings


def test_spellings_that_several_shapes_share_mean_none() -> None:
    """Numbers stay apart: 3.1 and 8 are not 3 and 18; a spelling with two shapes is in no index."""
    assert spellings("Llama-3.1-8B") == spellings("LLaMA 3.1 8B") != spellings("llama-3-18b")
    configs: dict[str, list[object]] = {}
    for key, entry in catalog_entries().items():
        for spelling in set(spellings(key.rsplit("/", 1)[-1])):
            configs.setdefault(spelling, []).append(entry.config)
    assert all(
        config == entry.config
        for spelling, entry in model_names._by_spelling().items()
        for config in configs[spelling]
    )
    assert model_names._by_spelling().keys() < configs.keys()
