"""From options to traffic: what clients send, and when."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from budsim.cli.options import LengthOptions, LoadOptions, RequestOptions
from budsim.commons.errors import InvalidInput
from budsim.model_ops.media import Media
from budsim.performance.limits import MOST_TOKENS

if TYPE_CHECKING:
    from budsim.performance.lengths import LengthLaw
    from budsim.performance.traffic import Arrivals, Traffic

PROBLEMS_TOLD = 3


def traffic_of(lengths: LengthOptions, load: LoadOptions, model: str = "") -> Traffic:
    """Return the traffic that options describe.

    Requests of a trace that are longer than the context of ``model`` are left out, with a reason.

    Raises
    ------
    typer.BadParameter
        Lengths or load are missing or given twice.
    InvalidInput
        A value is out of range, or a trace cannot be read.
    """
    if load.trace:
        return _of_trace(load.trace, lengths, load, model)
    return _of_lengths(lengths, _arrivals(load))


def with_media(traffic: Traffic, options: RequestOptions) -> Traffic:
    """Return the traffic with the images, video and audio that options put into each request.

    Raises
    ------
    InvalidInput
        An option is out of range, or a size is missing.
    """
    media = Media.named(
        images=options.images_per_request,
        size=options.image_size,
        video_frames=options.video_frames,
        audio_s=options.audio_seconds,
    )
    return replace(traffic, media=media)


def closed_loop_of(lengths: LengthOptions, concurrency: int) -> Traffic:
    """Return requests of these lengths with so many in flight."""
    from budsim.performance.traffic import ClosedLoop

    return _of_lengths(lengths, ClosedLoop(concurrency=concurrency))


def at_any_rate_of(lengths: LengthOptions, arrival: str) -> Traffic:
    """Return requests of these lengths that come by a process, at a rate that does not matter."""
    from budsim.performance.traffic import OpenLoop

    return _of_lengths(lengths, OpenLoop.named(arrival, 1.0))


def _of_lengths(lengths: LengthOptions, arrivals: Arrivals) -> Traffic:
    from budsim.performance.lengths import prompts_and_outputs
    from budsim.performance.prefixes import prefix_of
    from budsim.performance.traffic import Traffic

    prompts, outputs = prompts_and_outputs(lengths.lengths)
    return Traffic(
        arrivals=arrivals,
        prompt=_prompt_law(prompts, lengths),
        output=_law(outputs, "--output-tokens", lengths.output_tokens),
        prefix=prefix_of(
            lengths.prefix_hits,
            lengths.prefix_set_tokens,
            by_prefix=lengths.route_by_prefix,
            turns=lengths.turns,
            interval_s=lengths.turn_interval_s,
        ),
    )


def _prompt_law(text: str, lengths: LengthOptions) -> LengthLaw:
    """Return the law of prompts; with a longest prompt they vary up to it."""
    from budsim.performance.lengths import cut_at, law_up_to

    longest = lengths.max_input_tokens
    law = _law(law_up_to(text, longest), "--input-tokens", lengths.input_tokens)
    return cut_at(law, longest)


def _law(text: str, option: str, mean: int | None) -> LengthLaw:
    """Return one law of lengths; uniform:LOW-HIGH states its own mean."""
    from budsim.performance.lengths import lengths_of_mean, parse_lengths

    parse_lengths(text, mean or 1)  # what is no law is an error of --lengths
    if mean is not None:
        try:
            return lengths_of_mean(text, mean)
        except InvalidInput as error:
            raise typer.BadParameter(f"{error.problem}.", param_hint=f"'{option}'") from error
    if ":" in text and text.strip().lower().startswith("uniform"):
        return parse_lengths(text, 1)
    raise typer.BadParameter("a mean length is needed.", param_hint=f"'{option}'")


def _arrivals(load: LoadOptions) -> Arrivals:
    from budsim.performance.traffic import ClosedLoop, OpenLoop

    if load.rate is not None and load.concurrency is not None:
        raise typer.BadParameter(
            "clients either come at a rate or wait for their answers: give one of both.",
            param_hint="'--rate' / '--concurrency'",
        )
    if load.rate is not None:
        return OpenLoop.named(load.arrival or "poisson", load.rate)
    if load.arrival is not None:
        raise typer.BadParameter(
            "says how requests of --rate come; clients of --concurrency wait for their answers.",
            param_hint="'--arrival'",
        )
    if load.concurrency is None:
        raise typer.BadParameter(
            "one of them is needed: requests in flight, requests per second, or a file.",
            param_hint="'--concurrency' / '--rate' / '--trace'",
        )
    return ClosedLoop(concurrency=load.concurrency)


def _of_trace(path: Path, lengths: LengthOptions, load: LoadOptions, model: str) -> Traffic:
    from budsim.api.inputs import architecture_of
    from budsim.performance.measured.traces import read_trace

    _refuse_beside_a_trace(lengths, load)
    if not path.is_file():
        what = "is a folder" if path.is_dir() else "does not exist"
        raise InvalidInput("trace", f"{path.name} {what}", "a readable file")
    longest = architecture_of(model).max_context_tokens if model else MOST_TOKENS
    found = read_trace(path, longest)
    if found.left_out:
        typer.echo(f"{path.name}: {found.left_out} of {found.rows} rows left out", err=True)
        for problem in found.problems[:PROBLEMS_TOLD]:
            typer.echo(f"  {problem}", err=True)
    traffic = found.traffic()
    return traffic if load.rate is None else traffic.at(load.rate)


def _refuse_beside_a_trace(lengths: LengthOptions, load: LoadOptions) -> None:
    given = {
        "--concurrency": load.concurrency is not None,
        "--input-tokens": lengths.input_tokens is not None,
        "--output-tokens": lengths.output_tokens is not None,
        "--lengths": lengths.lengths != "fixed",
        "--max-input-tokens": lengths.max_input_tokens is not None,
        "--prefix-hits": lengths.prefix_hits != 0.0,
        "--prefix-set-tokens": lengths.prefix_set_tokens is not None,
        "--route-by-prefix": lengths.route_by_prefix,
        "--turns": lengths.turns is not None,
        "--turn-interval-s": lengths.turn_interval_s is not None,
        "--arrival": load.arrival is not None,
    }
    for option, is_given in given.items():
        if is_given:
            raise typer.BadParameter("a trace states this itself.", param_hint=f"'{option}'")
