"""The table of what the field's guides run can be asked, and is won where it was checked."""

import pytest
import yaml

from budsim.performance.predictor import load_predictor
from scripts.expert_questions import QUESTIONS, judged, question_of

ENTRIES = {entry["id"]: entry for entry in yaml.safe_load(QUESTIONS.read_text())["questions"]}
# One of each kind: dense, light load; experts, one device. The script asks all.
ASKED = ("llama-33-70b-fp8-latency", "gpt-oss-20b-a100")


def test_thirty_questions_and_more_cite_their_source():
    """Each has a source on the web, the guide's words, and a model, device and traffic we know."""
    assert len(ENTRIES) >= 30
    for entry in ENTRIES.values():
        assert entry["source"].startswith("https://")
        assert entry["says"]
        assert question_of(entry).clusters[0].nodes


@pytest.mark.parametrize("name", ASKED)
def test_the_guides_layout_is_among_ours_or_ours_is_cheaper(name):
    """What guides run is among the first three plans, or costs more."""
    assert judged(ENTRIES[name], load_predictor()).is_won
