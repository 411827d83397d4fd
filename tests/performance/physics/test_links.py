"""Bandwidth between the devices of a replica."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from budsim.performance.physics.links import link_bandwidth
from budsim.performance.physics.ranks import prepare
from tests.performance.by_hand import DEVICE, LINK, candidates
from tests.performance.populations import population


@pytest.mark.parametrize(("tp", "share"), [(2, 1 / 7), (4, 3 / 7), (8, 1.0)])
def test_a_group_in_a_mesh_uses_the_links_between_its_members(tp: int, share: float) -> None:
    """Eight devices with a link to each other: two use one of seven links of 1 GB/s, four three."""
    meshed = replace(DEVICE, scale_up=replace(LINK, meshed=True))
    links = link_bandwidth(candidates(device=meshed, tp=tp))
    assert links.group == pytest.approx(share * 1e9)
    assert link_bandwidth(candidates(device=meshed, tp=1, pp=2)).hop == pytest.approx(1e9 / 7)


def test_a_switch_gives_every_group_the_whole_link() -> None:
    """Two, four or eight devices behind a switch: 1 GB/s each, to a group and to the next stage."""
    links = link_bandwidth(candidates(tp=[2, 4, 8]))
    assert links.group.tolist() == [1e9, 1e9, 1e9]
    assert links.hop.tolist() == [1e9, 1e9, 1e9]


def test_what_does_not_fit_into_a_node_goes_over_the_network() -> None:
    """Sixteen devices, eight a node, links of 1 GB/s, network of 0.5 GB/s.

    A message of 1 GB is summed in a node in 2 x 7/8 s, and an eighth of it between two nodes in
    2 x 1/2 x 1/8 / 0.5 s: 2 s together, in which a ring of 16 sends 15/8 GB.
    """
    assert link_bandwidth(candidates(tp=16)).group == pytest.approx(15 / 16 * 1e9)
    two_nodes = link_bandwidth(candidates(tp=8, pp=2))
    assert (two_nodes.group[0], two_nodes.hop[0]) == (1e9, 0.5e9)


def test_a_device_alone_in_its_node_has_the_whole_network() -> None:
    """One device a node, whose catalog entry has a nominal link of 1 MB/s: 0.5 GB/s of network.

    With its experts spread over two such nodes it still has no node to split attention in.
    """
    alone = replace(DEVICE, scale_up=replace(LINK, bandwidth_bytes_per_s=1e6, domain_devices=1))
    assert link_bandwidth(candidates(device=alone, tp=2)).group == 0.5e9
    assert not link_bandwidth(candidates(device=alone, tp=2, ep=2)).is_wide[0]
    assert link_bandwidth(candidates(tp=16, ep=16)).is_wide[0]


def test_a_pair_in_a_mesh_has_only_the_links_between_them() -> None:
    """Of eight meshed devices two reduce over one seventh of the links and eight over all.

    A switch gives two all of theirs.
    """
    meshed, switched = (
        prepare(population(device=device, tp=[2, 4, 8])).links.group
        for device in ("MI300X", "H100-SXM")
    )
    assert np.allclose(meshed / meshed[-1], [1 / 7, 3 / 7, 1.0])
    assert np.allclose(switched / switched[-1], 1.0)
    pair, ends = (
        prepare(population(device="MI300X", pp=[2], tp=1)),
        prepare(population(device="MI300X", tp=[2])),
    )
    assert pair.links.hop == ends.links.group
