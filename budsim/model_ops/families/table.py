"""Which function reads which model_type, and what each family does that its config need not say."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Final

from budsim.model_ops.families.body import Body
from budsim.model_ops.families.classic import (
    BIASED,
    UNBIASED,
    bigcode,
    chatglm,
    dbrx,
    falcon,
    hunyuan,
    llama4,
    mpt,
    opt,
    parallel_when_declared,
    persimmon,
    qwen1,
)
from budsim.model_ops.families.decoder import QkNorm, Style, decoder, latent_decoder
from budsim.model_ops.families.encoder import bert
from budsim.model_ops.families.hybrid import (
    delta_decoder,
    jamba_decoder,
    kimi_delta_decoder,
    lightning_decoder,
    mamba_layered_decoder,
    mamba_pattern_decoder,
)
from budsim.model_ops.families.searched import deci_decoder, searched_decoder
from budsim.model_ops.families.seq2seq import t5
from budsim.model_ops.families.sparse import block_decoder, compressed_decoder
from budsim.model_ops.families.varied import gemma4_decoder, mimo_decoder, step_decoder
from budsim.model_ops.fields import Fields

Reader = Callable[[Fields, Style], Body]

ALWAYS: Final = ("", True)
LLAMA: Final = Style()
QWEN2: Final = Style(qkv_bias=ALWAYS, out_bias=UNBIASED, windowed=False)
QWEN3: Final = Style(qk_norm=QkNorm.HEAD, windowed=False)
GEMMA: Final = Style(tied=True)
GEMMA3: Final = Style(tied=True, norms=4, qk_norm=QkNorm.HEAD, window_pattern=6)
GLM: Final = Style(out_bias=UNBIASED)
GPT2: Final = Style(
    norm_values=2,
    gated=False,
    qkv_bias=ALWAYS,
    out_bias=ALWAYS,
    ff_bias=ALWAYS,
    tied=True,
    positions=0,
    width_factor=4,
)
GPT_J: Final = Style(
    norm_values=2, norms=1, gated=False, ff_bias=ALWAYS, head_bias=True, width_factor=4
)
NEOX: Final = replace(
    GPT2,
    qkv_bias=("attention_bias", True),
    out_bias=("attention_bias", True),
    tied=False,
    positions=None,
)
PHI: Final = replace(NEOX, norms=1, head_bias=True, qkv_bias=ALWAYS, out_bias=ALWAYS)
STARCODER2: Final = replace(GPT2, positions=None, qkv_bias=BIASED, out_bias=BIASED, ff_bias=BIASED)
FALCON: Final = Style(
    norm_values=2,
    gated=False,
    qkv_bias=("bias", False),
    out_bias=("bias", False),
    ff_bias=("bias", False),
    tied=True,
    width_factor=4,
)
LATENT_EXPERTS: Final = Style(experts=True, router_bias=True)

FAMILIES: Final[Mapping[str, tuple[Reader, Style]]] = {
    "llama": (decoder, LLAMA),
    "mistral": (decoder, LLAMA),
    "ministral": (decoder, LLAMA),
    "ministral3": (decoder, LLAMA),
    "aquila": (decoder, LLAMA),
    "baichuan": (decoder, LLAMA),
    "exaone": (decoder, LLAMA),
    "internlm": (decoder, replace(LLAMA, qkv_bias=("bias", True), out_bias=("bias", True))),
    "internlm2": (decoder, replace(LLAMA, qkv_bias=("bias", False), out_bias=("bias", False))),
    "internlm3": (
        decoder,
        replace(
            LLAMA, qkv_bias=("qkv_bias", False), out_bias=("bias", False), ff_bias=("bias", False)
        ),
    ),
    "minicpm": (decoder, replace(LLAMA, tied=True)),
    "granite": (decoder, LLAMA),
    "smollm3": (decoder, replace(LLAMA, tied=True)),
    "seed_oss": (decoder, replace(LLAMA, out_bias=("attention_out_bias", False))),
    "arcee": (decoder, replace(LLAMA, gated=False)),
    "ernie4_5": (
        decoder,
        replace(
            LLAMA,
            qkv_bias=("use_bias", False),
            out_bias=("use_bias", False),
            ff_bias=("use_bias", False),
            tied=True,
        ),
    ),
    "exaone4": (decoder, replace(QWEN3, window_pattern=4, windowed=True)),
    "apertus": (decoder, replace(QWEN3, gated=False)),
    "olmo": (decoder, replace(LLAMA, norm_values=0)),
    "olmo2": (decoder, replace(LLAMA, qk_norm=QkNorm.PROJECTION)),
    "olmo3": (decoder, replace(LLAMA, qk_norm=QkNorm.PROJECTION, window_pattern=4)),
    "olmoe": (decoder, replace(LLAMA, qk_norm=QkNorm.PROJECTION, experts=True)),
    "mixtral": (decoder, replace(LLAMA, experts=True)),
    "granitemoe": (decoder, replace(LLAMA, experts=True)),
    "phimoe": (decoder, replace(LLAMA, norm_values=2, experts=True, head_bias=True)),
    "minimax_m2": (
        decoder,
        replace(LLAMA, experts=True, qk_norm=QkNorm.PROJECTION, router_bias=True),
    ),
    "minimax_m3": (
        block_decoder,
        replace(LLAMA, experts=True, qk_norm=QkNorm.HEAD, router_bias=True),
    ),
    "gpt_oss": (
        decoder,
        replace(
            LLAMA,
            experts=True,
            expert_bias=True,
            sinks=True,
            window_pattern=2,
            qkv_bias=ALWAYS,
            out_bias=ALWAYS,
        ),
    ),
    "bailing_moe": (decoder, replace(QWEN3, experts=True, router_bias=True)),
    "bailing_moe_v2": (decoder, replace(QWEN3, experts=True, router_bias=True)),
    "hunyuan_v1_dense": (hunyuan, LLAMA),
    "hunyuan_v1_moe": (hunyuan, replace(LLAMA, experts=True)),
    "jamba": (jamba_decoder, replace(LLAMA, experts=True)),
    "ernie4_5_moe": (decoder, replace(LLAMA, experts=True, router_bias=True, tied=True)),
    "qwen": (qwen1, QWEN2),
    "qwen2": (decoder, QWEN2),
    "mimo": (decoder, QWEN2),
    "mimo_v2": (mimo_decoder, replace(LLAMA, experts=True, router_bias=True)),
    "mimo_v2_flash": (mimo_decoder, replace(LLAMA, experts=True, router_bias=True)),
    "step3p5": (step_decoder, replace(LLAMA, experts=True, router_bias=True, qk_norm=QkNorm.HEAD)),
    "step3p7": (step_decoder, replace(LLAMA, experts=True, router_bias=True, qk_norm=QkNorm.HEAD)),
    "qwen2_moe": (decoder, replace(QWEN2, experts=True, shared_gate=True)),
    "qwen3": (decoder, QWEN3),
    "qwen3_moe": (decoder, replace(QWEN3, experts=True)),
    "qwen2_5_vl": (decoder, QWEN2),
    "qwen2_5_vl_text": (decoder, QWEN2),
    "qwen3_vl_text": (decoder, QWEN3),
    "qwen3_vl_moe_text": (decoder, replace(QWEN3, experts=True)),
    "qwen3_next": (delta_decoder, replace(QWEN3, experts=True, shared_gate=True)),
    "qwen3_5_text": (delta_decoder, QWEN3),
    "qwen3_5_moe_text": (delta_decoder, replace(QWEN3, experts=True, shared_gate=True)),
    "gemma": (decoder, GEMMA),
    "gemma2": (decoder, replace(GEMMA, norms=4, window_pattern=2)),
    "gemma3_text": (decoder, GEMMA3),
    "gemma4_text": (gemma4_decoder, replace(GEMMA, norms=4, qk_norm=QkNorm.HEAD, window_pattern=6)),
    "phi": (decoder, PHI),
    "phi3": (decoder, LLAMA),
    "cohere": (
        decoder,
        Style(norms=1, tied=True, qk_norm=QkNorm.PROJECTION, qk_norm_flag=("use_qk_norm", False)),
    ),
    "cohere2": (decoder, Style(norms=1, tied=True, window_pattern=4)),
    "glm": (decoder, GLM),
    "glm4": (decoder, replace(GLM, norms=4)),
    "glm4_moe": (
        decoder,
        replace(
            GLM,
            experts=True,
            router_bias=True,
            qk_norm=QkNorm.HEAD,
            qk_norm_flag=("use_qk_norm", False),
        ),
    ),
    "chatglm": (
        chatglm,
        Style(
            qkv_bias=("add_qkv_bias", False),
            out_bias=("add_bias_linear", False),
            ff_bias=("add_bias_linear", False),
        ),
    ),
    "gpt2": (decoder, GPT2),
    "gpt_bigcode": (bigcode, GPT2),
    "gpt_neo": (decoder, replace(GPT2, qkv_bias=UNBIASED)),
    "gpt_neox": (decoder, NEOX),
    "gptj": (decoder, GPT_J),
    "codegen": (decoder, GPT_J),
    "opt": (opt, replace(GPT2, positions=2)),
    "bloom": (decoder, replace(GPT2, positions=None, embedding_norm=True)),
    "xglm": (decoder, replace(GPT2, positions=None)),
    "mpt": (mpt, Style(gated=False, tied=True)),
    "falcon": (falcon, FALCON),
    "starcoder2": (decoder, STARCODER2),
    "stablelm": (
        parallel_when_declared,
        Style(
            norm_values=2,
            qkv_bias=("use_qkv_bias", False),
            out_bias=UNBIASED,
            qk_norm=QkNorm.PROJECTION,
            qk_norm_flag=("qk_layernorm", False),
        ),
    ),
    "persimmon": (persimmon, replace(NEOX, qkv_bias=ALWAYS, out_bias=ALWAYS)),
    "nemotron": (decoder, Style(norm_values=2, gated=False)),
    "dbrx": (dbrx, Style(experts=True)),
    "llama4_text": (llama4, Style(experts=True, window_pattern=4)),
    "deepseek": (decoder, Style(experts=True)),
    "deepseek_v2": (latent_decoder, Style(experts=True)),
    "deepseek_v3": (latent_decoder, LATENT_EXPERTS),
    "deepseek_v32": (latent_decoder, LATENT_EXPERTS),
    "deepseek_v4": (compressed_decoder, LATENT_EXPERTS),
    "kimi_k2": (latent_decoder, LATENT_EXPERTS),
    "kimi_linear": (kimi_delta_decoder, LATENT_EXPERTS),
    "glm_moe_dsa": (latent_decoder, LATENT_EXPERTS),
    "glm4_moe_lite": (latent_decoder, LATENT_EXPERTS),
    "minicpm3": (latent_decoder, Style(tied=True)),
    "minimax_m1": (lightning_decoder, Style(experts=True)),
    "minimax_text_01": (lightning_decoder, Style(experts=True)),
    "minimax": (lightning_decoder, Style(experts=True)),
    "nemotron_h": (mamba_pattern_decoder, Style(gated=False)),
    "granitemoehybrid": (mamba_layered_decoder, Style()),
    "deci": (deci_decoder, LLAMA),
    "nemotron-nas": (searched_decoder, LLAMA),
    "bert": (bert, Style()),
    "roberta": (bert, Style(positions=2)),
    "xlm-roberta": (bert, Style(positions=2)),
    "t5": (t5, Style(tied=True)),
    "umt5": (t5, Style(tied=True)),
    "mt5": (t5, Style(tied=True)),
}
