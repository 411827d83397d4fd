"""The options that several commands share."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, ClassVar

import typer

from budsim.engine_ops.limits import DEFAULT_MAX_LORA_RANK
from budsim.performance.workload import MOST_REQUESTS, MOST_TOKENS

LARGEST_SEED = 2**63 - 1
LARGEST_TRAINING_SEED = 2**31 - 1
"""XGBoost reads its seed as a signed 32-bit number."""

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
    """How long requests are."""

    panel: ClassVar[str] = "Traffic"

    input_tokens: Annotated[
        int, typer.Option(min=1, max=MOST_TOKENS, help="Mean length of a prompt, in tokens.")
    ]
    output_tokens: Annotated[
        int,
        typer.Option(
            min=1,
            max=MOST_TOKENS,
            help="Mean length of an answer, in tokens. Embedding, reranking and other pooling "
            "models ignore it.",
        ),
    ]


@dataclass(frozen=True, slots=True, kw_only=True)
class LoadOptions:
    """How many requests there are."""

    panel: ClassVar[str] = "Traffic"

    concurrency: Annotated[
        int, typer.Option(min=1, max=MOST_REQUESTS, help="Requests in flight at the same time.")
    ]


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
    calibration: Calibration = None
    seed: Annotated[
        int, typer.Option(min=0, max=LARGEST_SEED, help="The same seed gives the same answer.")
    ] = 0


Shared = Annotated[
    bool, typer.Option("--shared", help="Use time-sliced GPUs instead of whole ones.")
]
