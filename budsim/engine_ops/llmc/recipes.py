"""The recipe LLM Compressor is given: which modifiers quantize which matrices."""

from __future__ import annotations

from typing import Final

# Matrices that stay in 16 bit: the output head, routers of experts, and vision towers.
_IGNORED: Final = (
    "lm_head",
    "re:.*mlp[.]gate$",
    "re:.*router.*",
    "re:.*vision.*",
    "re:.*visual.*",
)

_KV_CACHE: Final = {
    "num_bits": 8,
    "type": "float",
    "strategy": "tensor",
    "dynamic": False,
    "symmetric": True,
}


def recipe_yaml(scheme: str, method: str, *, kv8: bool = False) -> str:
    """Return the recipe of ``scheme`` reached by ``method``, as YAML.

    AWQ only rescales and SmoothQuant only smooths: a quantizing modifier follows either.
    """
    import yaml

    quantizing: dict[str, object] = {
        "targets": ["Linear"],
        "scheme": scheme,
        "ignore": list(_IGNORED),
    }
    if kv8:
        quantizing["kv_cache_scheme"] = dict(_KV_CACHE)
    modifiers = _MODIFIERS[method](quantizing)
    recipe = {"quant_stage": {"quant_modifiers": modifiers}}
    return str(yaml.safe_dump(recipe, sort_keys=False))


def _round_to_nearest(quantizing: dict[str, object]) -> dict[str, object]:
    return {"QuantizationModifier": quantizing}


def _gptq(quantizing: dict[str, object]) -> dict[str, object]:
    return {"GPTQModifier": quantizing}


def _awq(quantizing: dict[str, object]) -> dict[str, object]:
    return {"AWQModifier": {"duo_scaling": True}, "QuantizationModifier": quantizing}


def _smooth(quantizing: dict[str, object]) -> dict[str, object]:
    # 0.8 is the smoothing strength of LLM Compressor's own W8A8 examples.
    return {"SmoothQuantModifier": {"smoothing_strength": 0.8}, "GPTQModifier": quantizing}


_MODIFIERS: Final = {
    "RTN": _round_to_nearest,
    "GPTQ": _gptq,
    "AWQ": _awq,
    "SMOOTHQUANT": _smooth,
}
