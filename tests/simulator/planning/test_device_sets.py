"""The cheapest devices for a load: asking forwards confirms them, and others have a reason."""

from collections.abc import Iterable
from dataclasses import replace

import numpy as np
import pytest

from budsim.hardware_ops.catalog import devices
from budsim.hardware_ops.device import Device, PriceBasis
from budsim.hardware_ops.device_names import find_device
from budsim.hardware_ops.pricing import Pricing
from budsim.performance.predictor import AnalyticPredictor
from budsim.simulator.planning.answer import answer
from budsim.simulator.planning.device_sets import (
    DEARER,
    SHOWN,
    SizingResult,
    cheapest_devices,
    offer,
    references,
)
from budsim.simulator.planning.genome import SearchSpace
from budsim.simulator.planning.question import Question
from tests.benchmarks.mixed_deployments import drawn
from tests.benchmarks.spaces import options_of
from tests.simulator.situations import make_cluster, make_question

TARGETS = {"ttft_s": 1.0, "tokens_per_s_per_user": 40.0}


def named(*names: str) -> list[Device]:
    """Return devices by name."""
    return [device for name in names if (device := find_device(name))]


def catalog_answer(**options: object) -> SizingResult:
    """Return the answer of the whole catalog to one question, by the analytic model."""
    question = make_question(targets=TARGETS, concurrency=32, analytic_only=True)
    offered = offer(devices().values(), Pricing(), **options)
    return cheapest_devices(question, AnalyticPredictor(), offered)


@pytest.fixture(scope="module")
def whole() -> SizingResult:
    """Return the answer of the whole catalog."""
    return catalog_answer()


def plainly(question: Question, name: str) -> Question:
    """Return the question on sixteen nodes of a device, in layouts that people choose."""
    cluster = make_cluster(*[((name, 8),)] * 16)
    return replace(question, clusters=(cluster,), plain_layouts=True, allow_mixed=False)


def names_of(found: Iterable[Device]) -> set[str]:
    """Return the names of devices."""
    return {device.name for device in found}


def test_every_device_is_in_the_answer_or_has_one_reason(whole: SizingResult) -> None:
    """Sets and reasons together name each device of the catalog once."""
    shown = [each.device.name for each in whole.sets]
    assert sorted([*shown, *(each.subject for each in whole.rejections)]) == sorted(devices())
    assert all(0 < len(each.reason) < 200 for each in whole.rejections)
    grouped = whole.reasons()
    assert sum(map(len, grouped.values())) == len(whole.rejections)
    assert len(grouped) < len(whole.rejections) / 5
    assert DEARER in grouped


def test_the_ten_best_and_the_best_of_each_vendor_are_shown(whole: SizingResult) -> None:
    """The first ten are in order of compared price; further ones are of further vendors."""
    prices = [each.compared_usd_per_h for each in whole.sets]
    assert prices == sorted(prices)
    assert len(whole.sets) >= SHOWN
    usual = {"H100-SXM", "H200-SXM"}
    assert usual <= {each.device.name for each in whole.sets}
    known = references([each.device for each in whole.sets])
    first = whole.sets[:SHOWN]
    further = [each for each in whole.sets[SHOWN:] if each.device not in known]
    vendors = [each.device.vendor for each in further]
    assert len(set(vendors)) == len(vendors)
    assert not set(vendors) & {each.device.vendor for each in first}


def test_an_estimated_rent_has_to_be_clearly_cheaper_to_come_first(whole: SizingResult) -> None:
    """An estimate counts 1.36 times: half of them are off by more where the rent is known."""
    estimated = [each for each in whole.sets if each.plan.has_estimated_price]
    published = [each for each in whole.sets if not each.plan.has_estimated_price]
    assert estimated
    assert published
    assert not whole.sets[0].plan.has_estimated_price
    for each in estimated:
        assert each.compared_usd_per_h == pytest.approx(1.36 * each.plan.cost_usd_per_h)
    for each in published:
        assert each.compared_usd_per_h == each.plan.cost_usd_per_h


def test_nothing_is_offered_that_cannot_be_had() -> None:
    """Boards never sold, desktops, modules and exports for one country are left out."""
    offered = offer(devices().values(), Pricing())
    names = names_of(offered.devices)
    assert {"H100-SXM", "H200-SXM", "B200-SXM", "MI300X", "L40S", "RTX-PRO-4500"} <= names
    assert not names & {"B100-SXM", "RTX5070Ti", "RTX4090", "Jetson-Thor", "P40", "L20", "H20"}
    reasons = {each.subject: each.reason for each in offered.rejections}
    assert reasons["B100-SXM"] == "never sold"
    assert reasons["RTX5090"] == "desktop board (--include desktop)"
    assert reasons["L20"] == "sold in China only (--include china)"
    owned = offer(devices().values(), Pricing(basis=PriceBasis.OWN))
    assert not names_of(owned.devices) & {"A100-80GB", "Graviton4"}


def test_desktops_are_offered_when_asked_for() -> None:
    """What cannot be rented stays out: an RTX 4080 is sold and let by nobody."""
    offered = offer(devices().values(), Pricing(), include=frozenset({"desktop"}))
    names = names_of(offered.devices)
    assert {"RTX5090", "RTX4090", "H100-SXM"} <= names
    assert "RTX4080" not in names


def test_named_devices_are_all_answered_once() -> None:
    """A device among four is answered as it is alone; a name given twice counts once."""
    four = named("L40S", "H100-SXM", "A100-80GB", "L4", "L40S")
    offered = offer(devices().values(), Pricing(), named=four)
    assert [device.name for device in offered.devices] == ["L40S", "H100-SXM", "A100-80GB", "L4"]
    question = make_question(targets=TARGETS, concurrency=32, analytic_only=True)
    found = cheapest_devices(question, AnalyticPredictor(), offered)
    together = {each.device.name: each.plan.cost_usd_per_h for each in found.sets}
    alone = cheapest_devices(
        question, AnalyticPredictor(), offer(devices().values(), Pricing(), named=four[:1])
    )
    assert together["L40S"] == alone.sets[0].plan.cost_usd_per_h
    never = offer(devices().values(), Pricing(), named=named("B100-SXM"))
    assert (never.devices, never.rejections[0].reason) == ((), "never sold")


def test_more_devices_than_requests_is_no_answer() -> None:
    """Fifty chats on a hundred cards are refused in words."""
    question = make_question(
        targets={"tokens_per_s_per_user": 100.0}, concurrency=50, analytic_only=True
    )
    found = cheapest_devices(question, AnalyticPredictor(), named("T4", "L4"))
    for each in found.sets:
        one_replica = max(group.config.tp * group.config.pp for group in each.plan.groups)
        assert each.plan.devices <= max(50, one_replica)


def test_the_cheapest_devices_are_cheaper_than_any_other_of_the_list():
    """Asked forwards on plenty of each device, no other meets the targets for less per hour."""
    names = ("H100-SXM", "L4", "A100-80GB", "T4")
    question = make_question(
        targets={"ttft_s": 1.0, "tokens_per_s_per_user": 40.0}, concurrency=64, analytic_only=True
    )
    found = cheapest_devices(question, AnalyticPredictor(), [find_device(name) for name in names])
    best = found.sets[0]
    assert best.plan.meets_targets
    assert best.purchase_usd == best.plan.devices * best.device.price_usd
    for name in names:
        forwards = plainly(question, name)
        plans = [plan for plan in answer(forwards, AnalyticPredictor()).plans if plan.meets_targets]
        assert all(plan.cost_usd_per_h >= best.plan.cost_usd_per_h - 1e-9 for plan in plans)


@pytest.mark.parametrize("seed", range(4))
def test_no_configuration_of_equal_replicas_carries_a_load_for_less(seed):
    """Of every configuration on sixteen nodes of each of four types.

    None that meets the targets costs less per hour.
    """
    rng = np.random.default_rng(seed)
    names = rng.choice(
        "H100-SXM H200-SXM A100-SXM4-80GB L40S L4 A10G T4 MI300X Gaudi3".split(),
        size=4,
        replace=False,
    ).tolist()
    question = replace(drawn(seed), analytic_only=True).with_concurrency(
        int(np.exp(rng.uniform(0.0, 5.5)))
    )
    found = cheapest_devices(question, AnalyticPredictor(), [find_device(name) for name in names])
    costs = [cost for name in names if (cost := least_cost(question, name)) is not None]
    if costs:
        assert found.sets[0].plan.cost_usd_per_h <= min(costs) * 1.0001
    else:
        assert not found.sets


def least_cost(question: Question, name: str) -> float | None:
    """Return the least USD per hour that meets the targets on sixteen nodes of a device.

    All configurations are tried.
    """
    forwards = plainly(question, name)
    options = options_of(forwards)
    if not options:
        return None
    space = SearchSpace(options, forwards)
    genomes = space.all_genomes(3_000_000)
    scores = space.score(genomes, AnalyticPredictor())
    good = (scores.violation <= 0.0) & (scores.objectives[:, 0] == 0.0)
    devices = space.decode(genomes).devices[good]
    return float(devices.min()) * find_device(name).price_usd_per_h if len(devices) else None


def test_a_larger_load_needs_no_fewer_devices():
    """Twenty times the requests: more devices, and more per hour."""
    few, many = (
        cheapest_devices(
            make_question(
                targets={"ttft_s": 1.0, "tokens_per_s_per_user": 40.0},
                concurrency=n,
                analytic_only=True,
            ),
            AnalyticPredictor(),
            [find_device("H100-SXM")],
        ).sets[0]
        for n in (50, 1000)
    )
    assert few.plan.devices < many.plan.devices
    assert few.plan.cost_usd_per_h < many.plan.cost_usd_per_h


def test_devices_that_cannot_are_named_with_their_reason():
    """No engine runs on a V100, a T4 never decodes that fast.

    Both are told, neither is in the list.
    """
    names = ("H100-SXM", "V100-16GB", "T4")
    question = make_question(
        targets={"tokens_per_s_per_user": 200.0}, concurrency=8, analytic_only=True
    )
    found = cheapest_devices(question, AnalyticPredictor(), [find_device(name) for name in names])
    assert {each.device.name for each in found.sets} == {"H100-SXM"}
    reasons = {rejection.subject: rejection.reason for rejection in found.rejections}
    assert "V100" in reasons["V100-16GB"]


def test_pipelines_are_of_whole_data_centre_nodes() -> None:
    """Cards of workstations get none, and replicas of one deployment are equal."""
    question = make_question(targets={"ttft_s": 3.0}, concurrency=4, analytic_only=True)
    names = ("RTX-PRO-4500", "L40S", "H100-SXM", "RTX5070Ti")
    for each in cheapest_devices(question, AnalyticPredictor(), named(*names)).sets:
        (group,) = each.plan.groups
        assert group.config.pp == 1 or group.config.tp == 8
        assert group.config.pp == 1 or each.device.name in {"L40S", "H100-SXM"}


def test_whole_sockets_are_paid_of_which_each_rank_has_a_numa_node() -> None:
    """A Xeon 6980P has three NUMA nodes, of which a rank has one; nobody lets a third of it."""
    question = make_question(concurrency=2, analytic_only=True)
    (found,) = cheapest_devices(question, AnalyticPredictor(), named("Xeon 6980P")).sets
    (group,) = found.plan.groups
    assert (found.device.name, found.devices) == ("Xeon 6980P", 1)
    assert group.config.device.name == "Xeon 6980P NUMA node"
    assert group.config.cores == 42
    price = found.device.price_usd_per_h
    assert found.plan.cost_usd_per_h == pytest.approx(price)
    assert group.cost_usd_per_h == pytest.approx(price)
    assert found.purchase_usd == found.device.price_usd


def test_sockets_are_counted_by_machine() -> None:
    """Two replicas on four NUMA nodes each take both sockets of two machines, not 8 / 3 of them."""
    targets = {"tokens_per_s_per_user": 15.0}
    question = make_question(targets=targets, concurrency=24, analytic_only=True)
    (found,) = cheapest_devices(question, AnalyticPredictor(), named("Xeon 6980P")).sets
    (group,) = found.plan.groups
    machines = {part.node_id for replica in group.placements for part in replica}
    assert group.config.tp == 4
    assert found.devices == 2 * len(machines)
