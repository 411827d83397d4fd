"""What becomes a plan, and how often it is predicted."""

import numpy as np

from budsim.performance.predictor import AnalyticPredictor
from budsim.simulator.planning import shortlist
from budsim.simulator.planning.answer import answer
from tests.simulator.situations import make_cluster, make_question


def test_only_further_rows_are_predicted_where_more_replicas_are_shown(monkeypatch):
    """The rows shown first are predicted once, and one that is added alone."""
    predicted, real = [], shortlist.predict_choices

    def counted(cluster, scoring, choices, *others):
        predicted.append(len(choices.tp))
        return real(cluster, scoring, choices, *others)

    def first_again(self, shown, found):
        return shown.rows(np.array([0]))

    monkeypatch.setattr(shortlist, "predict_choices", counted)
    monkeypatch.setattr(shortlist.Shortlist, "_more_replicas", first_again)
    question = make_question(
        make_cluster((("H100-SXM", 4),)), targets={"ttft_s": 0.5}, analytic_only=True
    )
    assert answer(question, AnalyticPredictor()).plans[0].meets_targets
    assert len(predicted) == 2
    assert predicted[0] > predicted[1] == 1
