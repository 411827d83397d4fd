"""The device an entry means is named, or the reason why none is."""

import pytest

from budsim.hardware_ops.catalog import devices
from tests.hardware_ops.inventories import H100, XEON, only_pool


def test_figures_come_from_the_catalog() -> None:
    """The writer's constant bandwidths are not believed."""
    pool = only_pool(H100)
    assert pool.device is devices()["H100-SXM"]
    assert (pool.total, pool.available, pool.unavailable_reason) == (8, 8, "")
    assert pool.label.raw_name == "NVIDIA-H100-80GB-HBM3"


def test_an_unknown_device_stays_with_its_reason() -> None:
    """Unknown is said, never replaced by a known device."""
    pool = only_pool(
        {"name": "Frobnicator-9000", "type": "cuda", "available_count": 2, "mem_per_GPU_in_GB": 80}
    )
    assert pool.device is None
    assert (pool.total, pool.available) == (2, 0)
    assert pool.unavailable_reason == "unknown device 'Frobnicator-9000'"


@pytest.mark.parametrize(
    ("stated_gb", "meant"), [(40, "A100-40GB"), (80, "A100-80GB"), (None, "A100-40GB")]
)
def test_memory_picks_among_devices_of_one_name(stated_gb: int | None, meant: str) -> None:
    """A100 with 80 GB is the 80 GB part."""
    pool = only_pool(
        {
            "name": "NVIDIA A100",
            "type": "cuda",
            "available_count": 1,
            "mem_per_GPU_in_GB": stated_gb,
        }
    )
    assert pool.device is devices()[meant]


def test_memory_far_from_the_data_sheet_is_a_contradiction() -> None:
    """An H100 of 10 GB is a slice or a mistake: not an H100."""
    pool = only_pool({**H100, "mem_per_GPU_in_GB": 10})
    assert pool.device is None
    assert "contradictory entry" in pool.unavailable_reason


def test_pci_id_and_name_that_disagree_are_settled_by_memory_or_not_at_all() -> None:
    """T4 by name and H100 by id: 80 GB says H100; without memory nobody can say."""
    entry = {**H100, "name": "T4", "raw_name": "Tesla-T4"}
    assert only_pool(entry).device is devices()["H100-SXM"]
    assert only_pool({**entry, "mem_per_GPU_in_GB": None}).device is None


def test_a_name_the_catalog_lacks_does_not_contradict_a_known_pci_id() -> None:
    """Sellers rename boards."""
    assert (
        only_pool({**H100, "name": "Turbo 3000", "raw_name": "Turbo 3000"}).device
        is devices()["H100-SXM"]
    )


@pytest.mark.parametrize("field", ["raw_name", "device_model", "model", "name"])
@pytest.mark.parametrize("stated_gb", [None, 10, 80])
def test_a_slice_is_cut_from_the_device_its_pci_id_names(
    field: str, stated_gb: float | None
) -> None:
    """A MIG slice carries the id of the whole board; its memory or the board's may be stated."""
    entry = {**H100, "mem_per_GPU_in_GB": stated_gb, field: "nvidia.com/mig-1g.10gb"}
    device = only_pool(entry).device
    assert device is not None
    assert device.name == "H100-SXM MIG 1g.10gb"


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("NVIDIA-H100-80GB-HBM3-MIG-3g.71gb", "no GPU of the catalog is cut into"),
        ("nvidia.com/mig-3g.40gb", "expected the GPU's name beside it"),
    ],
)
def test_a_slice_that_cannot_be_told_says_why(name: str, words: str) -> None:
    """A profile the GPU lacks, and one that several GPUs have."""
    pool = only_pool({"name": name, "type": "cuda", "available_count": 1, "total_count": 1})
    assert pool.device is None
    assert words in pool.unavailable_reason


def test_an_id_several_boards_share_needs_a_name_or_memory() -> None:
    """10de:2bb3 is the RTX PRO 5000 of 48 and of 72 GB; 10de:25b6 an A2 and a quarter of an A16."""
    entry = {
        "name": "a board",
        "pci_vendor": "10de",
        "pci_device": "2bb3",
        "type": "cuda",
        "available_count": 1,
    }
    assert only_pool({**entry, "mem_per_GPU_in_GB": 72}).device is devices()["RTX-PRO-5000-72GB"]
    assert (
        only_pool({**entry, "name": "NVIDIA RTX PRO 5000 Blackwell"}).device
        is devices()["RTX-PRO-5000"]
    )
    assert "RTX-PRO-5000 or RTX-PRO-5000-72GB" in only_pool(entry).unavailable_reason
    assert only_pool({**entry, "pci_device": "25b6", "mem_per_GPU_in_GB": 15}).device is None


def test_a_type_of_another_family_is_a_contradiction() -> None:
    """An H100 cannot be a Gaudi."""
    assert only_pool({**H100, "type": "hpu"}).device is None


def test_a_cpu_of_a_known_generation_and_unknown_model_is_unknown() -> None:
    """No figures are borrowed from a relative."""
    assert only_pool({**XEON, "name": "Intel(R) Xeon(R) Platinum 8499C"}).device is None


def test_a_type_nobody_knows_is_a_contradiction() -> None:
    """An H100 of type quantum cannot be deployed as either."""
    pool = only_pool({**H100, "type": "quantum"})
    assert pool.device is None
    assert "quantum" in pool.unavailable_reason
    assert "cuda" in pool.unavailable_reason


def test_a_missing_type_follows_from_the_device() -> None:
    """Callers deploy by type: where the inventory leaves it out, the catalog's is echoed."""
    assert (
        only_pool({key: value for key, value in H100.items() if key != "type"}).label.wire_type
        == "cuda"
    )


@pytest.mark.parametrize(
    ("name", "stated_gb", "meant"),
    [
        ("AMD Instinct MI250X", 64, "MI250X-GCD"),
        ("AMD Instinct MI250X", 128, "MI250X"),
        ("Orin (nvgpu)", 61, "Jetson-Orin"),
        ("Orin (nvgpu)", 15.3, "Jetson-Orin-NX-16GB"),
        ("Orin (nvgpu)", 7.4, "Jetson-Orin-Nano-8GB"),
    ],
)
def test_memory_tells_dies_and_modules_apart(name: str, stated_gb: float, meant: str) -> None:
    """ROCm lists each die of an MI250X as a device of 64 GB; every Orin module is called Orin."""
    entry = {"name": name, "available_count": 1, "mem_per_GPU_in_GB": stated_gb}
    found = only_pool(entry).device
    assert found is not None
    assert found.name == meant
