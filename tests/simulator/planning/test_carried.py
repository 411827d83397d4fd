"""How many requests a cluster may carry is guessed without a search."""

from budsim.performance.predictor import AnalyticPredictor
from budsim.simulator.planning.answer import answer_and_guess
from budsim.simulator.planning.sizing import capacities
from tests.simulator.situations import make_cluster, make_question


def guessed(*nodes: tuple[tuple[str, int], ...], ttft_s: float = 0.5) -> tuple[int, int]:
    """Return the guess from a search at 64 requests, and what the cluster carries."""
    asked = make_question(make_cluster(*nodes), targets={"ttft_s": ttft_s}, analytic_only=True)
    _, guess = answer_and_guess(asked.with_concurrency(64), AnalyticPredictor())
    return guess, capacities(asked, AnalyticPredictor())[0].concurrency


def test_the_guess_is_near_what_is_carried():
    """Of a node of each of two types it is within 5 % of what searches find."""
    guess, carried = guessed((("A100-SXM4-80GB", 1),), (("H100-SXM", 1),))
    assert carried > 10
    assert 0.95 * carried - 1 <= guess <= 1.05 * carried + 1


def test_nothing_is_guessed_to_be_carried_where_nothing_is():
    """No request sees its first token within a microsecond."""
    assert guessed((("H100-SXM", 1),), ttft_s=1e-6) == (0, 0)
