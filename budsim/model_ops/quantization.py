"""Reads ``quantization_config``: the format of the weights, and the matrices left in 16 bit."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import replace
from typing import Final

from budsim.commons.precision import Precision, bytes_per_value
from budsim.model_ops.architecture import Quantization
from budsim.model_ops.config_reader import MAX_LAYERS, ConfigReader
from budsim.model_ops.matrices import OUTER_ROLES, MatrixRole

MAX_BLOCK: Final = 4096
INTEGERS: Final = {4: Precision.INT4, 8: Precision.INT8}
EXCLUDE_KEYS: Final = (
    "modules_to_not_convert",
    "ignored_layers",
    "ignore",
    "exclude_modules",
    "exclude",
)

# The roles or matrices that a name in an exclude list stands for; the first pattern that matches
# the end of the name decides.
TAILS: Final[tuple[tuple[str, frozenset[MatrixRole | str]], ...]] = (
    (r"shared_experts?(?!_gate)\b.*$", frozenset({MatrixRole.SHARED_EXPERT})),
    (r"(self_attn|linear_attn|attention|mixer)[.*]*$", frozenset({MatrixRole.ATTENTION})),
    (r"indexer[.*]*(wq_b)?$", frozenset({"index_q", "index_k"})),
    (r"(q_a_proj|kv_a_proj_with_mqa)[.*]*$", frozenset({"q_kv_down", "kv_down"})),
    (r"q_b_proj[.*]*$", frozenset({"q_up"})),
    (r"kv_b_proj[.*]*$", frozenset({"kv_up"})),
    (r"(q_proj|k_proj|v_proj|qkv_proj)[.*]*$", frozenset({"qkv", "q"})),
    (r"o_proj[.*]*$", frozenset({"o"})),
    (
        r"mlp\.(gate|\(gate\|up\|gate_up\|down\)|gate_up|down)_proj[.*]*$",
        frozenset({MatrixRole.DENSE}),
    ),
    (r"mlp[.*]*$", frozenset({MatrixRole.DENSE, MatrixRole.SHARED_EXPERT})),
    (r"experts[.*]*$", frozenset({MatrixRole.EXPERT})),
    (
        r"layers\.\d+[.*]*$",
        frozenset(
            {MatrixRole.ATTENTION, MatrixRole.DENSE, MatrixRole.SHARED_EXPERT, MatrixRole.EXPERT}
        ),
    ),
)


# ModelOpt's names of weight formats.
ALGORITHMS: Final[Mapping[str, Precision]] = {
    "FP8": Precision.FP8,
    "FP8_PB_WO": Precision.FP8,
    "MXFP8": Precision.FP8,
    "NVFP4": Precision.NVFP4,
    "W4A16_NVFP4": Precision.NVFP4,
    "W4A16_AWQ": Precision.INT4,
}

# The role of a module listed by name in a checkpoint of several formats; the first pattern found
# decides.
ROLES: Final = (
    (r"shared_experts?\b", MatrixRole.SHARED_EXPERT),
    (r"\bexperts\b", MatrixRole.EXPERT),
    (r"lm_head", MatrixRole.HEAD),
    (r"attn|attention|mixer", MatrixRole.ATTENTION),
    (r"mlp|feed_forward", MatrixRole.DENSE),
)


def quantization_from(config: ConfigReader | None, layers: int) -> Quantization | None:
    """Return how the weights were quantized, ``None`` if they were not.

    Parameters
    ----------
    config : ConfigReader or None
        ``quantization_config`` (or ``compression_config``) of the config.json.
    layers : int
        Number of layers: an exclude list counts for a matrix when it covers at least half of them.

    Raises
    ------
    UnsupportedModel
        A method or bit width whose size is not known here.
    """
    if config is None:
        return None
    method = config.text("quant_method").lower().replace("-", "_")
    read = METHODS.get(method)
    if read is None:
        raise config.unsupported(
            "quant_method", repr(method), f"one of {', '.join(sorted(METHODS))}"
        )
    # Checkpoints of one format list modules too; only two formats need the list.
    if len(mix := _roles_by_precision(config)) > 1:
        return _several_formats(method, mix, config)
    roles, names = _kept(config, layers)
    # Checkpoints of this method (gpt-oss) quantize their experts alone.
    if method == "mxfp4":
        roles = roles | (frozenset(MatrixRole) - {MatrixRole.EXPERT})
    precision = read(config)
    return Quantization(
        method=method,
        precision=precision,
        kept_16bit=OUTER_ROLES | roles,
        kept_names=names,
        block=_block(config),
        bits=_bits(config, precision),
        group=_group(config, precision),
        kv_cache=_kv_cache(config),
    )


def _several_formats(
    method: str, mix: Mapping[Precision, frozenset[MatrixRole]], config: ConfigReader
) -> Quantization:
    """Return the quantization of a checkpoint that stores roles in several formats.

    ``precision`` is the shortest format, ``rest`` the second shortest.
    """
    short, rest, *_ = sorted(mix, key=bytes_per_value)
    return Quantization(
        method=method,
        precision=short,
        rest=rest,
        kept_16bit=frozenset(MatrixRole) - mix[short],
        kv_cache=_kv_cache(config),
    )


def _roles_by_precision(config: ConfigReader) -> Mapping[Precision, frozenset[MatrixRole]]:
    """Return the roles listed by name in each format; empty unless modules are listed by name."""
    found: dict[Precision, set[MatrixRole]] = {}
    for name, precision in (*_listed_layers(config), *_listed_groups(config)):
        role = next((role for pattern, role in ROLES if re.search(pattern, name)), None)
        if role is not None:
            found.setdefault(precision, set()).add(role)
    return {precision: frozenset(roles) for precision, roles in found.items()}


def _listed_layers(config: ConfigReader) -> Iterator[tuple[str, Precision]]:
    listed = config.nested("quantized_layers")
    for name in listed.values if listed else ():
        entry = listed.nested(name) if listed else None
        algorithm = entry.text("quant_algo").upper() if entry else ""
        if algorithm not in ALGORITHMS:
            raise config.unsupported(
                f"quantized_layers.{name}", repr(algorithm), f"one of {', '.join(ALGORITHMS)}"
            )
        yield name, ALGORITHMS[algorithm]


def _listed_groups(config: ConfigReader) -> Iterator[tuple[str, Precision]]:
    groups = config.nested("config_groups")
    if groups is None or len(groups.values) < 2:
        return
    for group in (groups.nested(name) for name in groups.values):
        if group is not None:
            precision = _group_precision(config, group)
            yield from ((str(target), precision) for target in group.texts("targets"))


def with_short_experts(quantization: Quantization, config: ConfigReader) -> Quantization:
    """Return the quantization of a checkpoint with FP4 experts and FP8 elsewhere.

    Experts are MXFP4 unless ``moe_quant_algo`` states NVFP4. The matrices that compress and index
    DeepSeek V4's cache entries stay in 16 bit (vLLM 0.33 ``deepseek_v4/compressor.py``).
    """
    return replace(
        quantization,
        precision=ALGORITHMS.get(config.text("moe_quant_algo").upper(), Precision.MXFP4),
        rest=Precision.FP8,
        kept_16bit=frozenset(MatrixRole) - {MatrixRole.EXPERT},
        kept_names=quantization.kept_names | {"compress", "index_k"},
    )


def _block(config: ConfigReader) -> int:
    """Return the longer edge of the blocks of weights that share a scale, 0 if there are none.

    ``weight_block_size``, or ``block_structure`` of compressed-tensors. The latter was text in old
    versions, which had no blocks of scales.
    """
    weights = _group_weights(config)
    if weights and not isinstance(weights.raw("block_structure")[1], str):
        return max(weights.integers("block_structure", count=2, high=MAX_BLOCK) or (0,))
    return max(config.integers("weight_block_size", count=2, high=MAX_BLOCK) or (0,))


def _bits_of_bitsandbytes(config: ConfigReader) -> float:
    twice = config.flag("bnb_4bit_use_double_quant", default=False)
    return 4 + (8 + 32 / 256 if twice else 32) / 64


def _bits(config: ConfigReader, precision: Precision) -> float | None:
    """Return the bits of an integer value with its share of its group's scale and zero point.

    Scales take 16 bits; symmetric groups have no zero point. INT4 in groups of 128 with zero points
    takes 4 + (16 + 4) / 128 bits. bitsandbytes gives each 64 values of 4 bit a 32-bit scale, or an
    8-bit one if quantized twice (arXiv 2305.14314, section 3).
    """
    if precision is Precision.INT4 and config.text("quant_method").lower() == "bitsandbytes":
        return _bits_of_bitsandbytes(config)
    whole = next((bits for bits, integer in INTEGERS.items() if integer is precision), None)
    weights = _group_weights(config) or config
    size = _group_size(weights)
    if whole is None or size is None:
        return None
    # Where nothing is said, zero points are counted: more memory, never less.
    symmetric = weights.values.get("symmetric", weights.values.get("sym", False)) is True
    return whole + (16.0 if symmetric else 16.0 + whole) / size


def _group_size(weights: ConfigReader) -> int | None:
    """Return how many values share a scale, None where no number above 0 says so."""
    size = weights.values.get("group_size")
    return size if isinstance(size, int) and not isinstance(size, bool) and size > 0 else None


def _kv_cache(config: ConfigReader) -> Precision | None:
    """Return the format of the KV cache a checkpoint has scales for: FP8, or none.

    ModelOpt states ``kv_cache_quant_algo``, compressed-tensors and newer ModelOpt
    ``kv_cache_scheme``, Quark the layers of ``kv_cache_group``.
    """
    scheme = config.nested("kv_cache_scheme")
    stated = config.values.get("kv_cache_quant_algo")
    has_scales = (
        (isinstance(stated, str) and stated.upper() == "FP8")
        or (scheme is not None and scheme.values.get("num_bits") == 8)
        or bool(config.values.get("kv_cache_group"))
    )
    return Precision.FP8 if has_scales else None


def _group(config: ConfigReader, precision: Precision) -> int:
    """Return how many values of a row of integers share a scale, 0 where a whole row does."""
    if precision not in INTEGERS.values() or config.text("quant_method") == "bitsandbytes":
        return 0
    weights = _group_weights(config) or config
    # Only a whole number above 0 states a group; -1 means the whole row.
    size = weights.values.get("group_size", weights.values.get("q_group_size"))
    if isinstance(size, bool) or not isinstance(size, int):
        return 0
    return size if 0 < size <= MAX_BLOCK else 0


def _group_weights(config: ConfigReader) -> ConfigReader | None:
    groups = config.nested("config_groups")
    group = next((groups.nested(name) for name in groups.values), None) if groups else None
    return group.nested("weights") if group else None


def _fp8(_: ConfigReader) -> Precision:
    return Precision.FP8


def _mxfp4(_: ConfigReader) -> Precision:
    return Precision.MXFP4


def _integer_bits(config: ConfigReader) -> Precision:
    bits = config.integer("bits", "w_bit", "weight_bits", high=16, default=4)
    if bits not in INTEGERS:
        raise config.unsupported("bits", f"{bits} bit", "4 or 8")
    return INTEGERS[bits]


def _bitsandbytes(config: ConfigReader) -> Precision:
    return Precision.INT8 if config.flag("load_in_8bit", default=False) else Precision.INT4


def _modelopt(config: ConfigReader) -> Precision:
    algorithm = config.text("quant_algo").upper()
    if algorithm in ALGORITHMS:
        return ALGORITHMS[algorithm]
    if config.nested("config_groups"):
        return _compressed_tensors(config)
    listed = dict(_listed_layers(config))
    if algorithm == "MIXED_PRECISION" and listed:
        return min(listed.values(), key=bytes_per_value)
    raise config.unsupported("quant_algo", repr(algorithm), f"one of {', '.join(ALGORITHMS)}")


def _compressed_tensors(config: ConfigReader) -> Precision:
    groups = config.nested("config_groups")
    group = next((groups.nested(name) for name in groups.values), None) if groups else None
    if group is None:
        raise config.unsupported(
            "config_groups", "no group with weights", "an object with a group of weights"
        )
    return _group_precision(config, group)


def _group_precision(config: ConfigReader, group: ConfigReader) -> Precision:
    weights = group.nested("weights")
    if weights is None:
        raise config.unsupported(
            "config_groups", "no group with weights", "an object with a group of weights"
        )
    bits, kind = weights.integer("num_bits", high=16), weights.text("type", default="int")
    declared = f"{config.text('format')} {group.text('format')}"
    # Both are E2M1; groups of 32 are MXFP4, groups of 16 NVFP4.
    if kind == "float" and bits == 4:
        return (
            Precision.MXFP4
            if "mxfp4" in declared or weights.raw("group_size")[1] == 32
            else Precision.NVFP4
        )
    found = (
        Precision.FP8
        if (kind, bits) == ("float", 8)
        else INTEGERS.get(bits)
        if kind == "int"
        else None
    )
    if found is None:
        raise weights.unsupported("num_bits", f"{bits} bit {kind}", "4 or 8 bit")
    return found


def _quark(config: ConfigReader) -> Precision:
    overall = config.nested("global_quant_config")
    weight = overall.nested("weight") if overall else None
    dtype = weight.text("dtype") if weight else ""
    known = {
        "fp8_e4m3": Precision.FP8,
        "fp4": Precision.MXFP4,
        "int8": Precision.INT8,
        "int4": Precision.INT4,
        "uint4": Precision.INT4,
    }
    if dtype not in known:
        raise config.unsupported(
            "global_quant_config.weight.dtype", repr(dtype), f"one of {', '.join(known)}"
        )
    return known[dtype]


METHODS: Final[Mapping[str, Callable[[ConfigReader], Precision]]] = {
    "fp8": _fp8,
    "fbgemm_fp8": _fp8,
    "mxfp4": _mxfp4,
    "gptq": _integer_bits,
    "awq": _integer_bits,
    "auto_round": _integer_bits,
    "bitsandbytes": _bitsandbytes,
    "compressed_tensors": _compressed_tensors,
    "modelopt": _modelopt,
    "modelopt_fp4": _modelopt,
    "quark": _quark,
}


def _kept(config: ConfigReader, layers: int) -> tuple[frozenset[MatrixRole], frozenset[str]]:
    covered: dict[MatrixRole | str, set[int]] = {}
    for excluded in _excluded(config):
        where = _layers_named(excluded, layers)
        for part in _kept_parts(excluded):
            covered.setdefault(part, set()).update(where)
    # Each matrix has one format for all layers here, so the majority of the layers decides.
    kept = [part for part, where in covered.items() if 2 * len(where) >= layers]
    roles = frozenset(part for part in kept if isinstance(part, MatrixRole))
    return roles, frozenset(part for part in kept if not isinstance(part, MatrixRole))


def _excluded(config: ConfigReader) -> Iterable[str]:
    for key in EXCLUDE_KEYS:
        value = config.values.get(key)
        if isinstance(value, list | tuple):
            yield from (str(item) for item in value)


def _layers_named(excluded: str, layers: int) -> set[int]:
    # A name without a number stands for all layers.
    number = re.search(r"layers\.(\d{1,4})(?!\d)", excluded)
    if number:
        return {int(number.group(1))} & set(range(min(layers, MAX_LAYERS)))
    return set(range(layers))


def _kept_parts(excluded: str) -> frozenset[MatrixRole | str]:
    # compressed-tensors marks patterns with `re:`; they end in escaped module names.
    name = excluded.removeprefix("re:").replace("\\.", ".").rstrip("$")
    return next((parts for pattern, parts in TAILS if re.search(pattern, name)), frozenset())
