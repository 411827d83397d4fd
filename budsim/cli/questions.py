"""From the options of a command to the question the search answers."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, cast

import typer

from budsim.api import inputs
from budsim.cli.options import PriceOptions, SearchOptions, TargetOptions
from budsim.commons.errors import InvalidInput
from budsim.commons.units import MILLI
from budsim.engine_ops import serving_engines

if TYPE_CHECKING:
    from budsim.api.inputs import SearchOptions as Search
    from budsim.performance.predictor import Predictor
    from budsim.simulator.planning.targets import Targets


def targets_of(options: TargetOptions) -> Targets:
    """Return the targets in seconds and tokens per second; an option of 0 sets no target.

    Raises
    ------
    typer.BadParameter
        A target is negative, infinite or not a number.
    InvalidInput
        Targets contradict each other.
    """
    from budsim.simulator.planning.targets import PercentileTarget, Targets

    limits_s = {name: _target(*at) for name, at in _percentile_limits(options).items()}
    return Targets(
        ttft_s=_target("--ttft-ms", options.ttft_ms, MILLI),
        tokens_per_s_per_user=_target("--tokens-per-s-per-user", options.tokens_per_s_per_user),
        e2e_s=_target("--e2e-s", options.e2e_s),
        percentiles=tuple(
            PercentileTarget.named(name, limit_s) for name, limit_s in limits_s.items() if limit_s
        ),
        goodput=options.goodput,
    )


def _percentile_limits(options: TargetOptions) -> dict[str, tuple[str, float | None, float]]:
    """Return option, value and unit of each target at a percentile, by the figure it bounds."""
    return {
        "ttft_p95_s": ("--ttft-p95-ms", options.ttft_p95_ms, MILLI),
        "ttft_p99_s": ("--ttft-p99-ms", options.ttft_p99_ms, MILLI),
        "itl_p99_s": ("--itl-p99-ms", options.itl_p99_ms, MILLI),
        "e2e_p95_s": ("--e2e-p95-s", options.e2e_p95_s, 1.0),
        "e2e_p99_s": ("--e2e-p99-s", options.e2e_p99_s, 1.0),
    }


def search_of(options: SearchOptions, targets: TargetOptions, *, shared: bool = False) -> Search:
    """Return what the search may try, and how it judges targets."""
    return {
        "engines": (_engine(options.engine),) if options.engine else (),
        "quantize": options.quantize,
        "shared": shared,
        "analytic": options.analytic,
        **({"risk": targets.risk} if targets.risk is not None else {}),
        "max_loras": options.max_loras,
        "max_lora_rank": options.max_lora_rank,
        "kv_offload_gib": options.kv_offload_gib,
        "kv_store_gib": options.kv_store_gib,
        "seed": options.seed,
        **_guesses(options),
    }


def _guesses(options: SearchOptions) -> Search:
    """Return the options about guessed tokens, pools and the store that were given."""
    names = (
        "speculative draft_tokens draft_model acceptance domain temperature disaggregated "
        "kv_store kv_store_gb_per_s"
    ).split()
    given = {name: getattr(options, name) for name in names}
    return cast("Search", {name: value for name, value in given.items() if value is not None})


def prices_of(options: PriceOptions) -> Search:
    """Return the options about prices that were given.

    Raises
    ------
    InvalidInput
        An assumption is not NAME=NUMBER.
    """
    given = {
        "basis": options.basis,
        "term": options.term,
        "provider": options.provider,
        "prices": options.prices,
        "g_co2_per_kwh": options.g_co2_per_kwh,
        "ownership": dict(_assumption(each) for each in options.own or ()) or None,
    }
    return cast("Search", {name: value for name, value in given.items() if value is not None})


def _assumption(text: str) -> tuple[str, float]:
    from budsim.hardware_ops.ownership import LIMITS

    name, equals, value = text.partition("=")
    known = name.strip().replace("-", "_")
    if equals and known not in LIMITS:
        expected = f"one of {', '.join(LIMITS)}, as years=4"
        raise InvalidInput("--own", f"{name.strip()[:60]!r} is no assumption", expected)
    try:
        number = float(value)
    except ValueError:
        number = math.nan
    if not equals or math.isnan(number):
        raise InvalidInput("--own", f"{text[:60]!r} is no assumption", "NAME=NUMBER, as years=4")
    return known, number


def predictor_of(options: SearchOptions) -> Predictor:
    """Return the predictor a command asks for: trained models, corrected ones, or physics alone.

    Raises
    ------
    InvalidInput
        A correction is given for trained models that ``--analytic`` leaves out.
    """
    return inputs.predictor_of(analytic=options.analytic, calibration=options.calibration)


def _target(option: str, value: float | None, unit: float = 1.0) -> float | None:
    # 0 is what callers of the service send for "no target".
    if value is not None and not 0 <= value < math.inf:
        raise typer.BadParameter(
            f"{value} is not in the range 0 <= x < infinity (0: no target).",
            param_hint=f"'{option}'",
        )
    return value * unit if value else None


def _engine(name: str) -> str:
    wanted = name.strip().lower()
    if wanted not in serving_engines:
        raise typer.BadParameter(
            f"{name!r} is not one of {', '.join(serving_engines)}.", param_hint="'--engine'"
        )
    return wanted
