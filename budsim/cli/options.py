"""The options that several commands share."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, ClassVar

import typer

from budsim.engine_ops.limits import DEFAULT_MAX_LORA_RANK
from budsim.performance.limits import MOST_REQUESTS, MOST_TOKENS, USUAL_INTERVAL_S

LARGEST_SEED = 2**63 - 1
# XGBoost reads its seed as a signed 32-bit number.
LARGEST_TRAINING_SEED = 2**31 - 1

Model = Annotated[
    str,
    typer.Option(help="Hugging Face id, a known short name, or a path below MODEL_REGISTRY_DIR."),
]
ClusterFile = Annotated[
    Path, typer.Option(help="What there is: an inventory in JSON, or the short YAML form.")
]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON instead of tables.")]
Calibration = Annotated[
    Path | None,
    typer.Option(help="Correction for your own site, written by `budsim calibrate`."),
]
ModelsFolder = Annotated[
    Path | None,
    typer.Option("--models", help="Folder of trained models. Default: the shipped ones."),
]


@dataclass(frozen=True, slots=True, kw_only=True)
class LengthOptions:
    """How long requests are, and what they share."""

    panel: ClassVar[str] = "Traffic"

    input_tokens: Annotated[
        int | None,
        typer.Option(min=1, max=MOST_TOKENS, help="Mean length of a prompt, in tokens."),
    ] = None
    output_tokens: Annotated[
        int | None,
        typer.Option(
            min=1,
            max=MOST_TOKENS,
            help="Mean length of an answer, in tokens. Embedding, reranking and other pooling "
            "models ignore it.",
        ),
    ] = None
    lengths: Annotated[
        str,
        typer.Option(
            metavar="LAW",
            help="How lengths vary: fixed, uniform, uniform:LOW-HIGH, lognormal or lognormal:CV. "
            "PROMPTS,ANSWERS gives each its own law.",
        ),
    ] = "fixed"
    max_input_tokens: Annotated[
        int | None,
        typer.Option(
            min=1,
            max=MOST_TOKENS,
            help="Length of the longest prompt, in tokens. Prompts then vary (lognormal), unless "
            "--lengths says how.",
        ),
    ] = None
    prefix_hits: Annotated[
        float, typer.Option(help="Share of prompt tokens found in the prefix cache, 0 to 1.")
    ] = 0.0
    prefix_set_tokens: Annotated[
        float | None,
        typer.Option(
            help="Tokens of all prefixes that requests share, together. Caches that are too small "
            "for them find only part of --prefix-hits.",
            show_default="always found",
        ),
    ] = None
    route_by_prefix: Annotated[
        bool,
        typer.Option(
            "--route-by-prefix",
            help="A router sends requests to the replica that holds their prefix (llm-d, Dynamo, "
            "SGLang's router): replicas divide --prefix-set-tokens.",
        ),
    ] = False
    turns: Annotated[
        int | None,
        typer.Option(
            help="Requests of a conversation, each with all that was said before; --input-tokens "
            "are then the new ones of a turn."
        ),
    ] = None
    turn_interval_s: Annotated[
        float | None,
        typer.Option(
            help="Seconds between the turns of a conversation, at a --rate.",
            show_default=f"{USUAL_INTERVAL_S:g}",
        ),
    ] = None


@dataclass(frozen=True, slots=True, kw_only=True)
class RequestOptions(LengthOptions):
    """How long requests are, and which images, video and audio they hold."""

    images_per_request: Annotated[
        int, typer.Option(help="Images in each request, of a model that reads images.")
    ] = 0
    image_size: Annotated[
        str,
        typer.Option(
            metavar="WxH",
            help="Pixels of an image, or of a frame of video: 1024x768.",
            show_default=False,
        ),
    ] = ""
    video_frames: Annotated[
        int, typer.Option(help="Frames of the video in each request, after sampling.")
    ] = 0
    audio_seconds: Annotated[
        float, typer.Option(help="Seconds of audio in each request, of a model that hears.")
    ] = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class LoadOptions:
    """How many requests there are: one of concurrency, rate and trace."""

    panel: ClassVar[str] = "Traffic"

    concurrency: Annotated[
        int | None,
        typer.Option(
            min=1,
            max=MOST_REQUESTS,
            help="Requests in flight at the same time: each client waits for its answer.",
        ),
    ] = None
    rate: Annotated[
        float | None,
        typer.Option(help="Requests per second, whether or not earlier ones are answered."),
    ] = None
    arrival: Annotated[
        str | None,
        typer.Option(
            metavar="PROCESS",
            help="How the gaps between requests of --rate vary: constant, poisson, gamma:CV or "
            "burst:SIZE.",
            show_default="poisson",
        ),
    ] = None
    trace: Annotated[
        Path | None,
        typer.Option(
            help="Recorded requests: Azure's CSV, Mooncake's JSON lines, or a CSV of send_s, "
            "prompt_tokens, output_tokens. With --rate it runs at that mean rate."
        ),
    ] = None


@dataclass(frozen=True, slots=True, kw_only=True)
class TargetOptions:
    """The worst service that is good enough."""

    panel: ClassVar[str] = "Targets"

    ttft_ms: Annotated[
        float | None, typer.Option(help="Longest mean time to first token, ms. 0: no target.")
    ] = None
    tokens_per_s_per_user: Annotated[
        float | None,
        typer.Option(help="Fewest output tokens/s that one user receives, mean. 0: no target."),
    ] = None
    e2e_s: Annotated[
        float | None,
        typer.Option(help="Longest mean time from request to last token, s. 0: no target."),
    ] = None
    ttft_p95_ms: Annotated[
        float | None, typer.Option(help="95 of 100 requests see their first token within this, ms.")
    ] = None
    ttft_p99_ms: Annotated[
        float | None, typer.Option(help="99 of 100 requests see their first token within this, ms.")
    ] = None
    itl_p99_ms: Annotated[
        float | None, typer.Option(help="99 of 100 gaps between tokens are within this, ms.")
    ] = None
    e2e_p95_s: Annotated[
        float | None, typer.Option(help="95 of 100 requests are answered within this, s.")
    ] = None
    e2e_p99_s: Annotated[
        float | None, typer.Option(help="99 of 100 requests are answered within this, s.")
    ] = None
    goodput: Annotated[
        float | None,
        typer.Option(
            help="Share of requests, 0 to 1, that must each be within --ttft-ms, --e2e-s and "
            "--tokens-per-s-per-user, which are then limits of single requests."
        ),
    ] = None
    risk: Annotated[
        str | None,
        typer.Option(
            help="Least chance of meeting all targets a plan must have, 0 to 0.99. expected: "
            "compare the best estimates; cautious: 0.95.",
            show_default="0.8",
        ),
    ] = None


@dataclass(frozen=True, slots=True, kw_only=True)
class SearchOptions:
    """What the search may try."""

    panel: ClassVar[str] = "Search"

    engine: Annotated[
        str | None, typer.Option(help="Try this serving engine only: vllm or sglang.")
    ] = None
    quantize: Annotated[bool, typer.Option("--quantize", help="Also try quantized weights.")] = (
        False
    )
    analytic: Annotated[
        bool,
        typer.Option(
            "--analytic", help="Use physics alone, without trained models, and try a fixed grid."
        ),
    ] = False
    max_loras: Annotated[
        int, typer.Option(min=0, max=1024, help="LoRA adapters that each replica serves at once.")
    ] = 0
    max_lora_rank: Annotated[
        int, typer.Option(min=1, max=512, help="Highest rank of these adapters.")
    ] = DEFAULT_MAX_LORA_RANK
    kv_offload_gib: Annotated[
        float,
        typer.Option(help="Host memory of each node that may hold KV cache of its replicas, GiB."),
    ] = 0.0
    kv_store_gib: Annotated[
        float,
        typer.Option(help="KV cache in a store that all replicas share, GiB."),
    ] = 0.0
    kv_store: Annotated[
        str | None,
        typer.Option(
            help="That store: mooncake (memory of all nodes), lmcache (a Redis server) or file (a "
            "folder that all nodes mount).",
            show_default="mooncake",
        ),
    ] = None
    kv_store_gb_per_s: Annotated[
        float | None,
        typer.Option(
            help="What it delivers to all replicas together, GB/s.",
            show_default="what its network cards can",
        ),
    ] = None
    speculative: Annotated[
        str | None,
        typer.Option(help="Guess tokens ahead where it gains: mtp, eagle3, draft_model or ngram."),
    ] = None
    draft_tokens: Annotated[
        int | None,
        typer.Option(
            help="Tokens guessed for each step, 1 to 16.", show_default="several are tried"
        ),
    ] = None
    draft_model: Annotated[
        str | None,
        typer.Option(help="What guesses: the EAGLE-3 head or smaller model (Hugging Face id)."),
    ] = None
    acceptance: Annotated[
        float | None,
        typer.Option(
            help="Share of guesses that are right, each after right ones, 0 to 1.",
            show_default="as published",
        ),
    ] = None
    domain: Annotated[
        str | None,
        typer.Option(
            help="Texts whose published acceptance is taken: chat, coding, math...",
            show_default="any",
        ),
    ] = None
    temperature: Annotated[
        float | None,
        typer.Option(
            help="Sampling temperature whose published acceptance is taken.", show_default="any"
        ),
    ] = None
    disaggregated: Annotated[
        str | None,
        typer.Option(
            help="Workers of their own for prefill and decode: off, also (where that is better) "
            "or only.",
            show_default="off",
        ),
    ] = None
    calibration: Calibration = None
    seed: Annotated[
        int, typer.Option(min=0, max=LARGEST_SEED, help="The same seed gives the same answer.")
    ] = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class PriceOptions:
    """What an hour of a device costs."""

    panel: ClassVar[str] = "Prices"

    basis: Annotated[
        str | None,
        typer.Option(
            envvar="PRICE_BASIS",
            help="rent: what providers ask; own: purchase, host, network, power and hosting.",
            show_default="rent",
        ),
    ] = None
    term: Annotated[
        str | None,
        typer.Option(
            envvar="PRICE_TERM",
            help="How devices are rented: on-demand, reserved or spot.",
            show_default="on-demand",
        ),
    ] = None
    provider: Annotated[
        str | None,
        typer.Option(
            envvar="PRICE_PROVIDER",
            help="Take this provider's rents.",
            show_default="the lowest published",
        ),
    ] = None
    prices: Annotated[
        Path | None,
        typer.Option(
            envvar="PRICES_FILE",
            help="Your own prices: YAML, JSON or CSV with device, usd_per_h, purchase_usd.",
        ),
    ] = None
    g_co2_per_kwh: Annotated[
        float | None,
        typer.Option(
            envvar="GRID_G_CO2_PER_KWH",
            help="Carbon intensity of the grid, g CO2 per kWh.",
            show_default="445, the world's average",
        ),
    ] = None
    own: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME=NUMBER",
            help="An assumption of --basis own: years, host_share, host_least_usd, network_share, "
            "pue, usd_per_kwh, hosting_usd_per_kw_month, load, utilisation. May be repeated.",
        ),
    ] = None


Shared = Annotated[
    bool, typer.Option("--shared", help="Use time-sliced GPUs instead of whole ones.")
]
