"""For each ``model_type``: the function that reads it, and the traits of its family."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Final

from budsim.model_ops.config_reader import ConfigReader
from budsim.model_ops.families.architecture_search import read_deci, read_nemotron_nas
from budsim.model_ops.families.decoder import read_decoder, read_latent_decoder
from budsim.model_ops.families.early_decoders import (
    read_bigcode,
    read_chatglm,
    read_dbrx,
    read_falcon,
    read_hunyuan,
    read_llama4,
    read_mpt,
    read_opt,
    read_parallel_residual_decoder,
    read_persimmon,
    read_qwen1,
)
from budsim.model_ops.families.encoder import read_bert
from budsim.model_ops.families.encoder_decoder import read_t5, read_whisper
from budsim.model_ops.families.k2_horizon import read_k2_horizon
from budsim.model_ops.families.layer_inputs import read_gemma3n
from budsim.model_ops.families.linear_attention import (
    read_delta_decoder,
    read_kimi_delta_decoder,
    read_kimi_hybrid,
    read_lightning_decoder,
)
from budsim.model_ops.families.longcat import read_longcat
from budsim.model_ops.families.mamba import (
    read_jamba,
    read_mamba_layered_decoder,
    read_mamba_pattern_decoder,
    read_mamba_puzzle,
)
from budsim.model_ops.families.mixed_heads import (
    read_gemma4,
    read_inkling,
    read_laguna,
    read_mimo_v2,
    read_step3,
)
from budsim.model_ops.families.pangu import read_pangu_sinks
from budsim.model_ops.families.qwen4 import read_qwen4_exp
from budsim.model_ops.families.shared_weights import (
    read_hrm_text,
    read_loop_coder,
    read_zamba2,
    refuse_shared_weights,
)
from budsim.model_ops.families.short_convolution import read_short_convolution_decoder
from budsim.model_ops.families.sparse_attention import (
    read_block_sparse_decoder,
    read_compressed_decoder,
    read_shared_compressed_decoder,
)
from budsim.model_ops.families.state_space import (
    read_falcon_h1,
    read_mamba2_model,
    read_mamba_model,
)
from budsim.model_ops.families.text_model import TextModel
from budsim.model_ops.families.traits import FamilyTraits, QkNorm

Reader = Callable[[ConfigReader, FamilyTraits], TextModel]

ALWAYS: Final = ("", True)
BIASED: Final = ("use_bias", True)
UNBIASED: Final = ("", False)
LLAMA: Final = FamilyTraits()
QWEN2: Final = FamilyTraits(qkv_bias=ALWAYS, out_bias=UNBIASED, windowed=False)
QWEN3: Final = FamilyTraits(qk_norm=QkNorm.HEAD, windowed=False)
GEMMA: Final = FamilyTraits(tied=True)
GEMMA3: Final = FamilyTraits(tied=True, norms=4, qk_norm=QkNorm.HEAD, window_pattern=6)
GLM: Final = FamilyTraits(out_bias=UNBIASED)
GPT2: Final = FamilyTraits(
    norm_values=2,
    gated=False,
    qkv_bias=ALWAYS,
    out_bias=ALWAYS,
    ff_bias=ALWAYS,
    tied=True,
    positions=0,
    width_factor=4,
)
GPT_J: Final = FamilyTraits(
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
FALCON: Final = FamilyTraits(
    norm_values=2,
    gated=False,
    qkv_bias=("bias", False),
    out_bias=("bias", False),
    ff_bias=("bias", False),
    tied=True,
    width_factor=4,
)
AFMOE: Final = replace(
    QWEN3,
    norms=4,
    windowed=True,
    window_pattern=4,
    experts=True,
    router_bias=True,
    output_gate=True,
)
BAILING: Final = replace(
    QWEN3,
    experts=True,
    router_bias=True,
    qkv_bias=("use_qkv_bias", False),
    out_bias=("use_bias", False),
    qk_norm_flag=("use_qk_norm", True),
)
LFM2: Final = replace(QWEN3, tied=True)
LATENT_EXPERTS: Final = FamilyTraits(experts=True, router_bias=True)

READERS: Final[Mapping[str, tuple[Reader, FamilyTraits]]] = {
    "llama": (read_decoder, LLAMA),
    "mistral": (read_decoder, LLAMA),
    "ministral": (read_decoder, LLAMA),
    "ministral3": (read_decoder, LLAMA),
    "aquila": (read_decoder, LLAMA),
    "baichuan": (read_decoder, LLAMA),
    "exaone": (read_decoder, LLAMA),
    "internlm": (read_decoder, replace(LLAMA, qkv_bias=("bias", True), out_bias=("bias", True))),
    "internlm2": (read_decoder, replace(LLAMA, qkv_bias=("bias", False), out_bias=("bias", False))),
    "internlm3": (
        read_decoder,
        replace(
            LLAMA, qkv_bias=("qkv_bias", False), out_bias=("bias", False), ff_bias=("bias", False)
        ),
    ),
    "minicpm": (read_decoder, replace(LLAMA, tied=True)),
    "granite": (read_decoder, LLAMA),
    "granite4_vision_text": (read_decoder, LLAMA),
    "smollm3": (read_decoder, replace(LLAMA, tied=True)),
    "seed_oss": (read_decoder, replace(LLAMA, out_bias=("attention_out_bias", False))),
    "arcee": (read_decoder, replace(LLAMA, gated=False)),
    "ernie4_5": (
        read_decoder,
        replace(
            LLAMA,
            qkv_bias=("use_bias", False),
            out_bias=("use_bias", False),
            ff_bias=("use_bias", False),
            tied=True,
        ),
    ),
    "exaone4": (read_decoder, replace(QWEN3, window_pattern=4, windowed=True)),
    "apertus": (read_decoder, replace(QWEN3, gated=False)),
    "olmo": (read_decoder, replace(LLAMA, norm_values=0)),
    "olmo2": (read_decoder, replace(LLAMA, qk_norm=QkNorm.PROJECTION)),
    "olmo3": (read_decoder, replace(LLAMA, qk_norm=QkNorm.PROJECTION, window_pattern=4)),
    "olmoe": (read_decoder, replace(LLAMA, qk_norm=QkNorm.PROJECTION, experts=True)),
    "mixtral": (read_decoder, replace(LLAMA, experts=True)),
    "granitemoe": (read_decoder, replace(LLAMA, experts=True)),
    "phimoe": (read_decoder, replace(LLAMA, norm_values=2, experts=True, head_bias=True)),
    "minimax_m2": (
        read_decoder,
        replace(LLAMA, experts=True, qk_norm=QkNorm.PROJECTION, router_bias=True),
    ),
    "minimax_m3": (
        read_block_sparse_decoder,
        replace(LLAMA, experts=True, qk_norm=QkNorm.HEAD, router_bias=True),
    ),
    "gpt_oss": (
        read_decoder,
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
    "bailing_moe": (read_decoder, replace(QWEN3, experts=True, router_bias=True)),
    "bailing_moe_v2": (read_decoder, replace(QWEN3, experts=True, router_bias=True)),
    "hunyuan_v1_dense": (read_hunyuan, LLAMA),
    "hunyuan_v1_moe": (read_hunyuan, replace(LLAMA, experts=True)),
    "jamba": (read_jamba, replace(LLAMA, experts=True)),
    "paddleocr_vl_text": (read_decoder, replace(LLAMA, tied=True)),
    "ernie4_5_vl_moe_text": (
        read_decoder,
        replace(LLAMA, experts=True, router_bias=True, tied=True),
    ),
    "ernie4_5_moe": (read_decoder, replace(LLAMA, experts=True, router_bias=True, tied=True)),
    "qwen": (read_qwen1, QWEN2),
    "qwen2": (read_decoder, QWEN2),
    "mimo": (read_decoder, QWEN2),
    "mimo_v2": (read_mimo_v2, replace(LLAMA, experts=True, router_bias=True)),
    "mimo_v2_flash": (read_mimo_v2, replace(LLAMA, experts=True, router_bias=True)),
    "step3p5": (read_step3, replace(LLAMA, experts=True, router_bias=True, qk_norm=QkNorm.HEAD)),
    "step3p7": (read_step3, replace(LLAMA, experts=True, router_bias=True, qk_norm=QkNorm.HEAD)),
    "qwen2_moe": (read_decoder, replace(QWEN2, experts=True, shared_gate=True)),
    "qwen2_5_omni_text": (read_decoder, QWEN2),
    "qwen3": (read_decoder, QWEN3),
    "qwen3_omni_moe_text": (read_decoder, replace(QWEN3, experts=True)),
    "qwen3_moe": (read_decoder, replace(QWEN3, experts=True)),
    "qwen2_vl": (read_decoder, QWEN2),
    "qwen2_vl_text": (read_decoder, QWEN2),
    "qwen2_5_vl": (read_decoder, QWEN2),
    "qwen2_5_vl_text": (read_decoder, QWEN2),
    "qwen3_vl_text": (read_decoder, QWEN3),
    "qwen3_vl_moe_text": (read_decoder, replace(QWEN3, experts=True)),
    "qwen3_next": (read_delta_decoder, replace(QWEN3, experts=True, shared_gate=True)),
    "qwen3_5_text": (read_delta_decoder, QWEN3),
    "qwen4_exp_text": (read_qwen4_exp, replace(QWEN3, experts=True, shared_gate=True)),
    "qwen3_5_moe_text": (read_delta_decoder, replace(QWEN3, experts=True, shared_gate=True)),
    "gemma": (read_decoder, GEMMA),
    "gemma2": (read_decoder, replace(GEMMA, norms=4, window_pattern=2)),
    "gemma3_text": (read_decoder, GEMMA3),
    "gemma3n_text": (read_gemma3n, replace(GEMMA, norms=4, qk_norm=QkNorm.HEAD)),
    "gemma4_text": (read_gemma4, replace(GEMMA, norms=4, qk_norm=QkNorm.HEAD, window_pattern=6)),
    "phi": (read_decoder, PHI),
    "phi3": (read_decoder, LLAMA),
    "cohere": (
        read_decoder,
        FamilyTraits(
            norms=1, tied=True, qk_norm=QkNorm.PROJECTION, qk_norm_flag=("use_qk_norm", False)
        ),
    ),
    "cohere2": (read_decoder, FamilyTraits(norms=1, tied=True, window_pattern=4)),
    "glm": (read_decoder, GLM),
    "glm4": (read_decoder, replace(GLM, norms=4)),
    "glm4v_text": (read_decoder, replace(GLM, norms=4)),
    "glm_ocr_text": (read_decoder, replace(GLM, norms=4)),
    "glm4v_moe_text": (read_decoder, replace(GLM, experts=True, router_bias=True)),
    "glm4_moe": (
        read_decoder,
        replace(
            GLM,
            experts=True,
            router_bias=True,
            qk_norm=QkNorm.HEAD,
            qk_norm_flag=("use_qk_norm", False),
        ),
    ),
    "chatglm": (
        read_chatglm,
        FamilyTraits(
            qkv_bias=("add_qkv_bias", False),
            out_bias=("add_bias_linear", False),
            ff_bias=("add_bias_linear", False),
        ),
    ),
    "gpt2": (read_decoder, GPT2),
    "gpt_bigcode": (read_bigcode, GPT2),
    "gpt_neo": (read_decoder, replace(GPT2, qkv_bias=UNBIASED)),
    "gpt_neox": (read_decoder, NEOX),
    "gptj": (read_decoder, GPT_J),
    "codegen": (read_decoder, GPT_J),
    "opt": (read_opt, replace(GPT2, positions=2)),
    "bloom": (read_decoder, replace(GPT2, positions=None, embedding_norm=True)),
    "xglm": (read_decoder, replace(GPT2, positions=None)),
    "mpt": (read_mpt, FamilyTraits(gated=False, tied=True)),
    "falcon": (read_falcon, FALCON),
    "starcoder2": (read_decoder, STARCODER2),
    "stablelm": (
        read_parallel_residual_decoder,
        FamilyTraits(
            norm_values=2,
            qkv_bias=("use_qkv_bias", False),
            out_bias=UNBIASED,
            qk_norm=QkNorm.PROJECTION,
            qk_norm_flag=("qk_layernorm", False),
        ),
    ),
    "persimmon": (read_persimmon, replace(NEOX, qkv_bias=ALWAYS, out_bias=ALWAYS)),
    "nemotron": (read_decoder, FamilyTraits(norm_values=2, gated=False)),
    "dbrx": (read_dbrx, FamilyTraits(experts=True)),
    "llama4_text": (read_llama4, FamilyTraits(experts=True, window_pattern=4)),
    "deepseek": (read_decoder, FamilyTraits(experts=True)),
    "deepseek_v2": (read_latent_decoder, FamilyTraits(experts=True)),
    "deepseek_v3": (read_latent_decoder, LATENT_EXPERTS),
    "deepseek_v32": (read_latent_decoder, LATENT_EXPERTS),
    "deepseek_v4": (read_compressed_decoder, LATENT_EXPERTS),
    "kimi_k2": (read_latent_decoder, LATENT_EXPERTS),
    "kimi_linear": (read_kimi_delta_decoder, LATENT_EXPERTS),
    "glm_moe_dsa": (read_latent_decoder, LATENT_EXPERTS),
    "glm4_moe_lite": (read_latent_decoder, LATENT_EXPERTS),
    "minicpm3": (read_latent_decoder, FamilyTraits(tied=True)),
    "minimax_m1": (read_lightning_decoder, FamilyTraits(experts=True)),
    "minimax_text_01": (read_lightning_decoder, FamilyTraits(experts=True)),
    "minimax": (read_lightning_decoder, FamilyTraits(experts=True)),
    "nemotron_h": (read_mamba_pattern_decoder, FamilyTraits(gated=False)),
    "nemotron_h_puzzle": (read_mamba_puzzle, FamilyTraits(gated=False)),
    "granitemoehybrid": (read_mamba_layered_decoder, FamilyTraits()),
    "afmoe": (read_decoder, AFMOE),
    "AXK1": (read_latent_decoder, replace(LATENT_EXPERTS, norms=3)),
    "axk1": (read_latent_decoder, replace(LATENT_EXPERTS, norms=3)),
    "alice_ai": (
        read_kimi_hybrid,
        replace(QWEN3, experts=True, shared_gate=True, output_gate=True),
    ),
    "bailing_hybrid": (read_kimi_hybrid, LATENT_EXPERTS),
    "beam": (read_decoder, replace(AFMOE, window_pattern=6)),
    "cohere2_moe": (read_decoder, FamilyTraits(norms=1, tied=True, window_pattern=4, experts=True)),
    "cwm": (read_decoder, LLAMA),
    "deepseek_v41_text": (read_shared_compressed_decoder, LATENT_EXPERTS),
    "exaone_moe": (
        read_decoder,
        replace(QWEN3, windowed=True, window_pattern=4, experts=True, router_bias=True),
    ),
    "falcon_h1": (read_falcon_h1, LLAMA),
    "falcon_mamba": (read_mamba_model, replace(LLAMA, tied=True)),
    "flint": (read_decoder, replace(QWEN3, windowed=True, experts=True, sinks=True)),
    "glm5_next_text": (read_kimi_hybrid, LATENT_EXPERTS),
    "granite_swa": (read_decoder, replace(LLAMA, tied=True, sinks=True)),
    "granitemoe_swa": (read_decoder, replace(LLAMA, experts=True, sinks=True)),
    "granitemoeshared": (read_decoder, replace(LLAMA, experts=True)),
    "hy_v3": (read_decoder, replace(QWEN3, experts=True, router_bias=True)),
    "hy_v4": (read_latent_decoder, LATENT_EXPERTS),
    "hyperclovax": (read_decoder, replace(LLAMA, norms=4)),
    "inkling_text": (read_inkling, replace(QWEN3, windowed=True, experts=True, router_bias=True)),
    "iquestcoder": (read_decoder, LLAMA),
    "laguna": (read_laguna, replace(QWEN3, experts=True, router_bias=True)),
    "lfm2": (read_short_convolution_decoder, LFM2),
    "lfm2_moe": (read_short_convolution_decoder, replace(LFM2, experts=True, router_bias=True)),
    "k2_horizon": (
        read_k2_horizon,
        replace(QWEN3, experts=True, qk_norm_flag=("query_key_norm", True)),
    ),
    "longcat_flash": (read_longcat, LATENT_EXPERTS),
    "longcat_flash_ngram": (read_longcat, LATENT_EXPERTS),
    "mamba": (read_mamba_model, replace(LLAMA, tied=True)),
    "mamba2": (read_mamba2_model, LLAMA),
    "mellum": (read_decoder, replace(QWEN3, windowed=True, experts=True)),
    "mistral4": (read_latent_decoder, FamilyTraits(experts=True)),
    "muse_glimmer_text": (read_decoder, replace(LLAMA, output_gate=True)),
    "olmo_hybrid": (read_delta_decoder, replace(LLAMA, qk_norm=QkNorm.PROJECTION)),
    "orion": (read_decoder, replace(LLAMA, norm_values=2)),
    "PanguEmbedded": (
        read_decoder,
        replace(LLAMA, qkv_bias=("bias", True), out_bias=("bias", True)),
    ),
    "pangu_ultra_moe": (read_latent_decoder, replace(LATENT_EXPERTS, norms=4)),
    "param2moe": (read_decoder, BAILING),
    "plamo3": (read_decoder, replace(QWEN3, windowed=True, norms=4, window_pattern=8)),
    "rnj1": (read_decoder, replace(GEMMA3, tied=False)),
    "sarvam_mla": (read_latent_decoder, LATENT_EXPERTS),
    "sarvam_mla_moe": (read_latent_decoder, LATENT_EXPERTS),
    "sarvam_moe": (read_decoder, BAILING),
    "solar": (read_decoder, LLAMA),
    "solar_open": (read_decoder, replace(LLAMA, experts=True, router_bias=True)),
    "step1": (read_decoder, LLAMA),
    "aria_text": (read_decoder, replace(LLAMA, experts=True)),
    "molmo2_text": (
        read_decoder,
        replace(QWEN3, qkv_bias=("qkv_bias", False), qk_norm_flag=("use_qk_norm", True)),
    ),
    "step3_text": (read_step3, replace(LLAMA, experts=True)),
    "telechat": (read_decoder, replace(LLAMA, out_bias=ALWAYS)),
    "telechat3": (read_decoder, LLAMA),
    "TeleFLM": (read_decoder, LLAMA),
    "deci": (read_deci, LLAMA),
    "dory": (refuse_shared_weights, LLAMA),
    "hrm_text": (read_hrm_text, FamilyTraits(norm_values=0, output_gate=True, windowed=False)),
    "iquestloopcoder": (read_loop_coder, replace(LLAMA, windowed=False)),
    "ouro": (refuse_shared_weights, LLAMA),
    "zamba2": (read_zamba2, FamilyTraits(tied=True, windowed=False)),
    "nemotron-nas": (read_nemotron_nas, LLAMA),
    "bert": (read_bert, FamilyTraits()),
    "roberta": (read_bert, FamilyTraits(positions=2)),
    "xlm-roberta": (read_bert, FamilyTraits(positions=2)),
    "t5": (read_t5, FamilyTraits(tied=True)),
    "umt5": (read_t5, FamilyTraits(tied=True)),
    "mt5": (read_t5, FamilyTraits(tied=True)),
    "whisper": (read_whisper, FamilyTraits(tied=True)),
}

# Read by the class where the ``model_type`` is not known: its name was never published here.
CLASS_READERS: Final[Mapping[str, tuple[Reader, FamilyTraits]]] = {
    "PanguProMoEV2ForCausalLM": (
        read_pangu_sinks,
        replace(LATENT_EXPERTS, norms=4, windowed=False),
    ),
}
