"""A Hugging Face config.json becomes an Architecture: dispatch by model_type, then precision, quantization and vision tower."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final

from budsim.commons.errors import InvalidInput, UnsupportedModel
from budsim.commons.precision import Precision
from budsim.model_ops.architecture import Architecture
from budsim.model_ops.families.body import Body, grouped
from budsim.model_ops.families.decoder import Style, decoder
from budsim.model_ops.families.table import FAMILIES
from budsim.model_ops.fields import Fields
from budsim.model_ops.quantization import quantization_from, with_short_experts
from budsim.model_ops.rotary import rotary_values
from budsim.model_ops.vision import vision_parameters

DTYPES: Final = {
    "bfloat16": Precision.BF16,
    "float16": Precision.FP16,
    "half": Precision.FP16,
    "float32": Precision.FP32,
    "float": Precision.FP32,
    "float8_e4m3fn": Precision.FP8,
}

# Wrappers whose text model declares no model_type of its own.
TEXT_TYPES: Final = {
    "gemma3": "gemma3_text",
    "llama4": "llama4_text",
    "mistral3": "mistral",
    "minimax_m3_vl": "minimax_m3",
}

# Classes without an output head: bodies, classifiers, reward models.
POOLING: Final = re.compile(r"(?<!LMHead)(?<!ChatGLM)Model$|For(Sequence|Token)Classification$")

LLAMA_KEYS: Final = (
    "hidden_size",
    "num_hidden_layers",
    "num_attention_heads",
    "intermediate_size",
    "vocab_size",
    "max_position_embeddings",
)

# Fields that do not change the shape of a Llama-like model, or change it in the way Llama's do.
HARMLESS: Final = frozenset(
    "architectures attention_bias attention_dropout auto_map bos_token_id dtype embd_pdrop eos_token_id head_dim hidden_act "
    "hidden_activation hidden_dropout id2label initializer_range label2id layer_norm_eps mlp_bias model_type name_or_path "
    "num_key_value_heads pad_token_id pretraining_tp quantization_config resid_pdrop rms_norm_eps rope_parameters rope_scaling "
    "rope_theta sep_token_id sliding_window tie_word_embeddings tokenizer_class torch_dtype transformers_version unk_token_id "
    "use_cache".split()
)


def architecture_from_config(model_id: str, config: Mapping[str, object]) -> Architecture:
    """Return the shape a config.json describes.

    Layers that only predict further tokens ahead (multi-token prediction) are not counted: engines load them only to speculate.

    Parameters
    ----------
    model_id : str
        Name the architecture is to carry.
    config : mapping
        Contents of config.json, with ``quantization_config`` where the checkpoint is quantized.

    Raises
    ------
    UnsupportedModel
        A ``model_type`` that is not known, unless all its fields are those of a Llama.
    InvalidInput
        A field that is missing, of the wrong kind or absurd; the error names it.
    """
    if not isinstance(config, Mapping):
        raise InvalidInput(
            "config", f"a {type(config).__name__}", "an object: the contents of config.json"
        )
    outer = Fields(config)
    text = _text_fields(outer)
    body = _body(outer, text)
    vision = vision_parameters(outer, body.hidden)
    declared = _quantization_fields(outer, text)
    quantization = quantization_from(declared, len(body.layers))
    if quantization and declared and outer.text("expert_dtype") == "fp4":
        quantization = with_short_experts(quantization, declared)
    family = (outer.texts("architectures") or ("",))[0] or outer.text("model_type")
    return Architecture(
        model_id=model_id,
        family=family,
        hidden_size=body.hidden,
        vocab_size=body.vocabulary,
        max_context_tokens=body.context,
        layers=grouped(body.layers),
        native_precision=quantization.precision if quantization else _dtype(outer, text),
        tied_embeddings=body.tied,
        encoder_layers=grouped(body.encoder_layers),
        is_embedding=body.is_bidirectional or bool(POOLING.search(family)),
        is_bidirectional=body.is_bidirectional
        or text.raw("use_bidirectional_attention")[1] is True,
        position_embeddings=body.positions,
        extra_parameters=body.all_extra + vision,
        rotary_values=rotary_values(text, body),
        quantization=quantization,
    )


def _text_fields(outer: Fields) -> Fields:
    nested = outer.nested("text_config")
    if nested is None:
        return outer
    wrapper = outer.text("model_type")
    inherited = {
        key: value
        for key, value in outer.values.items()
        if key in {"tie_word_embeddings", "torch_dtype", "dtype"}
    }
    default = {"model_type": TEXT_TYPES[wrapper]} if wrapper in TEXT_TYPES else {}
    return Fields({**inherited, **default, **nested.values}, nested.prefix)


def _body(outer: Fields, text: Fields) -> Body:
    model_type = text.text("model_type")
    if not model_type:
        raise InvalidInput(
            text.path("model_type"), "missing", "the model_type of the checkpoint, such as 'llama'"
        )
    if model_type in FAMILIES:
        read, style = FAMILIES[model_type]
        return read(text, style)
    if text is outer and all(outer.has(key) for key in LLAMA_KEYS):
        return _llama_like(outer, model_type)
    raise UnsupportedModel(
        text.path("model_type"),
        f"{model_type!r} is not known",
        f"one of {', '.join(sorted(FAMILIES))}",
    )


def _llama_like(fields: Fields, model_type: str) -> Body:
    strange = sorted(set(fields.values) - HARMLESS - set(LLAMA_KEYS))
    if strange:
        raise UnsupportedModel(
            "model_type",
            f"{model_type!r} is not known and {', '.join(strange[:5])} may change its shape",
            "a known model_type, or the fields of a Llama only",
        )
    return decoder(fields, Style())


def _quantization_fields(outer: Fields, text: Fields) -> Fields | None:
    for place in (outer, text):
        for name in ("quantization_config", "compression_config"):
            found = place.nested(name)
            if found is not None:
                return found
    return None


def _dtype(outer: Fields, text: Fields) -> Precision:
    for place in (text, outer):
        name, value = place.raw("torch_dtype", "dtype")
        if value is None:
            continue
        precision = DTYPES.get(str(value).removeprefix("torch."))
        if precision is None:
            raise UnsupportedModel(place.path(name), repr(value), f"one of {', '.join(DTYPES)}")
        return precision
    return Precision.BF16
