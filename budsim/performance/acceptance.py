"""How many guessed tokens are right: published acceptance by model, method, length and domain."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise
from statistics import median

from budsim.commons.catalog import load_catalog
from budsim.commons.errors import CatalogError, InvalidInput
from budsim.model_ops.architecture import Architecture
from budsim.performance.speculation import (
    MOST_DRAFT_TOKENS,
    Method,
    Speculation,
    check_drafts,
    drafter_of,
    tokens_per_step,
)

# Log half widths of 90 % intervals of the tokens a step yields. A model's own curve, measured with
# the same method: runs of one model in the catalog differ by so much between prompts of 1,024 and
# 8,192 tokens. Chosen by us from those runs, not fitted.
SAME_MODEL_SPREAD = 0.10

# The model's own curve, but of another domain or temperature: domains differ by 4 to 40 % in the
# catalog. From temperature 0 to 1 heads lose 3 to 6 % (nebius/EAGLE3-Llama-3.3-70B-Instruct), but
# 39 % where an engine drafts greedily and the model samples (vllm-project/vllm#41044).
OTHER_DOMAIN_SPREAD = 0.25

# No curve of the model: the least and the most of a method's curves lie so far from their median.
OTHER_MODEL_SPREAD = 0.45

# A caller's own acceptance: counters of a server over many requests.
STATED_SPREAD = 0.05

# Acceptance of a guess after a right one, beyond the longest draft that was measured.
LEAST_CONTINUATION, MOST_CONTINUATION = 0.3, 0.95

# Prompts of tokens drawn at random. Curves of a model's own text say little of them: 2 guesses of
# the catalog's MTP layers yield 2.0 to 2.2 tokens there, and 2.2 to 2.7 of text.
RANDOM = "random"

# Draft models have no curve in the catalog: what the others have together stands for them.
POOLED = tuple(method for method in Method if method is not Method.NGRAM)


@dataclass(frozen=True, slots=True, kw_only=True)
class Acceptance:
    """Tokens a step yields for a sequence, and how sure that is.

    Attributes
    ----------
    tokens_per_step : float
        Mean, from 1 to K + 1.
    spread : float
        Half width of its 90 % interval, in the log.
    source : str
        Where it was read, or what stands in for the model.
    known : bool
        Whether it was measured on this model with this method.
    """

    tokens_per_step: float
    spread: float
    source: str
    known: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Curve:
    """Mean tokens a step yields for drafts of 1, 2, 3... tokens, as one source measured them."""

    models: tuple[str, ...]
    method: Method
    domain: str
    temperature: float | None
    lengths: tuple[tuple[int, float], ...]
    source: str

    def at(self, draft_tokens: int) -> float:
        """Return the tokens a step yields with so many guesses.

        Between measured lengths it is interpolated; beyond the last a guess is right after a right
        one as often as the last measured one was. Before the first the first guess is right as
        often as all others.
        """
        known = [(0, 1.0), *self.lengths]
        for (low, few), (high, many) in pairwise(known):
            if draft_tokens <= high:
                return _between(draft_tokens - low, high - low, many - few, few)
        value, gain = known[-1][1], self._last_gain()
        share = self._continuation()
        for _ in range(draft_tokens - known[-1][0]):
            gain *= share
            value += gain
        return value

    def _last_gain(self) -> float:
        (before, few), (last, many) = ([(0, 1.0), *self.lengths])[-2:]
        return max((many - few) / (last - before), 0.0)

    def _continuation(self) -> float:
        """Return how often a guess is right after a right one, from the first and the last gain."""
        first, last = self.lengths[0], self.lengths[-1]
        start = (first[1] - 1.0) / first[0]
        steps = last[0] - first[0]
        if not steps or start <= 0.0:
            return min(max(start, LEAST_CONTINUATION), MOST_CONTINUATION)
        share = float((self._last_gain() / start) ** (1.0 / steps))
        return min(max(share, LEAST_CONTINUATION), MOST_CONTINUATION)


def _between(steps: int, of: int, gain: float, start: float) -> float:
    """Return the tokens after ``steps`` of ``of`` guesses that together yield ``gain``.

    A curve bends: of two guesses that yield 1.18 together the first yields more. Each guess is
    right after a right one with one probability a, where a + ... + a**of = gain.
    """
    low, high = 0.0, 1.0
    for _ in range(40):
        middle = (low + high) / 2.0
        if tokens_per_step(middle, of) - 1.0 < gain:
            low = middle
        else:
            high = middle
    return start + tokens_per_step(low, steps) - 1.0


def find_acceptance(
    model_id: str,
    method: Method,
    draft_tokens: int,
    *,
    domain: str = "",
    temperature: float | None = None,
) -> Acceptance:
    """Return the best published acceptance for a model, a method and a draft length.

    Parameters
    ----------
    model_id : str
        Hugging Face id.
    method : Method
        What guesses.
    draft_tokens : int
        K, from 1 to 16.
    domain : str
        ``chat``, ``coding``, ``editing``, ``random``...; "" for any.
    temperature : float, optional
        Of sampling; any by default.

    Returns
    -------
    Acceptance
        Not ``known``, with a wide spread, where nobody published one of the model, or none of
        random prompts.
    """
    of_method = [each for each in curves() if each.method is method]
    own = [each for each in of_method if _is_of(each, model_id)]
    if not own or (_lack_random(own, domain) and not _lack_random(of_method, domain)):
        return _of_other_models(method, draft_tokens, domain)
    chosen, are_alike = _most_alike(own, domain, temperature)
    is_certain = are_alike and bool(domain or len(own) == 1)
    return Acceptance(
        tokens_per_step=median(_limited(each.at(draft_tokens), draft_tokens) for each in chosen),
        spread=SAME_MODEL_SPREAD if is_certain else OTHER_DOMAIN_SPREAD,
        source="; ".join(dict.fromkeys(each.source for each in chosen)),
        known=True,
    )


def _lack_random(found: Sequence[Curve], domain: str) -> bool:
    return domain == RANDOM and all(each.domain != RANDOM for each in found)


def _most_alike(
    own: Sequence[Curve], domain: str, temperature: float | None
) -> tuple[Sequence[Curve], bool]:
    """Return a model's curves nearest to a domain and temperature, and whether both match.

    The domain moves acceptance further than the temperature does, so it is matched first.
    """
    of_domain = [each for each in own if domain in ("", each.domain)]
    candidates = of_domain or own
    at_temperature = [each for each in candidates if _is_at(each, temperature)]
    return at_temperature or candidates, bool(of_domain and at_temperature)


def stated_acceptance(share: float, draft_tokens: int) -> Acceptance:
    """Return what a caller's own acceptance (0..1, of each guess after right ones) means.

    Raises
    ------
    InvalidInput
        When it is no share.
    """
    return Acceptance(
        tokens_per_step=tokens_per_step(share, draft_tokens),
        spread=STATED_SPREAD,
        source="stated by the caller",
        known=True,
    )


def speculation_of(
    architecture: Architecture,
    method: Method,
    draft_tokens: int,
    *,
    acceptance: float | None = None,
    draft: Architecture | None = None,
    drafter_name: str = "",
    domain: str = "",
    temperature: float | None = None,
) -> Speculation:
    """Return how a model speculates, with published acceptance or the caller's own (0..1).

    ``domain`` and ``temperature`` choose among published curves; see `find_acceptance`.

    Raises
    ------
    InvalidInput
        When K is out of range, the acceptance no share, or the drafter cannot guess for the model.
    """
    if not 1 <= draft_tokens <= MOST_DRAFT_TOKENS:
        raise InvalidInput("draft_tokens", f"is {draft_tokens}", f"1 to {MOST_DRAFT_TOKENS} tokens")
    check_drafts(architecture, method, draft)
    found = (
        find_acceptance(
            architecture.model_id, method, draft_tokens, domain=domain, temperature=temperature
        )
        if acceptance is None
        else stated_acceptance(acceptance, draft_tokens)
    )
    return Speculation(
        method=method,
        draft_tokens=draft_tokens,
        tokens_per_step=found.tokens_per_step,
        spread=found.spread,
        drafter=draft or drafter_of(architecture, method),
        drafter_name=drafter_name,
        source=found.source,
    )


def _is_of(curve: Curve, model_id: str) -> bool:
    name = model_id.rsplit("/", 1)[-1].lower()
    return any(name.startswith(each.lower()) for each in curve.models)


def _is_at(curve: Curve, temperature: float | None) -> bool:
    """Return whether a curve was measured at a temperature; one that states none counts as any."""
    if temperature is None or curve.temperature is None:
        return True
    return math.isclose(curve.temperature, temperature)


def _of_other_models(method: Method, draft_tokens: int, domain: str) -> Acceptance:
    of_method = [each for each in curves() if each.method is method]
    pooled = of_method or [each for each in curves() if each.method in POOLED]
    pooled = [each for each in pooled if domain and each.domain == domain] or pooled
    values = [_limited(each.at(draft_tokens), draft_tokens) for each in pooled]
    stand_in = "the same method" if of_method else "other methods"
    return Acceptance(
        tokens_per_step=median(values),
        spread=OTHER_MODEL_SPREAD,
        source=f"unknown for this model; median of {_counted(values)} of {stand_in}",
        known=False,
    )


def _counted(values: Sequence[float]) -> str:
    return "1 curve" if len(values) == 1 else f"{len(values)} curves"


def _limited(value: float, draft_tokens: int) -> float:
    return min(max(value, 1.0), draft_tokens + 1.0)


def domains() -> tuple[str, ...]:
    """Return the domains of texts that published curves are about, sorted."""
    return tuple(sorted({each.domain for each in curves()} - {""}))


@lru_cache(maxsize=1)
def curves() -> tuple[Curve, ...]:
    """Return all published curves.

    Raises
    ------
    CatalogError
        When an entry is not one.
    """
    entries = load_catalog("budsim.performance", "catalog/acceptance.yaml")
    return tuple(_curve(entry, index) for index, entry in enumerate(entries))


def _curve(entry: dict[str, object], index: int) -> Curve:
    where = f"budsim.performance/catalog/acceptance.yaml[{index}]"
    try:
        lengths = entry["tokens_per_step"]
        if not isinstance(lengths, dict):
            raise TypeError("tokens_per_step: expected draft lengths with tokens")
        stated = entry.get("temperature")
        curve = Curve(
            models=tuple(str(each) for each in _list(entry["models"])),
            method=Method(str(entry["method"])),
            domain=str(entry.get("domain", "")),
            temperature=None if stated is None else float(str(stated)),
            lengths=tuple(sorted((int(k), float(tokens)) for k, tokens in lengths.items())),
            source=str(entry["source"]),
        )
    except (KeyError, TypeError, ValueError) as error:
        raise CatalogError(f"{where}: {error}") from error
    if not all(1 <= k <= MOST_DRAFT_TOKENS and 1.0 <= t <= k + 1.0 for k, t in curve.lengths):
        raise CatalogError(f"{where}: a draft of K tokens yields 1 to K + 1 of them")
    return curve


def _list(value: object) -> Sequence[object]:
    if not isinstance(value, list):
        raise TypeError("models: expected a list of names")
    return value
