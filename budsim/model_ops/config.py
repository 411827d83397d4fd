"""Reads a Hugging Face config.json into an Architecture, by its ``model_type``."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final

from budsim.commons.errors import InvalidInput, UnsupportedModel
from budsim.commons.precision import Precision
from budsim.model_ops.architecture import Architecture, Quantization
from budsim.model_ops.config_reader import ConfigReader
from budsim.model_ops.families.common_names import with_common_names
from budsim.model_ops.families.decoder import read_decoder
from budsim.model_ops.families.model_types import CLASS_READERS, READERS
from budsim.model_ops.families.text_model import TextModel, group_layers
from budsim.model_ops.families.traits import FamilyTraits
from budsim.model_ops.families.wrapped import CLASSES, TEXT_PARTS, text_part
from budsim.model_ops.quantization import quantization_from, with_short_experts
from budsim.model_ops.rotary import rotary_values
from budsim.model_ops.towers.reading import encoders_of, tower_parameters

DTYPES: Final = {
    "bfloat16": Precision.BF16,
    "float16": Precision.FP16,
    "half": Precision.FP16,
    "float32": Precision.FP32,
    "float": Precision.FP32,
    "float8_e4m3fn": Precision.FP8,
}

# What a model that also speaks states for all of its parts.
OF_WHOLE: Final = ("architectures", "model_type", "quantization_config", "torch_dtype", "dtype")

# Classes without an output head: bodies, classifiers, reward models.
POOLING: Final = re.compile(
    r"(?<!LMHead)(?<!ChatGLM)(?<!Chat)(?<!DashengLM)(?<!Omni)Model$"
    r"|For(Sequence|Token)Classification$"
)

LLAMA_KEYS: Final = (
    "hidden_size",
    "num_hidden_layers",
    "num_attention_heads",
    "intermediate_size",
    "vocab_size",
    "max_position_embeddings",
)

# Fields that do not change the shape of a Llama-like model, or change it as they change a Llama's.
HARMLESS: Final = frozenset(
    "architectures attention_bias attention_dropout auto_map bos_token_id dtype embd_pdrop "
    "eos_token_id head_dim hidden_act hidden_activation hidden_dropout id2label initializer_range "
    "label2id layer_norm_eps mlp_bias model_type name_or_path num_key_value_heads pad_token_id "
    "pretraining_tp quantization_config resid_pdrop rms_norm_eps rope_parameters rope_scaling "
    "rope_theta sep_token_id sliding_window tie_word_embeddings tokenizer_class torch_dtype "
    "transformers_version unk_token_id "
    "use_cache".split()
)


def architecture_from_config(model_id: str, config: Mapping[str, object]) -> Architecture:
    """Return the shape a config.json describes.

    Layers for multi-token prediction are not counted: engines load them only to speculate.

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
    _check_is_object(config)
    outer = _served_part(ConfigReader(config))
    text = with_common_names(text_part(outer))
    text_model = _text_model(outer, text)
    encoders = encoders_of(outer, text_model.hidden)
    towers = tower_parameters(outer, encoders, text_model.hidden)
    quantization = _quantization(outer, text, len(text_model.layers))
    kind = outer.text("model_type")
    family = (outer.texts("architectures") or ("",))[0] or CLASSES.get(kind, kind)
    return Architecture(
        model_id=model_id,
        family=family,
        hidden_size=text_model.hidden,
        vocab_size=text_model.vocabulary,
        max_context_tokens=text_model.context,
        layers=group_layers(text_model.layers),
        native_precision=quantization.precision if quantization else _dtype(outer, text),
        tied_embeddings=text_model.tied,
        encoder_layers=group_layers(text_model.encoder_layers),
        is_embedding=text_model.is_bidirectional or bool(POOLING.search(family)),
        is_bidirectional=_is_bidirectional(text, text_model),
        position_embeddings=text_model.positions,
        layer_inputs=text_model.layer_inputs,
        extra_parameters=text_model.all_extra_parameters + towers,
        rotary_values=rotary_values(text, text_model),
        quantization=quantization,
        encoders=encoders,
    )


def _check_is_object(config: object) -> None:
    if not isinstance(config, Mapping):
        raise InvalidInput(
            "config", f"a {type(config).__name__}", "an object: the contents of config.json"
        )


def _is_bidirectional(text: ConfigReader, model: TextModel) -> bool:
    return model.is_bidirectional or text.raw("use_bidirectional_attention")[1] is True


def _quantization(outer: ConfigReader, text: ConfigReader, layers: int) -> Quantization | None:
    """Return how the checkpoint's weights are quantized, None where they are not."""
    declared = _quantization_fields(outer, text)
    quantization = quantization_from(declared, layers)
    # DeepSeek declares the whole checkpoint FP8 and states the experts' format elsewhere.
    if quantization and declared and _has_fp4_experts(outer, declared):
        return with_short_experts(quantization, declared)
    return quantization


def _has_fp4_experts(outer: ConfigReader, declared: ConfigReader) -> bool:
    """Return whether experts are FP4; DeepSeek V4 says so outside the quantization, V4.1 inside."""
    return "fp4" in {outer.text("expert_dtype"), declared.text("expert_dtype")}


def _served_part(outer: ConfigReader) -> ConfigReader:
    """Return the part that engines serve: the thinker of a model that also speaks."""
    thinker = outer.nested("thinker_config")
    if thinker is None:
        return outer
    stated = {name: outer.values[name] for name in OF_WHOLE if name in outer.values}
    return ConfigReader({**thinker.values, **stated}, thinker.prefix)


def _text_model(outer: ConfigReader, text: ConfigReader) -> TextModel:
    model_type = text.text("model_type")
    if not model_type:
        raise InvalidInput(
            text.path("model_type"), "missing", "the model_type of the checkpoint, such as 'llama'"
        )
    if model_type in READERS:
        read, traits = READERS[model_type]
        return read(text, traits)
    named = next((name for name in outer.texts("architectures") if name in CLASS_READERS), "")
    if named:
        read, traits = CLASS_READERS[named]
        return read(text, traits)
    # Many new names are Llamas; a wrapper's unknown tower cannot be counted, so it is refused.
    if not any(map(outer.has, TEXT_PARTS)) and all(outer.has(key) for key in LLAMA_KEYS):
        return _llama_like(outer, model_type)
    raise UnsupportedModel(
        text.path("model_type"),
        f"{model_type!r} is not known",
        f"one of {', '.join(sorted(READERS))}",
    )


def _llama_like(fields: ConfigReader, model_type: str) -> TextModel:
    strange = sorted(set(fields.values) - HARMLESS - set(LLAMA_KEYS))
    if strange:
        raise UnsupportedModel(
            "model_type",
            f"{model_type!r} is not known and {', '.join(strange[:5])} may change its shape",
            "a known model_type, or the fields of a Llama only",
        )
    return read_decoder(fields, FamilyTraits())


def _quantization_fields(outer: ConfigReader, text: ConfigReader) -> ConfigReader | None:
    for place in (outer, text):
        for name in ("quantization_config", "compression_config"):
            found = place.nested(name)
            if found is not None:
                return found
    return None


def _dtype(outer: ConfigReader, text: ConfigReader) -> Precision:
    # The text part may be stored in another format than the tower around it.
    for place in (text, outer):
        name, value = place.raw("torch_dtype", "dtype")
        if value is None:
            continue
        precision = DTYPES.get(str(value).removeprefix("torch."))
        if precision is None:
            raise UnsupportedModel(place.path(name), repr(value), f"one of {', '.join(DTYPES)}")
        return precision
    return Precision.BF16
