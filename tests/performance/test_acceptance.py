"""Published acceptance, and what stands in where there is none."""

from __future__ import annotations

import pytest

from budsim.performance.acceptance import (
    OTHER_MODEL_SPREAD,
    Curve,
    curves,
    find_acceptance,
    stated_acceptance,
)
from budsim.performance.speculation import MOST_DRAFT_TOKENS, Method

R1, LLAMA = "deepseek-ai/DeepSeek-R1-0528", "meta-llama/Llama-3.1-8B-Instruct"


def curve(**lengths: float) -> Curve:
    """Return a curve of k1, k2... tokens a step."""
    return Curve(
        models=("toy",),
        method=Method.MTP,
        domain="",
        temperature=None,
        lengths=tuple((int(name[1:]), value) for name, value in lengths.items()),
        source="toy",
    )


def test_measured_lengths_are_returned_as_they_are() -> None:
    """DeepSeek-R1's runs yield 1.81 tokens with one guess and 2.50 with three."""
    assert find_acceptance(R1, Method.MTP, 1).tokens_per_step == pytest.approx(1.81)
    assert find_acceptance(R1, Method.MTP, 3).tokens_per_step == pytest.approx(2.50)
    assert find_acceptance(R1, Method.MTP, 3).known


def test_lengths_between_bend() -> None:
    """Three guesses that yield 0.875 are right half of the time each: 1.5, 1.75, 1.875."""
    assert curve(k3=1.875).at(1) == pytest.approx(1.5)
    assert curve(k3=1.875).at(2) == pytest.approx(1.75)


def test_beyond_the_last_length_guesses_go_on_as_they_did() -> None:
    """Gains of 0.5 and 0.25 go on with 0.125: 1.875 after three guesses."""
    assert curve(k1=1.5, k2=1.75).at(3) == pytest.approx(1.875)


def test_more_guesses_never_yield_fewer_tokens() -> None:
    """Every published curve rises up to the longest draft."""
    for each in curves():
        values = [each.at(count) for count in range(1, MOST_DRAFT_TOKENS + 1)]
        assert values == sorted(values), each.source
        assert all(v <= k + 2.0 for k, v in enumerate(values))


def test_the_domain_decides_where_it_is_known() -> None:
    """Lookup repeats more of its prompt when it edits code than in arithmetic."""
    coding = find_acceptance(LLAMA, Method.NGRAM, 3, domain="coding")
    maths = find_acceptance(LLAMA, Method.NGRAM, 3, domain="math")
    assert (coding.tokens_per_step, maths.tokens_per_step) == pytest.approx((2.03, 1.16))
    assert coding.spread < find_acceptance(LLAMA, Method.NGRAM, 3).spread


def test_an_unknown_model_has_a_wide_interval() -> None:
    """Nobody published EAGLE-3 on Mistral: the method's median, and a factor of 1.57 around it."""
    found = find_acceptance("mistralai/Mistral-7B-Instruct-v0.3", Method.EAGLE3, 3)
    assert not found.known
    assert found.spread == OTHER_MODEL_SPREAD
    assert "unknown" in found.source


def test_callers_know_their_own_acceptance() -> None:
    """0.7 of each guess, two guesses: 1 + 0.7 + 0.49 = 2.19."""
    assert stated_acceptance(0.7, 2).tokens_per_step == pytest.approx(2.19)


def test_every_curve_names_its_source() -> None:
    """A number nobody can look up is no number."""
    assert all(len(each.source) > 20 for each in curves())


def test_the_domain_counts_before_the_temperature() -> None:
    """Kimi-K2.6 on code is published without a temperature, its coding curve stands for any."""
    coding = find_acceptance(
        "moonshotai/Kimi-K2.6", Method.EAGLE3, 3, domain="coding", temperature=0.5
    )
    assert coding.tokens_per_step == pytest.approx(3.22)
    hot = find_acceptance(LLAMA, Method.EAGLE3, 7, domain="chat", temperature=1.0)
    cold = find_acceptance(LLAMA, Method.EAGLE3, 7, domain="chat", temperature=0.0)
    assert hot.tokens_per_step < cold.tokens_per_step


def test_a_temperature_nobody_measured_widens_the_interval() -> None:
    """V4-Pro's head was measured on code at 1.0 only."""
    known, asked = (
        find_acceptance("deepseek-ai/DeepSeek-V4-Pro", Method.EAGLE3, 3, temperature=each)
        for each in (1.0, 0.0)
    )
    assert asked.tokens_per_step == known.tokens_per_step
    assert asked.spread > known.spread


def test_other_models_stand_in_with_the_domain_asked_for() -> None:
    """Prompt lookup of an unknown model: much in edits, little in arithmetic, and never sure."""
    edits, maths = (
        find_acceptance("who/knows", Method.NGRAM, 5, domain=domain)
        for domain in ("editing", "math")
    )
    assert edits.tokens_per_step > 2.0 * maths.tokens_per_step
    assert edits.spread == maths.spread == OTHER_MODEL_SPREAD
    assert not edits.known


def test_random_prompts_are_guessed_as_those_of_other_models_rather_than_as_own_code() -> None:
    """3 guesses of an MTP layer: 3.39 tokens of Qwen3.5's code, 2.1 to 2.5 of random prompts."""
    code, noise = (
        find_acceptance("Qwen/Qwen3.5-397B-A17B", Method.MTP, 3, domain=domain)
        for domain in ("coding", "random")
    )
    assert code.tokens_per_step == pytest.approx(3.39)
    assert 2.1 < noise.tokens_per_step < 2.5
    assert noise.spread == OTHER_MODEL_SPREAD
