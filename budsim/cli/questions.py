"""From the options of a command to the question the search answers."""

from __future__ import annotations

import math
import os
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from budsim.cli.options import SearchOptions, TargetOptions
from budsim.commons.errors import InvalidInput
from budsim.commons.units import MILLI

if TYPE_CHECKING:
    from budsim.hardware_ops.cluster import Cluster
    from budsim.performance.predictor import Predictor
    from budsim.performance.workload import Workload
    from budsim.simulator.planning.question import Question
    from budsim.simulator.planning.targets import Targets


def posed(
    model: str,
    workload: Workload,
    targets: TargetOptions,
    clusters: tuple[Cluster, ...],
    search: SearchOptions,
    *,
    shared: bool = False,
    risk: str = "expected",
) -> Question:
    """Return the question that the options of a command ask."""
    from budsim.hardware_ops.cluster import HardwareMode
    from budsim.simulator.planning.question import Question, Risk
    from budsim.simulator.questions import ModelSource, served

    folder = os.environ.get("MODEL_REGISTRY_DIR")
    source = ModelSource(registry_dir=Path(folder) if folder else None)
    wanted = targets_of(targets)
    architecture, traffic = served(source.find(model), workload, wanted)
    return Question(
        architecture=architecture,
        workload=traffic,
        targets=wanted,
        clusters=clusters,
        mode=HardwareMode.SHARED if shared else HardwareMode.DEDICATED,
        engines=frozenset({_engine(search.engine)}) if search.engine else frozenset(),
        may_quantize=search.quantize,
        analytic_only=search.analytic,
        risk=Risk(risk),
        max_loras=search.max_loras,
        max_lora_rank=search.max_lora_rank,
        seed=search.seed,
    )


def workload_of(input_tokens: int, output_tokens: int, concurrency: int) -> Workload:
    """Return traffic of so many requests in flight at the same time."""
    from budsim.performance.workload import Workload

    return Workload(input_tokens=input_tokens, output_tokens=output_tokens, concurrency=concurrency)


def targets_of(options: TargetOptions) -> Targets:
    """Return the targets in seconds and tokens per second; an option of 0 sets no target.

    Raises
    ------
    typer.BadParameter
        A target is negative, infinite or not a number.
    """
    from budsim.simulator.planning.targets import Targets

    return Targets(
        ttft_s=_target("--ttft-ms", options.ttft_ms, MILLI),
        tokens_per_s_per_user=_target("--tokens-per-s-per-user", options.tokens_per_s_per_user),
        e2e_s=_target("--e2e-s", options.e2e_s),
    )


def predictor_of(options: SearchOptions) -> Predictor:
    """Return the predictor a command asks for: trained models, corrected ones, or physics alone.

    Raises
    ------
    InvalidInput
        A correction is given for trained models that ``--analytic`` leaves out.
    """
    from budsim.performance.predictor import AnalyticPredictor, load_predictor

    if options.analytic and options.calibration:
        raise InvalidInput(
            "--calibration",
            "corrects the trained models, which --analytic leaves out",
            "one of the two",
        )
    if options.analytic:
        return AnalyticPredictor()
    return load_predictor(calibration=options.calibration)


def _target(option: str, value: float | None, unit: float = 1.0) -> float | None:
    if value is not None and not 0 <= value < math.inf:
        raise typer.BadParameter(
            f"{value} is not in the range 0 <= x < infinity (0: no target).",
            param_hint=f"'{option}'",
        )
    return value * unit if value else None


def _engine(name: str) -> str:
    from budsim.engine_ops import serving_engines

    wanted = name.strip().lower()
    if wanted not in serving_engines:
        raise typer.BadParameter(
            f"{name!r} is not one of {', '.join(serving_engines)}.", param_hint="'--engine'"
        )
    return wanted
