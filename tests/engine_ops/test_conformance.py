"""Tests for every registered engine: it can launch what it offers and its parser agrees."""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from budsim import engine_ops
from budsim.commons.constants import ENGINE_COMPATIBILITY_MAPPING
from budsim.commons.errors import InvalidInput
from budsim.commons.precision import Precision
from budsim.engine_ops import compressors, routers, serving_engines
from budsim.engine_ops.base import Engine, ReplicaConfig, ServingEngine, Stage
from budsim.engine_ops.shared.arguments import (
    check_arguments,
    parse_command_line,
    shipped_arguments,
)
from budsim.engine_ops.shared.tables import load_table
from budsim.hardware_ops.device import DeviceKind
from budsim.model_ops.architecture import Architecture
from budsim.model_ops.registry import resolve_model
from tests.engine_ops.samples import GIB, LLAMA, device, real_arguments, replica

MODELS = (
    "meta-llama/Llama-3.1-8B-Instruct",
    "meta-llama/Llama-3.1-70B-Instruct",
    "Qwen/Qwen3-30B-A3B",
    "Qwen/Qwen3-235B-A22B-FP8",
    "Qwen/Qwen2.5-7B-Instruct",
    "deepseek-ai/DeepSeek-R1",
    "openai/gpt-oss-120b",
    "mistralai/Mixtral-8x7B-Instruct-v0.1",
    "BAAI/bge-large-en-v1.5",
    "Qwen/Qwen3-Embedding-8B",
    "Qwen/Qwen3-Reranker-4B",
)
DEVICES = (
    "H100-SXM",
    "A100-80GB",
    "T4",
    "B200-SXM",
    "L40S",
    "MI300X",
    "MI355X",
    "Gaudi3",
    "Xeon Platinum 8480+",
    "Graviton4",
)
# vLLM 0.32.0 wheel: vllm/tool_parsers/__init__.py and vllm/reasoning/__init__.py.
VLLM_TOOL_PARSERS = (
    "apertus cohere_command3 cohere_command4 deepseek_v3 deepseek_v31 deepseek_v32 deepseek_v4 "
    "ernie45 gemma4 glm45 glm47 granite granite-20b-fc granite4 hermes hunyuan_a13b internlm "
    "jamba kimi_k2 kimi_k3 llama3_json llama4_json llama4_pythonic mimo minimax_m2 minimax_m3 "
    "mistral olmo3 openai phi4_mini_json pythonic qwen3_coder qwen3_xml seed_oss step3p5 xlam"
).split()
VLLM_REASONING_PARSERS = (
    "cohere_command3 cohere_command4 deepseek_r1 deepseek_v3 deepseek_v4 ernie45 gemma4 glm45 "
    "glm47 granite hunyuan_a13b kimi_k2 kimi_k3 mimo minimax_m2 minimax_m2_append_think "
    "minimax_m3 mistral nemotron_v3 olmo3 openai_gptoss qwen3 seed_oss step3p5"
).split()
ENGINES = pytest.mark.parametrize("engine", serving_engines.values(), ids=serving_engines.keys())


@cache
def served() -> list[tuple[ServingEngine, str, str]]:
    """Return every engine with the models and devices it serves."""
    return [
        (engine, model, name)
        for engine in serving_engines.values()
        for model in MODELS
        for name in DEVICES
        if engine.why_not(resolve_model(model), device(name)) is None
    ]


@st.composite
def offered(draw: st.DrawFn) -> tuple[ServingEngine, Architecture, ReplicaConfig]:
    """Draw an engine, a model, a device and a configuration that the engine offers for them."""
    engine, model, name = draw(st.sampled_from(served()))
    architecture, on = resolve_model(model), device(name)
    tp = draw(st.sampled_from(engine.tp_sizes(architecture, 8)))
    context = draw(st.integers(1, architecture.max_context_tokens))
    knobs = {knob.name: draw(st.sampled_from(knob.values)) for knob in engine.knobs(on.kind)}
    knobs |= {name: draw(st.booleans()) for name in ("chunked_prefill", "prefix_caching")}
    if not knobs["chunked_prefill"]:
        knobs["max_num_batched_tokens"] = max(context, int(knobs["max_num_batched_tokens"]))
    ep = draw(st.sampled_from(engine.ep_sizes(architecture, tp)))
    loras = draw(st.integers(0, 8)) if engine.metadata(architecture).supports_lora else 0
    ranks = [dp for dp in engine.dp_sizes(architecture, tp) if not loras or dp in {1, tp}]
    formats = [
        precision
        for precision in engine.precisions(architecture, on, may_quantize=True)
        if engine.why_not_split(architecture, precision, tp, ep) is None
    ]
    return (
        engine,
        architecture,
        replica(
            name,
            **knobs,
            tp=tp,
            pp=draw(st.sampled_from(engine.pp_sizes(architecture, 4))),
            ep=ep,
            dp=draw(st.sampled_from(ranks)),
            weight_precision=draw(st.sampled_from(formats)),
            kv_precision=draw(st.sampled_from(engine.kv_precisions(architecture, on))),
            context_tokens=context,
            kv_space_bytes=draw(st.integers(1, 500)) * float(GIB),
            cores=draw(st.integers(0, 64)) if on.kind is DeviceKind.CPU else 0,
            max_loras=loras,
            max_lora_rank=draw(st.sampled_from((8, 64, 320))),
        ),
    )


@given(drawn=offered())
@settings(max_examples=150)
def test_everything_offered_is_launched_with_arguments_the_real_parser_takes(
    drawn: tuple[ServingEngine, Architecture, ReplicaConfig],
) -> None:
    """Every flag exists in the engine's parser with that type and choice and is not deprecated.

    The command reads back as the same arguments.
    """
    engine, architecture, config = drawn
    launch = engine.launch(architecture, config)
    check_arguments(engine.name, launch.args, real_arguments(engine.name))
    first = next(
        index for index, word in enumerate(launch.command) if word.removeprefix("--") in launch.args
    )
    assert architecture.model_id in launch.command[first - 1]
    assert dict(parse_command_line(launch.command[first:], real_arguments(engine.name))) == dict(
        launch.args
    )
    assert all(isinstance(value, str) for value in launch.envs.values())


@ENGINES
def test_the_shipped_list_says_what_the_real_parser_says(engine: ServingEngine) -> None:
    """The packaged copy of the arguments agrees with the list read from the engine.

    Arguments that the engine dropped are absent from its list.
    """
    real = real_arguments(engine.name)
    for flag, argument in shipped_arguments(engine.name).items():
        if argument.removed:
            assert flag not in real or real is shipped_arguments(engine.name)
        elif not argument.deprecated:
            assert real[flag] == argument


@ENGINES
def test_every_knob_is_a_field_of_the_replica_and_a_flag_of_the_parser(
    engine: ServingEngine,
) -> None:
    """Knobs name real fields and flags; their values ascend and hold the default."""
    for kind in DeviceKind:
        for knob in engine.knobs(kind):
            assert knob.name in ReplicaConfig.__dataclass_fields__
            assert knob.flag in real_arguments(engine.name)
            assert list(knob.values) == sorted(knob.values)
            assert knob.default in knob.values


@ENGINES
@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("memory_fraction", 0.0),
        ("memory_fraction", 1.5),
        ("memory_fraction", float("nan")),
        ("max_num_seqs", 0),
        ("max_num_batched_tokens", 0),
        ("context_tokens", 0),
        ("context_tokens", 131_073),
        ("tp", 0),
        ("tp", 3),
        ("pp", 33),
        ("ep", 2),
        ("dp", 2),
    ],
)
def test_values_out_of_range_are_refused_by_field(
    engine: ServingEngine, field: str, value: float
) -> None:
    """A value that the parser accepts but start-up refuses is refused, and the field is named."""
    with pytest.raises(InvalidInput) as refused:
        engine.launch(LLAMA, replica("H100-SXM", **{field: value}))
    assert refused.value.field == field


@ENGINES
def test_adapters_are_refused_where_the_family_has_none(engine: ServingEngine) -> None:
    """A family whose table says no LoRA is launched without adapters only."""
    for model in MODELS:
        architecture = resolve_model(model)
        if (
            engine.why_not(architecture, device("H100-SXM"))
            or engine.metadata(architecture).supports_lora
        ):
            continue
        weights = engine.precisions(architecture, device("H100-SXM"), may_quantize=False)[0]
        with pytest.raises(InvalidInput, match="max_loras"):
            engine.launch(
                architecture,
                replica("H100-SXM", max_loras=1, weight_precision=weights, context_tokens=512),
            )


@ENGINES
def test_blocks_that_share_a_scale_are_never_cut(engine: ServingEngine) -> None:
    """Experts 1536 wide in blocks of 128 are not cut in eight, 192 each.

    On eight devices only whole experts are offered.
    """
    blocks = resolve_model("Qwen/Qwen3-235B-A22B-FP8")
    assert engine.tp_sizes(blocks, 8) == (1, 2, 4, 8)
    assert (engine.ep_sizes(blocks, 4), engine.ep_sizes(blocks, 8)) == ((1, 4), (8,))
    layout = {"tp": 8, "weight_precision": Precision.FP8}
    with pytest.raises(InvalidInput, match="8 ranks cut expert_down of 1536 through blocks of 128"):
        engine.launch(blocks, replica("H100-SXM", **layout))
    assert engine.launch(blocks, replica("H100-SXM", **layout, ep=8)).args
    assert 8 not in engine.tp_sizes(resolve_model("Qwen/Qwen3-4B-FP8"), 8), (
        "a dense width of 9728 is 76 blocks"
    )


@ENGINES
def test_an_uncut_prompt_must_fit_the_token_budget(engine: ServingEngine) -> None:
    """With chunked prefill off, 2,048 tokens of context do not fit a budget of 2,047."""
    with pytest.raises(InvalidInput, match="max_num_batched_tokens"):
        engine.launch(
            LLAMA, replica("H100-SXM", chunked_prefill=False, max_num_batched_tokens=2047)
        )


@ENGINES
def test_families_and_the_compatibility_mapping_agree(engine: ServingEngine) -> None:
    """Every family the mapping names on any kind of device has capabilities, and the reverse."""
    mapped = frozenset().union(*ENGINE_COMPATIBILITY_MAPPING[engine.name].values())
    entries = load_table(engine.name, "families")
    assert mapped == {entry["family"] for entry in entries}


@ENGINES
def test_parsers_in_the_catalog_are_ones_the_engine_knows(engine: ServingEngine) -> None:
    """Where the engine's parser lists its tool and reasoning parsers, ours are among them."""
    real = real_arguments(engine.name)
    for entry in load_table(engine.name, "parsers"):
        for column, flag in (("tool", "tool-call-parser"), ("reasoning", "reasoning-parser")):
            choices = real[flag].choices
            assert not choices or entry[column] in (None, *choices)


def test_vllms_parsers_are_ones_it_registers() -> None:
    """VLLM's parser lists no choices; these are the names its wheel registers."""
    for entry in load_table("vllm", "parsers"):
        assert entry["tool"] in {None, *VLLM_TOOL_PARSERS}
        assert entry["reasoning"] in {None, *VLLM_REASONING_PARSERS}


@ENGINES
def test_images_carry_a_version_that_was_released(engine: ServingEngine) -> None:
    """Docker Hub's images carry the engine's version; images of other registries name a tag."""
    for name in ("H100-SXM", "MI300X", "MI355X", "Gaudi3", "Xeon Platinum 8480+"):
        if engine.why_not(LLAMA, device(name)) is None:
            image = engine.launch(LLAMA, replica(name)).image
            on_docker_hub = "." not in image.split("/")[0]
            assert not on_docker_hub or f":v{engine.version}" in image
            assert ":" in image


@ENGINES
def test_chat_templates_are_paths_inside_the_image(engine: ServingEngine) -> None:
    """A template is named with its folder in that image, or not at all."""
    for kind in DeviceKind:
        path = engine.metadata(LLAMA, kind).chat_template
        assert path is None or "/" in path


@ENGINES
def test_unknown_families_and_kinds_are_refused_with_a_reason(engine: ServingEngine) -> None:
    """The reason names the encoder-decoder model or the hardware that has no build."""
    assert "T5ForConditionalGeneration" in str(
        engine.why_not(resolve_model("google/flan-t5-large"), device("H100-SXM"))
    )
    assert "xpu" in str(engine.why_not(LLAMA, device("Max1550")))


def test_only_families_that_pool_are_launched_to_pool() -> None:
    """Pooling depends on the engine and the family.

    vLLM embeds with any text model and scores with Qwen3's rerankers. SGLang embeds with some
    families and does not score.
    """
    vllm, sglang = serving_engines["vllm"], serving_engines["sglang"]
    vectors = replace(resolve_model("mistralai/Mixtral-8x7B-Instruct-v0.1"), is_embedding=True)
    reranker, embedder = (
        resolve_model("Qwen/Qwen3-Reranker-4B"),
        resolve_model("Qwen/Qwen3-Embedding-8B"),
    )
    on = device("H100-SXM")
    assert [vllm.why_not(each, on) for each in (vectors, reranker, embedder)] == [None] * 3
    assert "not with embeddings or scores" in str(sglang.why_not(vectors, on))
    assert "not with scores" in str(sglang.why_not(reranker, on))
    assert sglang.why_not(embedder, on) is None


@ENGINES
def test_sparse_attention_needs_hopper(engine: ServingEngine) -> None:
    """DeepSeek V3.2's attention needs compute capability 9.0, which an A100 lacks."""
    sparse = resolve_model("deepseek-ai/DeepSeek-V3.2")
    assert "attention of DeepseekV32ForCausalLM on A100" in str(
        engine.why_not(sparse, device("A100-SXM-80GB"))
    )
    assert engine.why_not(sparse, device("H200")) is None
    assert engine.why_not(resolve_model("deepseek-ai/DeepSeek-V3"), device("A100-SXM-80GB")) is None


def test_radeons_are_served_by_vllm_alone() -> None:
    """Only vLLM serves the RX 7900 and RX 9000 that its documentation lists.

    The RX 9000 multiplies in fp8; the RX 7900 only unpacks 4-bit weights.
    """
    vllm, sglang = serving_engines["vllm"], serving_engines["sglang"]
    older, newer = device("Radeon-PRO-W7900"), device("Radeon-AI-PRO-R9700")
    assert vllm.why_not(LLAMA, older) is None
    assert Precision.FP8 in vllm.precisions(LLAMA, newer, may_quantize=True)
    assert vllm.precisions(LLAMA, older, may_quantize=True) == (Precision.BF16, Precision.INT4)
    assert "no kernels" in str(sglang.why_not(LLAMA, newer))


@pytest.mark.parametrize(
    ("registry", "stage"),
    [(serving_engines, Stage.SERVE), (routers, Stage.ROUTE), (compressors, Stage.COMPRESS)],
)
def test_registries_hold_engines_of_their_stage_under_their_names(
    registry: dict[str, Engine], stage: Stage
) -> None:
    """Each engine is filed under its own name in the registry of its stage."""
    for name, engine in registry.items():
        assert (engine.name, engine.stage) == (name, stage)


TABLES = sorted(Path(engine_ops.__file__).parent.glob("*/*.json"))


@pytest.mark.parametrize("path", TABLES, ids=lambda path: f"{path.parent.name}/{path.stem}")
def test_every_table_entry_has_a_source(path: Path) -> None:
    """No entry of any engine's table without a source; a table may name one for all its rows."""
    entries = load_table(path.parent.name, path.stem)
    assert entries[0]["source"]
    assert all(entry.get("source") or "row" in entry for entry in entries)


@ENGINES
def test_an_engines_facts_lie_in_the_folder_of_its_name(engine: ServingEngine) -> None:
    """Every table a serving engine needs is in its own folder, and nobody else's code names it."""
    tables = "arguments families images kernels kv_formats parsers releases".split()
    assert {path.stem for path in TABLES if path.parent.name == engine.name} >= set(tables)


@pytest.mark.parametrize("engine", serving_engines.values(), ids=lambda engine: engine.name)
def test_the_metrics_of_a_server_are_its_own_and_its_parser_knows_their_switch(engine):
    """Metrics bear the engine's name; the arguments that switch them on exist."""
    metrics = engine.metrics
    names = [metrics.ttft, metrics.itl, metrics.e2e, metrics.running, metrics.waiting]
    assert all(name.startswith(f"{engine.name}:") for name in (*names, metrics.cache_usage))
    assert len(set(names)) == len(names)
    check_arguments(engine.name, metrics.enabled_by)
