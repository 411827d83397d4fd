"""How the servers behind measured rows guessed tokens ahead: by columns, notes or protocol."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd

from budsim.commons.errors import BudsimError, NotFound
from budsim.model_ops.architecture import Architecture
from budsim.model_ops.registry import resolve_model
from budsim.performance.acceptance import (
    Acceptance,
    domains,
    find_acceptance,
    stated_acceptance,
)
from budsim.performance.candidates import Integers
from budsim.performance.measured.problems import mark
from budsim.performance.measured.protocols import (
    client_entries,
    draft_tokens,
    drafting,
    stated_flags,
)
from budsim.performance.speculation import (
    MOST_DRAFT_TOKENS,
    PLAIN,
    Method,
    Speculation,
    check_drafts,
    drafter_of,
)

# Optional columns that say how a row speculates.
TEXTS = ("speculative_method", "draft_model", "domain")


def mark_unreadable_drafts(text: pd.DataFrame, numbers: pd.DataFrame, problems: pd.Series) -> None:
    """Write into ``problems`` why a row's way to speculate cannot be read."""
    names, method = ", ".join(Method), text.speculative_method.str.lower()
    known = method.isin(["", *Method])
    draft = numbers.draft_tokens
    whole = draft.isna() | ((draft >= 1) & (draft <= MOST_DRAFT_TOKENS) & (draft % 1 == 0))
    share = numbers.acceptance.isna() | (numbers.acceptance <= 1.0)
    without = (method == Method.DRAFT_MODEL) & (text.draft_model == "")
    alone = (method == "") & ~drafting(text.notes)
    needed = "is given without its method; expected a speculative_method"
    for wrong, reason in (
        (alone & draft.notna(), f"draft_tokens: {needed}"),
        (alone & numbers.acceptance.notna(), f"acceptance: {needed}"),
        (alone & (text.draft_model != ""), f"draft_model: {needed}"),
        (~known, f"speculative_method: expected one of {names}"),
        (~whole, f"draft_tokens: expected a whole number from 1 to {MOST_DRAFT_TOKENS}"),
        (
            (text.domain != "") & ~text.domain.isin(domains()),
            f"domain: expected one of {', '.join(domains())}",
        ),
        (~share, "acceptance: expected a share of guesses from 0 to 1"),
        (without, "draft_model: is blank; expected the model that drafts"),
    ):
        mark(problems, wrong, reason)
    for row in np.flatnonzero((method != "") & (problems == "")):
        if reason := _why_no_draft(text.iloc[row]):
            problems.iloc[int(row)] = reason


def _why_no_draft(row: pd.Series) -> str:
    """Return why a row's draft model cannot guess for its model, "" where it can."""
    try:
        draft = _draft_model(row.draft_model)
        model = resolve_model(row.model_hf or row.model)
        check_drafts(model, Method(row.speculative_method.lower()), draft)
    except BudsimError as error:
        return str(error)
    return ""


def _draft_model(name: str) -> Architecture | None:
    """Return the model of a column; an error names that column, not the one of the big model."""
    try:
        return resolve_model(name) if name else None
    except NotFound as error:
        raise NotFound("draft_model", error.value, error.hint) from error


def speculations(
    text: pd.DataFrame, numbers: pd.DataFrame, models: Sequence[Architecture]
) -> tuple[tuple[Speculation, ...], Integers | None]:
    """Return the distinct ways to speculate and which of them each row has; None where no row has.

    Rows that name a method by its column do; without one those whose notes speak of drafts. Where a
    row names no domain, it is that of its source's prompts.
    """
    stated = text.speculative_method.str.lower()
    guesses = np.asarray((stated != "") | drafting(text.notes), dtype=bool)
    if not guesses.any():
        return (), None
    told = stated_flags(text.notes).draft_tokens
    rows = text.join(numbers.drop(columns="draft_tokens"))
    counts = draft_tokens(rows, np.full(len(text), 3.0))
    counts = numbers.draft_tokens.fillna(told).fillna(pd.Series(counts)).to_numpy()
    usual = pd.Series([each.get("domain", "") for each in client_entries(rows)], text.index)
    text = text.assign(domain=text.domain.mask(text.domain == "", usual))
    found: dict[Speculation, int] = {PLAIN: 0}
    codes = np.zeros(len(text), dtype=np.int64)
    for row in map(int, np.flatnonzero(guesses)):
        stated = numbers[["acceptance", "temperature"]].iloc[row]
        way = _way(text.iloc[row], int(counts[row]), stated, models[row])
        codes[row] = found.setdefault(way, len(found))
    return tuple(found), codes


def _way(row: pd.Series, tokens: int, stated: pd.Series, model: Architecture) -> Speculation:
    method = Method(row.speculative_method.lower() or _method(row.notes))
    tokens = min(max(tokens, 1), MOST_DRAFT_TOKENS)
    temperature = None if np.isnan(stated.temperature) else float(stated.temperature)
    found: Acceptance = (
        find_acceptance(model.model_id, method, tokens, domain=row.domain, temperature=temperature)
        if np.isnan(stated.acceptance)
        else stated_acceptance(float(stated.acceptance), tokens)
    )
    draft = resolve_model(row.draft_model) if row.draft_model else None
    return Speculation(
        method=method,
        draft_tokens=tokens,
        tokens_per_step=found.tokens_per_step,
        spread=found.spread,
        drafter=draft or drafter_of(model, method),
        drafter_name=row.draft_model,
    )


def _method(notes: str) -> str:
    """Return the method that notes speak of; multi-token prediction where they name none."""
    lower = notes.lower()
    named = (Method.EAGLE3, "eagle"), (Method.NGRAM, "ngram"), (Method.MTP, "")
    return next(method for method, word in named if word in lower)
