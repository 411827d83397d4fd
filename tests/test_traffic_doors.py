"""Every door takes every option of traffic, or says why it does not.

The doors: the terminal, HTTP, tools for agents, the page, and Python.
"""

from __future__ import annotations

from dataclasses import dataclass, fields

import pytest

import budsim
from budsim.agents.questions import Question
from budsim.cli.options import LoadOptions, RequestOptions
from budsim.page.fields import Asked
from budsim.simulator.wire.requests import RunRequest
from budsim.simulator.wire.traffic import LoadFields


@dataclass(frozen=True, slots=True)
class Absent:
    """Why a door lacks an option."""

    reason: str


UPLOAD = Absent("recorded requests are a file: the terminal, the page and Python read it")
OF_LAW = Absent("`lengths` is one field for prompts and answers")
BY_LAW = Absent("a law of each is a field of its own")
OF_PYTHON = Absent("for whoever compares runs; others take enough requests for a p99")
OF_BENCHMARKS = Absent("how a benchmark's client begins; questions are about a steady load")
GROUPS = Absent("`prefix_set_tokens` states the same by its size")

Name = str | Absent
# Name of each option in the terminal, over HTTP and for agents, on the page, and in Python.
OPTIONS: dict[str, tuple[Name, Name, Name, Name]] = {
    "prompt tokens": ("input_tokens", "input_tokens", "input_tokens", "Traffic.prompt"),
    "output tokens": ("output_tokens", "output_tokens", "output_tokens", "Traffic.output"),
    "law of both": ("lengths", BY_LAW, "lengths", BY_LAW),
    "law of prompts": (OF_LAW, "input_lengths", OF_LAW, "Traffic.prompt"),
    "law of outputs": (OF_LAW, "output_lengths", OF_LAW, "Traffic.output"),
    "longest prompt": (
        "max_input_tokens",
        "max_input_tokens",
        "max_input_tokens",
        "LognormalLength.longest",
    ),
    "requests in flight": (
        "concurrency",
        "concurrency",
        "concurrency",
        "ClosedLoop.concurrency",
    ),
    "rate": ("rate", "request_rate", "rate", "OpenLoop.requests_per_s"),
    "arrivals": ("arrival", "arrival", "arrival", "OpenLoop.process"),
    "recorded requests": ("trace", UPLOAD, "trace", "Traffic.arrivals"),
    "share of hits": ("prefix_hits", "prefix_hit_share", "prefix_hits", "PrefixShare.share"),
    "tokens of all prefixes": (
        "prefix_set_tokens",
        "prefix_set_tokens",
        "prefix_set_tokens",
        "PrefixSet.tokens",
    ),
    "router by prefix": (
        "route_by_prefix",
        "route_by_prefix",
        "route_by_prefix",
        "PrefixSet.by_prefix",
    ),
    "groups of prefixes": (GROUPS, GROUPS, GROUPS, "SharedPrefixes.groups"),
    "turns": ("turns", "turns", "turns", "Sessions.turns"),
    "seconds between turns": (
        "turn_interval_s",
        "turn_interval_s",
        "turn_interval_s",
        "Sessions.interval_s",
    ),
    "images": ("images_per_request", "images_per_request", "images_per_request", "Media.images"),
    "size of images": ("image_size", "image_size", "image_size", "Media.width"),
    "frames of video": ("video_frames", "video_frames", "video_frames", "Media.video_frames"),
    "seconds of audio": ("audio_seconds", "audio_seconds", "audio_seconds", "Media.audio_s"),
    "requests of a run": (OF_PYTHON, OF_PYTHON, OF_PYTHON, "Traffic.requests"),
    "requests that warm up": (OF_PYTHON, OF_PYTHON, OF_PYTHON, "Traffic.warmup"),
    "first wave": (OF_BENCHMARKS, OF_BENCHMARKS, OF_BENCHMARKS, "ClosedLoop.start"),
}

# Fields of the page that are about machines, targets, search and prices, and which load is meant.
NOT_TRAFFIC = frozenset(
    "width model source cluster_id upload device devices_per_node nodes load ttft_ms "
    "tokens_per_s_per_user e2e_s ttft_p95_ms ttft_p99_ms itl_p99_ms e2e_p95_s e2e_p99_s goodput "
    "risk engine quantize disaggregated max_loras max_lora_rank kv_offload_gib kv_store_gib "
    "kv_store kv_store_gb_per_s speculative draft_tokens draft_model acceptance domain temperature "
    "basis term provider prices pue usd_per_kwh g_co2_per_kwh".split()
)
# What else Python's values hold: parts of an option above, or filled in by the program.
PARTS = frozenset(
    "Traffic.prefix Traffic.media Traffic.item_tokens OpenLoop.variation ClosedLoop.first_wave_s "
    "PrefixSet.share SharedPrefixes.tokens Media.height LognormalLength.mean_tokens "
    "LognormalLength.variation".split()
)
PYTHON = (
    budsim.Traffic,
    budsim.ClosedLoop,
    budsim.OpenLoop,
    budsim.PrefixShare,
    budsim.PrefixSet,
    budsim.SharedPrefixes,
    budsim.Sessions,
    budsim.Media,
    budsim.LognormalLength,
)
WIRE = {name for name in LoadFields.model_fields if not name.startswith("target_")}

# What each door has now.
DOORS: dict[str, set[str]] = {
    "terminal": {each.name for part in (RequestOptions, LoadOptions) for each in fields(part)},
    "http": WIRE & RunRequest.model_fields.keys(),
    "agents": WIRE & Question.model_fields.keys(),
    "page": Asked.model_fields.keys() - NOT_TRAFFIC,
    "python": {f"{kind.__name__}.{each.name}" for kind in PYTHON for each in fields(kind)} - PARTS,
}
COLUMN = {"terminal": 0, "http": 1, "agents": 1, "page": 2, "python": 3}


@pytest.mark.parametrize("door", DOORS)
def test_a_door_has_every_option_that_it_does_not_explain_away(door: str) -> None:
    """An option without a name there has a reason."""
    named = {names[COLUMN[door]] for names in OPTIONS.values()}
    wanted = {name for name in named if isinstance(name, str)}
    assert wanted - DOORS[door] == set()


@pytest.mark.parametrize("door", DOORS)
def test_an_option_of_one_door_is_known_to_all(door: str) -> None:
    """A new option is written down here, for every door."""
    named = {names[COLUMN[door]] for names in OPTIONS.values()}
    assert DOORS[door] - named == set()


def test_every_reason_says_something() -> None:
    """A door that lacks an option says why in words."""
    absent = [name for names in OPTIONS.values() for name in names if isinstance(name, Absent)]
    assert all(len(each.reason.split()) >= 4 for each in absent)


def test_wire_and_agents_take_the_same() -> None:
    """Tools for agents inherit the fields of HTTP."""
    assert DOORS["http"] == DOORS["agents"] == WIRE
