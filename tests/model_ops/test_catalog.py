"""Parameter counts agree with what the publishers state."""

from __future__ import annotations

import pytest

from budsim.model_ops.registry import known_models, published_parameters, resolve_model

CARD = "safetensors total on the model card"
RECIPES = "vLLM recipes (github.com/vllm-project/recipes at 8959cf64)"

# Figures stand here a second time: a slip in the catalog and one in the reader cannot cancel out.
PUBLISHED = [
    ("meta-llama/Llama-2-7b-hf", 6_738_415_616, CARD),
    ("meta-llama/Llama-2-13b-hf", 13_015_864_320, CARD),
    ("meta-llama/Llama-2-70b-hf", 68_976_648_192, CARD),
    ("meta-llama/Meta-Llama-3-8B", 8_030_261_248, CARD),
    ("meta-llama/Llama-3.1-70B-Instruct", 70_553_706_496, CARD),
    ("meta-llama/Llama-3.1-405B-Instruct", 405_853_388_800, CARD),
    ("meta-llama/Llama-3.2-1B-Instruct", 1_235_814_400, CARD),
    ("meta-llama/Llama-3.2-3B-Instruct", 3_212_749_824, CARD),
    ("meta-llama/Llama-4-Scout-17B-16E-Instruct", 108_641_793_536, CARD),
    ("meta-llama/Llama-4-Maverick-17B-128E-Instruct", 401_583_781_376, CARD),
    ("Qwen/Qwen2-7B", 7_615_616_512, CARD),
    ("Qwen/Qwen2-72B", 72_706_203_648, CARD),
    ("Qwen/Qwen2.5-0.5B-Instruct", 494_032_768, CARD),
    ("Qwen/Qwen2.5-14B-Instruct", 14_770_033_664, CARD),
    ("Qwen/Qwen2.5-32B-Instruct", 32_763_876_352, CARD),
    ("Qwen/Qwen1.5-MoE-A2.7B", 14_315_784_192, CARD),
    ("Qwen/Qwen3-8B", 8_190_735_360, CARD),
    ("Qwen/Qwen3-32B", 32_762_123_264, CARD),
    ("Qwen/Qwen3-30B-A3B", 30_532_122_624, CARD),
    ("Qwen/Qwen3-235B-A22B", 235_093_634_560, CARD),
    (
        "Qwen/Qwen3.5-9B",
        9_409_813_744,
        "total of a public fine-tuning log less its adapter weights",
    ),
    ("Qwen/Qwen3.5-397B-A17B", 397e9, "model card: 397 B in total"),
    ("mistralai/Mistral-7B-v0.1", 7_241_732_096, CARD),
    ("mistralai/Mistral-Nemo-Instruct-2407", 12_247_782_400, CARD),
    ("mistralai/Mistral-Small-3.1-24B-Instruct-2503", 24_011_361_280, CARD),
    ("mistralai/Mistral-Large-Instruct-2407", 122_610_069_504, CARD),
    ("mistralai/Mixtral-8x7B-v0.1", 46_702_792_704, CARD),
    ("mistralai/Mixtral-8x22B-Instruct-v0.1", 140_630_071_296, CARD),
    ("google/gemma-7b", 8_537_680_896, CARD),
    ("google/gemma-2-27b", 27_227_128_320, CARD),
    ("google/gemma-3-4b-it", 4_300_079_472, CARD),
    ("google/gemma-3-27b-it", 27_432_406_640, CARD),
    ("google/flan-t5-xxl", 11_135_332_352, CARD),
    ("microsoft/phi-2", 2_779_683_840, CARD),
    ("microsoft/phi-4", 14_659_507_200, CARD),
    ("microsoft/Phi-3.5-MoE-instruct", 41_873_153_344, CARD),
    ("deepseek-ai/DeepSeek-V3", 671e9, "DeepSeek-V3 report (arXiv 2412.19437): 671 B"),
    ("deepseek-ai/DeepSeek-R1", 671e9, "DeepSeek-R1 model card: 671 B"),
    ("deepseek-ai/DeepSeek-V2", 235_741_434_880, CARD),
    ("deepseek-ai/DeepSeek-V2-Lite", 15_706_484_224, CARD),
    ("moonshotai/Kimi-K2-Instruct", 1.026e12, CARD + ", rounded"),
    ("zai-org/GLM-4.5", 355e9, "GLM-4.5 report (arXiv 2508.06471): 355 B"),
    ("zai-org/GLM-4.5-Air", 106e9, "GLM-4.5 report (arXiv 2508.06471): 106 B"),
    ("zai-org/GLM-5", 744e9, "GLM-5 model card: 744 B"),
    ("MiniMaxAI/MiniMax-M2", 229e9, CARD + ", rounded"),
    ("MiniMaxAI/MiniMax-M1-80k", 456e9, "MiniMax-01 report (arXiv 2501.08313): 456 B"),
    ("openai/gpt-oss-120b", 116.83e9, "gpt-oss model card (arXiv 2508.10925), table 1"),
    ("openai/gpt-oss-20b", 20.91e9, "gpt-oss model card (arXiv 2508.10925), table 1"),
    ("tiiuae/falcon-7b", 6_921_720_704, "transformers num_parameters(), tied table counted once"),
    ("tiiuae/falcon-40b", 41_303_293_952, "transformers num_parameters(), tied table counted once"),
    ("bigcode/starcoder", 15_517_456_384, CARD),
    ("bigcode/starcoder2-15b", 15_957_889_024, CARD),
    ("EleutherAI/gpt-neox-20b", 20_554_567_680, "GPT-NeoX-20B paper (arXiv 2204.06745)"),
    ("EleutherAI/gpt-j-6b", 6_050_882_784, CARD),
    ("bigscience/bloom", 176_247_271_424, "BLOOM model card"),
    ("facebook/opt-6.7b", 6_658_473_984, "transformers num_parameters()"),
    ("mosaicml/mpt-7b", 6_649_286_656, CARD),
    ("01-ai/Yi-34B", 34_388_917_248, CARD),
    ("databricks/dbrx-instruct", 131_596_523_520, CARD),
    ("nvidia/Llama-3_3-Nemotron-Super-49B-v1", 49_867_145_216, CARD),
    ("nvidia/NVIDIA-Nemotron-3-Nano-30B-A3B-BF16", 31.6e9, "model card: 31.6 B in total"),
    ("deepseek-ai/DeepSeek-V4-Flash", 284e9, RECIPES),
    ("MiniMaxAI/MiniMax-M3", 427e9, RECIPES),
    ("XiaomiMiMo/MiMo-V2-Flash", 309e9, RECIPES),
    (
        "stepfun-ai/Step-3.7-Flash",
        196e9,
        "vLLM recipes: Step-3.5-Flash, the same without a vision tower, 196 B",
    ),
    ("nvidia/NVIDIA-Nemotron-3-Ultra-550B-A55B-BF16", 550e9, RECIPES),
    ("nvidia/NVIDIA-Nemotron-3.5-Lightning-30B-A3B-BF16", 31.6e9, "as Nemotron 3 Nano: model card"),
    ("google/gemma-4-26B-A4B-it", 26e9, RECIPES),
    ("moonshotai/Kimi-K3", 2.8e12, RECIPES),
    ("moonshotai/Kimi-Linear-48B-A3B-Instruct", 49.12e9, CARD + ", rounded"),
    ("Qwen/Qwen2.5-VL-7B-Instruct", 8_292_166_656, CARD),
    ("Qwen/Qwen2.5-VL-72B-Instruct", 73_410_777_344, CARD),
    ("ai21labs/AI21-Jamba-1.5-Mini", 51.57e9, CARD + ", rounded"),
    ("ai21labs/AI21-Jamba-1.5-Large", 398e9, "Jamba-1.5 paper (arXiv 2408.12570): 398 B"),
    ("ibm-granite/granite-4.0-h-small", 32.2e9, CARD + ", rounded"),
    ("baidu/ERNIE-4.5-300B-A47B-PT", 300e9, "ERNIE 4.5 technical report: 300 B"),
    ("inclusionAI/Ling-1T", 1e12, RECIPES),
    ("inclusionAI/Ling-flash-2.0", 103e9, "model card: 103 B"),
    ("tencent/Hunyuan-A13B-Instruct", 80.4e9, CARD + ", rounded"),
    ("mistralai/Ministral-3-14B-Base-2512", 13.95e9, CARD + ", rounded"),
    ("mistralai/Mistral-Large-3-675B-Base-2512", 675e9, RECIPES),
    ("allenai/Olmo-3-1025-7B", 7_298_011_136, CARD),
    ("EleutherAI/pythia-410m", 405_334_016, "Pythia paper (arXiv 2304.01373), table 1"),
    ("BAAI/bge-large-en-v1.5", 335_141_888, CARD),
    ("BAAI/bge-m3", 567_754_752, CARD),
    ("intfloat/multilingual-e5-large", 559_890_432, CARD),
    ("intfloat/e5-mistral-7b-instruct", 7_110_660_096, CARD),
]


@pytest.mark.parametrize(
    ("model_id", "figure", "source"), PUBLISHED, ids=[row[0] for row in PUBLISHED]
)
def test_parameters_are_within_one_percent_of_the_published_figure(
    model_id: str, figure: float, source: str
) -> None:
    """The count follows from the config.json and agrees with what the publisher states."""
    assert resolve_model(model_id).parameters == pytest.approx(figure, rel=0.01), source


def test_every_figure_of_the_catalog_is_met() -> None:
    """No catalog entry states a size its own config.json contradicts by more than 1 %."""
    wrong = {}
    for model_id in known_models():
        published = published_parameters(model_id)
        parameters = resolve_model(model_id).parameters
        if published is not None and abs(parameters / published[0] - 1) > 0.01:
            wrong[model_id] = (parameters, published)
    assert not wrong


def test_catalog_is_broad() -> None:
    """A thousand names are known offline, most with a published figure and its source."""
    figures = [published_parameters(model_id) for model_id in known_models()]
    assert len(figures) >= 1000
    assert sum(figure is not None for figure in figures) >= 0.9 * len(figures)
    assert all(source for _, source in filter(None, figures))


@pytest.mark.parametrize(
    ("model_id", "active"),
    [
        ("deepseek-ai/DeepSeek-V3", 37e9),
        ("Qwen/Qwen3-235B-A22B", 22e9),
        ("mistralai/Mixtral-8x7B-v0.1", 12.9e9),
        ("meta-llama/Llama-4-Maverick-17B-128E-Instruct", 17e9),
        ("moonshotai/Kimi-K2-Instruct", 32e9),
        ("deepseek-ai/DeepSeek-V4-Flash", 13e9),
        ("deepseek-ai/DeepSeek-V4-Pro", 49e9),
        ("MiniMaxAI/MiniMax-M3", 26e9),
        ("XiaomiMiMo/MiMo-V2-Flash", 15e9),
        ("nvidia/NVIDIA-Nemotron-3-Ultra-550B-A55B-BF16", 55e9),
        ("stepfun-ai/Step-3.7-Flash", 11e9),
        ("ai21labs/AI21-Jamba-1.5-Mini", 12e9),
        ("baidu/ERNIE-4.5-300B-A47B-PT", 47e9),
        ("tencent/Hy3", 21e9),
        ("mistralai/Mistral-Small-4-119B-2603", 6.5e9),
        ("thinkingmachines/Inkling", 41e9),
        ("LGAI-EXAONE/K-EXAONE-236B-A23B", 23e9),
        ("reflection/Beam-1.0-501B-A23B", 23e9),
    ],
)
def test_active_parameters_are_what_the_name_or_card_says(model_id: str, active: float) -> None:
    """Routed experts a token does not visit are not counted."""
    assert resolve_model(model_id).active_parameters == pytest.approx(active, rel=0.07)
