"""Layouts on hosts the caller picked.

What has room is predicted, what has none is refused by the size that is too large.
"""

import pytest

from budsim.commons.errors import InvalidInput
from budsim.performance.predictor import AnalyticPredictor
from budsim.simulator.planning.layouts import ChosenLayout, chosen_group
from tests.simulator.situations import make_cluster, make_question

TWO_NODES = make_cluster((("H100-SXM", 4),), (("H100-SXM", 4),))


@pytest.mark.parametrize(
    ("layout", "field", "expected"),
    [
        ((8, 1, 1), "tp_size", "at most 4"),
        ((4, 4, 1), "pp_size", "at most 2"),
        ((2, 8, 1), "pp_size", "at most 4"),
        ((4, 2, 2), "replicas", "at most 1"),
        ((4, 1, 3), "replicas", "at most 2"),
    ],
)
def test_the_size_that_is_too_large_is_the_one_named(layout, field, expected):
    """Two nodes of four.

    Eight ranks cross a node, four stages of four and three replicas of four are too many devices.
    """
    tp, pp, replicas = layout
    with pytest.raises(InvalidInput, match=expected) as caught:
        chosen_group(
            make_question(TWO_NODES),
            AnalyticPredictor(),
            ChosenLayout(device="H100-SXM", tp=tp, pp=pp, replicas=replicas),
        )
    assert caught.value.field == field


def test_a_layout_with_room_is_predicted():
    """Two replicas of four devices share 32 requests."""
    group = chosen_group(
        make_question(TWO_NODES),
        AnalyticPredictor(),
        ChosenLayout(device="H100-SXM", tp=4, pp=1, replicas=2),
    )
    assert (group.replicas, group.config.concurrency, group.devices) == (2, 16, 8)
