"""The time of any step of a candidate as a few tables, so that a replay never calls the physics.

A step of P prompt tokens and D decoding sequences with a mean context C takes

    prefill[P + D] + beside[D] + D g(C) + sum over prompts of p q(context)    seconds with a prompt,
    decode[D] + D g(C)                                                        without one,

because matrices see all tokens alike, the output head sees only those that are sampled, and
attention counts each token by what it looks back at. The error against the physics stays below
0.5 % (tested).

Where guessed tokens are verified, a step yields several tokens for each sequence. The tables then
hold the share of a step that one token takes, and the replay goes on token by token.

Where memory traffic and everything else hide each other (llama.cpp), only the two parts are such
sums. They are tabled one by one and blended in the replay.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields, is_dataclass, replace
from typing import Any, TypeVar

import numpy as np

from budsim.engine_ops.engine_profile import AttendedTokens
from budsim.performance.candidates import Candidates, Floats, Integers, kinds_of, rows_of
from budsim.performance.physics.constants import FITTED, PhysicsConstants
from budsim.performance.physics.operators import StepTime, step_time
from budsim.performance.physics.ranks import Ranks, prepare

# Knots in an octave, and octaves: up to 262,144 tokens a step, and 1,048,576 of context.
TOKEN_KNOTS, TOKEN_OCTAVES = 8, 18
CONTEXT_KNOTS, CONTEXT_OCTAVES = 2, 16
# The first context knot above 0, tokens; kernel/tables.h counts from it too.
LOWEST_CONTEXT = 16.0
# The physics are asked at whole tokens up to 16, at every knot up to 128, then at every second.
EVERY_KNOT_TO, EVERY_TOKEN_TO = 128.0, 16.0
# Sequences, or prompt tokens, the tables over context are computed with; 8 sequences or more
# multiply their attention together (see ``attended``).
TRIAL_SEQUENCES, TRIAL_TOKENS = 8.0, 1024.0
# Candidates whose tables are computed at a time: their arrays stay in the processor's cache.
PART_ROWS = 16
# Columns of candidates on which the time of a step does not depend: what comes, and what is kept.
LOAD_COLUMNS = frozenset(
    "concurrency max_num_seqs memory_fraction prefix_set_tokens unshared_tokens store_bytes".split()
)


def _knots(per_octave: int, octaves: int) -> Floats:
    """Return 0 and the knots 2^e (1 + j / per_octave) from 1 to 2^octaves."""
    steps = 1.0 + np.arange(per_octave) / per_octave
    powers = 2.0 ** np.arange(octaves)
    return np.concatenate([[0.0], np.outer(powers, steps).ravel(), [2.0**octaves]])


TOKENS = _knots(TOKEN_KNOTS, TOKEN_OCTAVES)
CONTEXTS = _knots(CONTEXT_KNOTS, CONTEXT_OCTAVES) * LOWEST_CONTEXT
_COARSE = _knots(TOKEN_KNOTS // 2, TOKEN_OCTAVES)
# Tokens at which the physics are asked; knots between them are interpolated.
ASKED = np.unique(
    np.concatenate(
        [
            np.arange(EVERY_TOKEN_TO),
            TOKENS[(TOKENS >= EVERY_TOKEN_TO) & (TOKENS <= EVERY_KNOT_TO)],
            _COARSE[_COARSE > EVERY_KNOT_TO],
        ]
    )
)


@dataclass(frozen=True, slots=True, kw_only=True)
class PartTables:
    """Seconds of a step, or of one of its two parts; one row a candidate.

    Attributes
    ----------
    decode, prefill : float arrays, shape (n, len(TOKENS))
        A step of so many sequences, or prompt tokens, that look back at nothing.
    beside : float array, shape (n, len(TOKENS))
        What so many sequences cost beside a prompt, on top of their tokens in the matrices.
    decode_context, prefill_context : float arrays, shape (n, len(CONTEXTS))
        What looking back so far adds for one sequence, or one prompt token.
    attended : float array, shape (n, len(CONTEXTS))
        What eight or more sequences add together, by the cached tokens that each multiplies.
    """

    decode: Floats
    prefill: Floats
    beside: Floats
    decode_context: Floats
    prefill_context: Floats
    attended: Floats


@dataclass(frozen=True, slots=True, kw_only=True)
class StepTables:
    """Step times of candidates.

    Attributes
    ----------
    rest : PartTables
        The whole step; without its memory traffic where ``overlap`` > 1.
    traffic : PartTables
        Memory traffic; zeros where ``overlap`` is 1.
    overlap : float array, shape (n,)
        Exponent of the p-norm that joins both parts.
    prompt_factor : float array, shape (n,)
        What prompts add to a step, relative to what these tables say.
    step_floor_s, prompt_step_floor_s : float arrays, shape (n,)
        No step, and no step with prompts, is shorter: the host launches its layers.
    multiplies_cache, multiplies_step : float arrays, shape (n,)
        1.0 where a sequence multiplies everyone's cache, or a prompt token its whole step;
        else 0.0.
    tokens_per_step : float array, shape (n,)
        Tokens a step yields for a sequence; ``decode`` holds the share of one of them.
    """

    rest: PartTables
    traffic: PartTables
    overlap: Floats
    prompt_factor: Floats
    step_floor_s: Floats
    prompt_step_floor_s: Floats
    multiplies_cache: Floats
    multiplies_step: Floats
    tokens_per_step: Floats

    def __len__(self) -> int:
        """Return the number of candidates."""
        return len(self.overlap)


def step_tables(candidates: Candidates, constants: PhysicsConstants = FITTED) -> StepTables:
    """Return the tables of each candidate; those that differ take about half a millisecond each."""
    distinct, kind = kinds_of(columns_of_steps(candidates))
    tables: StepTables = _rows(_tables(rows_of(candidates, distinct), constants), kind)
    return tables


def columns_of_steps(candidates: Candidates) -> list[Any]:
    """Return the columns on which the time of a step depends."""
    return [
        value
        for field in fields(candidates)
        if isinstance(value := getattr(candidates, field.name), np.ndarray)
        and field.name not in LOAD_COLUMNS
    ]


def _tables(candidates: Candidates, constants: PhysicsConstants) -> StepTables:
    """Return the tables of candidates that differ from each other."""
    ranks = prepare(candidates, constants)
    zeros = np.zeros(len(candidates))
    without_floor = replace(ranks, step_floor_s=zeros, prompt_step_floor_s=zeros)
    rows = np.arange(len(candidates))
    overlapped = ranks.constants.overlap_exponent > 1.0
    parts = [part for same in (rows[~overlapped], rows[overlapped]) for part in _pieces(same)]
    tables = [_tables_of(_rows(without_floor, part)) for part in parts]
    order = np.argsort(np.concatenate(parts))
    rest, traffic = (_joined([each[side] for each in tables], order) for side in (0, 1))
    attended = [engine.attended for engine in candidates.engines]
    return StepTables(
        rest=rest,
        traffic=traffic,
        overlap=ranks.constants.overlap_exponent,
        prompt_factor=ranks.constants.prompt_factor,
        step_floor_s=ranks.step_floor_s,
        prompt_step_floor_s=ranks.prompt_step_floor_s,
        multiplies_cache=candidates.by_engine([each is AttendedTokens.CACHE for each in attended]),
        multiplies_step=candidates.by_engine(
            [each is not AttendedTokens.PAST for each in attended]
        ),
        tokens_per_step=candidates.tokens_per_step,
    )


def _pieces(rows: Integers) -> list[Integers]:
    return [rows[start : start + PART_ROWS] for start in range(0, len(rows), PART_ROWS)]


def _joined(parts: list[PartTables], order: Integers) -> PartTables:
    names = [field.name for field in fields(PartTables)]
    return PartTables(
        **{name: np.concatenate([getattr(part, name) for part in parts])[order] for name in names}
    )


Rows = TypeVar("Rows", bound=Any)


def _rows(table: Rows, at: Integers) -> Rows:
    """Return rows of prepared candidates, their nested tables included."""
    chosen: dict[str, Any] = {}
    for field in fields(table):
        value = getattr(table, field.name)
        if isinstance(value, np.ndarray):
            chosen[field.name] = value[at]
        elif field.name == "candidates":
            chosen[field.name] = rows_of(value, at)
        elif is_dataclass(value) and field.name != "model":  # a model's arrays have no rows
            chosen[field.name] = _rows(value, at)
    return replace(table, **chosen)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Asking:
    """The steps the physics must time: each candidate, repeated for every step of its tables."""

    rows: int
    ranks: Ranks
    load: Mapping[str, Floats]
    context: Floats

    def step(self, *, looks: float = 1.0, multiplies: float = 1.0) -> StepTime:
        """Return the asked steps; with 0.0 sequences do not look back, or multiply nothing."""
        return step_time(
            self.ranks,
            **self.load,
            decode_context=looks * self.context,
            decode_attended=multiplies * self.context,
        )

    def tables(self, seconds: Floats) -> PartTables:
        """Return the tables in the seconds of all asked steps."""
        pace = self.ranks.candidates.tokens_per_step.reshape(self.rows, -1)[:, :1]
        return _split(seconds.reshape(self.rows, -1), pace)


def _asking(ranks: Ranks) -> _Asking:
    rows = len(ranks.candidates)
    zero, none = np.zeros_like(ASKED), np.zeros_like(CONTEXTS)
    load = {
        "decode": np.concatenate([ASKED, zero, ASKED, none + TRIAL_SEQUENCES, none]),
        "prefill": np.concatenate([zero, ASKED, zero + 1.0, none, none + TRIAL_TOKENS]),
        "prefill_context": np.concatenate([zero, zero, zero, none, CONTEXTS]),
    }
    context = np.concatenate([zero, zero, zero, CONTEXTS, none])
    return _Asking(
        rows=rows,
        ranks=_rows(ranks, np.repeat(np.arange(rows), len(context))),
        load={name: np.tile(values, rows) for name, values in load.items()},
        context=np.tile(context, rows),
    )


def _tables_of(ranks: Ranks) -> tuple[PartTables, PartTables]:
    """Return the tables of a step without its traffic, and of that, for rows of one kind."""
    if ranks.constants.overlap_exponent[0] > 1.0:
        ones = np.ones_like(ranks.constants.overlap_exponent)
        plain = replace(ranks.constants, overlap_exponent=ones)
        return _overlapping(_asking(replace(ranks, constants=plain)))
    asking = _asking(ranks)
    seconds = asking.step().total_s
    return asking.tables(seconds), asking.tables(np.zeros_like(seconds))


def _overlapping(asking: _Asking) -> tuple[PartTables, PartTables]:
    """Return both parts of steps whose traffic hides other work.

    A sequence that looks back but multiplies nothing shows the traffic; one that multiplies but
    does not look back shows the rest. What sequences multiply together is overhead of the host.
    """
    looking, multiplying = asking.step(multiplies=0.0), asking.step(looks=0.0)
    idle = asking.step(looks=0.0, multiplies=0.0)
    overhead = asking.tables(multiplying.overhead_s)
    rest = asking.tables(multiplying.total_s - _traffic(idle))
    return replace(
        rest,
        decode_context=rest.decode_context - overhead.decode_context,
        attended=overhead.decode_context * TRIAL_SEQUENCES,
    ), asking.tables(_traffic(looking))


def _traffic(step: StepTime) -> Floats:
    """Return the seconds of weights and cache of a step whose attention multiplies nothing."""
    return step.weights_s + step.cache_s


def _split(seconds: Floats, pace: Floats) -> PartTables:
    """Return the tables in the seconds of all asked steps, shape (n, steps).

    A step that yields ``pace`` (n, 1) tokens for each sequence stands for as many of its share.
    """
    decode, prefill, mixed, decode_context, prefill_context = np.split(
        seconds, np.cumsum([len(ASKED), len(ASKED), len(ASKED), len(CONTEXTS)]), axis=1
    )
    whole, alone = _at_knots(prefill), prefill[:, 1:2]
    return PartTables(
        decode=_at_knots(decode) / pace,
        prefill=whole,
        beside=_at_knots(alone + (mixed - alone) / pace - _one_more(whole)),
        decode_context=(decode_context - decode_context[:, :1]) / TRIAL_SEQUENCES / pace,
        prefill_context=(prefill_context - prefill_context[:, :1]) / TRIAL_TOKENS,
        attended=np.zeros_like(decode_context),
    )


def _one_more(prefill: Floats) -> Floats:
    """Return the seconds of a prompt of one token more than each of `ASKED`, shape (n, asked)."""
    return np.stack([np.interp(ASKED + 1.0, TOKENS, row) for row in prefill])


def _at_knots(asked: Floats) -> Floats:
    """Interpolate seconds at `ASKED` to `TOKENS`; both along the second axis."""
    right = np.clip(np.searchsorted(ASKED, TOKENS, side="left"), 1, len(ASKED) - 1)
    share = (TOKENS - ASKED[right - 1]) / (ASKED[right] - ASKED[right - 1])
    return np.asarray(asked[:, right - 1] * (1.0 - share) + asked[:, right] * share)
