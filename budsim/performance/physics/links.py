"""How fast the devices of one replica reach each other."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from budsim.performance.candidates import Booleans, Candidates, Floats, Integers


@dataclass(frozen=True, slots=True, kw_only=True)
class LinkBandwidth:
    """Bytes per second one device sends, by data sheet; arrays of shape (n,).

    ``group`` is inside its tensor-parallel group, ``hop`` to the next pipeline stage, ``inside``
    its link domain, ``network`` between nodes. ``is_wide`` where experts are spread over several
    (``domains``) link domains.
    """

    group: Floats
    hop: Floats
    inside: Floats
    network: Floats
    is_wide: Booleans
    domains: Floats


def link_bandwidth(candidates: Candidates) -> LinkBandwidth:
    """Return the bandwidths of each candidate's links.

    Where every pair of devices has links of its own (meshed), a group of n uses n - 1 of them and a
    hop one: of eight MI300X two reduce over a seventh of the bandwidth. What does not fit into one
    link domain goes over the network between nodes. A device alone in its domain has only that, and
    no node inside which attention would be split. A group over several domains sums inside each
    first, and each device sends its part of the result over a card of its own (NCCL's rails).
    """
    devices = candidates.devices
    peers = candidates.by_device(
        [max(d.scale_up.domain_devices - 1.0, 1.0) if d.scale_up.meshed else 1.0 for d in devices]
    )
    inside = candidates.by_device([d.scale_up.bandwidth_bytes_per_s for d in devices])
    network = candidates.by_device([d.scale_out.bandwidth_bytes_per_s for d in devices])
    domain = candidates.by_device([float(d.scale_up.domain_devices) for d in devices])
    beyond = np.where(domain > 1, np.minimum(inside, network), network)
    group = inside * np.clip((candidates.tp - 1.0) / peers, 1.0 / peers, 1.0)
    return LinkBandwidth(
        group=np.where(
            candidates.tp <= domain, group, _over_domains(candidates.tp, domain, inside, beyond)
        ),
        hop=np.where(candidates.tp * candidates.pp <= domain, inside / peers, beyond),
        inside=inside,
        network=np.maximum(beyond, 1.0),
        is_wide=(candidates.tp > domain) & (candidates.ep > 1) & (domain > 1),
        domains=np.maximum(candidates.tp / np.maximum(domain, 1.0), 1.0),
    )


def _over_domains(tp: Integers, domain: Floats, inside: Floats, network: Floats) -> Floats:
    """Return the bandwidth of one ring that takes as long as sums inside domains and between them.

    A device of k in a domain sends 2 (k - 1) / k of a message inside and 2 (m - 1) / m of its k-th
    part to m - 1 other domains. 16 devices in two domains of 8, 450 and 50 GB/s, 100 MB: 0.39 and
    0.25 ms; one ring of 16 at 293 GB/s takes as long, over the network alone 3.75 ms.
    """
    within = np.minimum(domain, tp)
    domains = np.maximum(tp / np.maximum(within, 1.0), 1.0)
    scattered = 2.0 * (within - 1.0) / within / inside
    sent = 2.0 * (domains - 1.0) / domains / within / np.maximum(network, 1.0)
    ring = 2.0 * np.maximum(tp - 1.0, 1e-9) / tp
    summed = ring / np.maximum(scattered + sent, 1e-30)
    return np.asarray(np.where(within > 1.0, summed, network), dtype=np.float64)
