"""Counts of replica types, and how requests are split over them, against sums done by hand."""

import math

import numpy as np
import pytest

from budsim.hardware_ops.cluster import HardwareMode
from budsim.simulator.planning.choices import COLUMNS, Choices
from budsim.simulator.planning.combinations import (
    FitTable,
    LoadedTypes,
    ReplicaTypes,
    promising_combinations,
    split_requests,
)
from budsim.simulator.planning.hardware_groups import HardwareGroup, usable
from budsim.simulator.planning.mixed_deployments import FINELY
from tests.simulator.situations import make_cluster


def group_of(name: str, *devices: int) -> HardwareGroup:
    """Return the devices of nodes with so many each."""
    cluster = make_cluster(*(((name, count),) for count in devices))
    return usable(cluster, HardwareMode.DEDICATED, skip_master_cpus=True).groups[0]


def types_of(groups: list[HardwareGroup], *types: tuple[int, int, float]) -> ReplicaTypes:
    """Return types of (place of their group, TP, USD per hour), without a pipeline."""
    of_group, tp, price = (np.array(column) for column in zip(*types, strict=True))
    columns = dict.fromkeys(COLUMNS, np.ones(len(types), dtype=np.int64)) | {"tp": tp}
    most = [groups[at].capacity(size, 1) for at, size, _ in types]
    return ReplicaTypes(
        groups=tuple(groups),
        choices=Choices(**columns),
        group=of_group,
        most=np.array(most),
        usd_per_h=price,
        engine=np.zeros(len(types), dtype=np.int64),
    )


def loaded(types: ReplicaTypes, *capacity: int) -> LoadedTypes:
    """Return types that take a second for each request, however many there are."""
    one = np.ones(len(types))
    return LoadedTypes(types=types, capacity=np.array(capacity), e2e_s=one, half_e2e_s=one)


def test_requests_are_split_evenly_or_one_type_is_filled():
    """Capacity (10, 12), 17 requests: evenly (8, 10); the first full (10, 7).

    The second full (5, 12).
    """
    counts, requests = split_requests(np.array([10, 12]), np.array([[1, 1]]), 17, (1.0,))
    assert counts.tolist() == [[1, 1]] * 3
    assert requests.tolist() == [[8, 10], [10, 7], [5, 12]]


@pytest.mark.parametrize(("first", "second"), [(1, 1), (2, 3)])
def test_requests_are_split_in_every_way_that_leaves_no_place_empty(first, second):
    """Replicas of 10 and 12.

    One type gets every number from its even share to full, the other the rest.
    """
    requests = 17 * max(first, second)
    capacity, counts = np.array([10, 12]), np.array([[first, second]])
    _, tried = split_requests(capacity, counts, requests, FINELY)
    even = math.ceil(requests / (10 * first + 12 * second) * 12)
    fuller = {(math.ceil((requests - second * each) / first), each) for each in range(even, 13)}
    assert fuller <= {tuple(split) for split in tried.tolist()}


def test_what_fits_beside_a_combination_is_what_its_nodes_have_left():
    """A node of three: beside one replica of TP 2 one of TP 1 fits.

    Beside two of TP 1, one more of them.
    """
    fits = FitTable(types_of([group_of("H100-SXM", 3)], (0, 2, 2.0), (0, 1, 1.0)))
    assert fits.free_beside(np.array([1, 0])).tolist() == [0, 1]
    assert fits.free_beside(np.array([0, 2])).tolist() == [0, 1]
    assert fits.free_beside(np.array([2, 0])) is None


def test_groups_are_filled_cheapest_first_and_refilled_by_what_carries_more():
    """Four A of 10 requests for 1 USD each.

    Two B of 30 for 4 each carry 20 more for 0.2 USD a request.
    """
    types = types_of([group_of("H100-SXM", 4)], (0, 1, 1.0), (0, 2, 4.0))
    steps = [
        (counts.tolist(), number)
        for counts, number in loaded(types, 10, 30).filled_groups(types.usd_per_h)
    ]
    assert steps == [([0, 0], 0), ([4, 0], 1), ([0, 2], -1)]


def test_the_cheapest_combination_is_among_the_promising():
    """90 requests: one A of 40 for 2 USD and four B of 15 for 0.5 cost 4 USD.

    Three A alone would cost 6.
    """
    groups = [group_of("H100-SXM", 4), group_of("A10", 4)]
    types = types_of(groups, (0, 1, 2.0), (1, 1, 0.5))
    found = promising_combinations(loaded(types, 40, 15), 90).tolist()
    assert [1, 4] in found
    assert all(40 * first + 15 * second >= 90 for first, second in found)


def test_a_layout_is_not_used_twice_on_equal_devices():
    """Two types of TP 1 on one group would load equal devices unequally.

    Of TP 1 and TP 2 they may.
    """
    types = types_of([group_of("H100-SXM", 4)], (0, 1, 1.0), (0, 1, 1.1), (0, 2, 2.0))
    repeats = types.repeat_a_layout(np.array([[1, 1, 0], [1, 0, 1], [2, 0, 0]]))
    assert repeats.tolist() == [True, False, False]
