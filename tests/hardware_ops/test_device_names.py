"""Devices are found by the names and ids that real machines report."""

import pytest

from budsim.hardware_ops.catalog import devices
from budsim.hardware_ops.device_names import candidates, candidates_by_pci, find_device, normalized


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        ("NVIDIA-H100-80GB-HBM3", "H100-SXM"),
        ("NVIDIA H100 PCIe", "H100-PCIe"),
        ("NVIDIA H100 NVL", "H100-NVL"),
        ("NVIDIA H200", "H200-SXM"),
        ("NVIDIA B200", "B200-SXM"),
        ("NVIDIA GB200", "GB200"),
        ("NVIDIA GH200 480GB", "GH200-96GB"),
        ("NVIDIA-A100-SXM4-40GB", "A100-40GB"),
        ("NVIDIA A100-SXM4-80GB", "A100-80GB"),
        ("NVIDIA A100 80GB PCIe", "A100-PCIe-80GB"),
        ("Tesla-T4", "T4"),
        ("Tesla V100-SXM2-16GB", "V100-16GB"),
        ("NVIDIA A10G", "A10G"),
        ("NVIDIA-L40S", "L40S"),
        ("NVIDIA GeForce RTX 4090", "RTX4090"),
        ("NVIDIA RTX PRO 6000 Blackwell Server Edition", "RTX-PRO-6000"),
        ("AMD-Instinct-MI300X-OAM", "MI300X"),
        ("AMD Instinct MI355X", "MI355X"),
        ("HL-325L", "Gaudi3"),
        ("HL-225", "Gaudi2"),
        ("Intel(R) Data Center GPU Max 1550", "Max1550"),
        ("Intel(R) Xeon(R) Platinum 8480+", "Xeon Platinum 8480+"),
        ("Intel(R) Xeon(R) Platinum 8380 CPU @ 2.30GHz", "Xeon Platinum 8380"),
        ("INTEL(R) XEON(R) PLATINUM 8592+", "Xeon Platinum 8592+"),
        ("Intel(R) Xeon(R) Silver 4314 CPU @ 2.40GHz", "Xeon Silver 4314"),
        ("Intel(R) Xeon(R) 6980P", "Xeon 6980P"),
        ("Intel Xeon 6 6787P", "Xeon 6787P"),
        ("AMD EPYC 9654 96-Core Processor", "EPYC 9654"),
        ("AMD EPYC 7763 64-Core Processor", "EPYC 7763"),
        ("AMD EPYC 9965 192-Core Processor", "EPYC 9965"),
        ("AWS Graviton4 (Neoverse-V2)", "Graviton4"),
        ("AmpereOne M", "AmpereOne M A192-32M"),
        # nvidia-smi, GPU feature discovery
        ("NVIDIA-A100-PCIE-40GB", "A100-PCIe-40GB"),
        ("NVIDIA-H100-PCIe", "H100-PCIe"),
        ("NVIDIA H800", "H800-SXM"),
        ("NVIDIA H20", "H20"),
        ("NVIDIA H20-3e", "H20-141GB"),
        ("NVIDIA L20", "L20"),
        ("NVIDIA L40", "L40"),
        ("NVIDIA A800-SXM4-80GB", "A800-SXM4-80GB"),
        ("NVIDIA B300 SXM6 AC", "B300-SXM"),
        ("NVIDIA GB10", "GB10"),
        ("NVIDIA RTX A6000", "RTX-A6000"),
        ("NVIDIA RTX 6000 Ada Generation", "RTX-6000-Ada"),
        ("Quadro RTX 6000", "Quadro-RTX-6000"),
        ("NVIDIA-RTX-PRO-6000-Blackwell-Workstation-Edition", "RTX-PRO-6000-Workstation"),
        ("NVIDIA RTX PRO 6000 Blackwell Max-Q Workstation Edition", "RTX-PRO-6000-Max-Q"),
        ("NVIDIA GeForce RTX 4090 D", "RTX4090D"),
        ("NVIDIA GeForce RTX 3090", "RTX3090"),
        ("Tesla V100S-PCIE-32GB", "V100S-PCIe-32GB"),
        ("Tesla P40", "P40"),
        # amd-smi and node labels, hl-smi, xpu-smi
        ("AMD_Instinct_MI300X_OAM", "MI300X"),
        ("AMD Instinct MI250X", "MI250X"),
        ("AMD Instinct MI300A", "MI300A"),
        ("AMD Radeon PRO W7900", "W7900"),
        ("Intel(R) Arc(TM) Pro B60 Graphics", "Arc-Pro-B60"),
        ("Intel(R) Data Center GPU Max 1100", "Max1100"),
        # labels of managed Kubernetes
        ("nvidia-tesla-t4", "T4"),
        ("nvidia-l4", "L4"),
        ("nvidia-h100-80gb", "H100-SXM"),
        ("nvidia-h100-mega-80gb", "H100-SXM"),
        ("nvidia-h200-141gb", "H200-SXM"),
        ("nvidia-a100-80gb", "A100-80GB"),
        # tables of public benchmarks
        ("H100-SXM5-80GB", "H100-SXM"),
        ("NVIDIA H100-PCIe-80GB", "H100-PCIe"),
        ("NVIDIA H200-NVL-141GB", "H200-NVL"),
        ("NVIDIA B200-SXM-180GB", "B200-SXM"),
        ("NVIDIA GH200 Grace Hopper Superchip 144GB", "GH200-144GB"),
        ("AMD Instinct MI355X 288GB HBM3E", "MI355X"),
        ("1xH100", "H100-SXM"),
        ("8x NVIDIA H200", "H200-SXM"),
        ("4x_A100-SXM4-80GB", "A100-80GB"),
        ("h200_sxm", "H200-SXM"),
        ("h100_pcie", "H100-PCIe"),
        ("gb200_sxm", "GB200"),
        ("b300_sxm", "B300-SXM"),
        ("rtx_pro_6000_server", "RTX-PRO-6000"),
        # labels of time-sliced GPUs, integrated boards, dies of two-die boards
        ("NVIDIA-H100-80GB-HBM3-SHARED", "H100-SXM"),
        ("Tesla-T4-SHARED", "T4"),
        ("NVIDIA-A100-SXM4-80GB-SHARED", "A100-80GB"),
        ("Orin (nvgpu)", "Jetson-Orin"),
        ("NVIDIA Jetson AGX Orin Developer Kit", "Jetson-Orin"),
        ("NVIDIA Jetson Orin Nano Developer Kit", "Jetson-Orin-Nano-8GB"),
        ("NVIDIA Thor", "Jetson-Thor"),
        ("NVIDIA Jetson AGX Thor Developer Kit", "Jetson-Thor"),
        ("NVIDIA DGX Spark", "GB10"),
        ("MI250X GCD", "MI250X-GCD"),
        ("nvidia-b200", "B200-SXM"),
        # /proc/cpuinfo of cloud machines
        ("Intel(R) Xeon(R) Platinum 8480C", "Xeon Platinum 8480C"),
        ("Intel(R) Xeon(R) Platinum 8481C CPU @ 2.70GHz", "Xeon Platinum 8481C"),
        ("Intel(R) Xeon(R) Platinum 8370C CPU @ 2.80GHz", "Xeon Platinum 8370C"),
        ("INTEL(R) XEON(R) PLATINUM 8573C", "Xeon Platinum 8573C"),
        ("INTEL(R) XEON(R) PLATINUM 8581C CPU @ 2.30GHz", "Xeon Platinum 8581C"),
        ("Intel(R) Xeon(R) Platinum 8269CY CPU @ 2.50GHz", "Xeon Platinum 8269CY"),
        ("AMD EPYC 7B12", "EPYC 7B12"),
        ("AMD EPYC 7V12 64-Core Processor", "EPYC 7V12"),
        ("AMD EPYC 7J13 64-Core Processor", "EPYC 7J13"),
        ("AMD EPYC 9B14", "EPYC 9B14"),
        ("AMD EPYC 9V84 96-Core Processor", "EPYC 9V84"),
        ("AMD EPYC 9V74 80-Core Processor", "EPYC 9V74"),
        ("AMD EPYC 9R45", "EPYC 9R45"),
        ("Google Axion Processor", "Axion"),
        ("Azure Cobalt 100", "Cobalt 100"),
        ("AWS Graviton5", "Graviton5"),
        # /proc/cpuinfo
        ("Intel(R) Xeon(R) Gold 6248R CPU @ 3.00GHz", "Xeon Gold 6248R"),
        ("Intel(R) Xeon(R) Platinum 8259CL CPU @ 2.50GHz", "Xeon Platinum 8259CL"),
        ("Intel(R) Xeon(R) Platinum 8275CL CPU @ 3.00GHz", "Xeon Platinum 8275CL"),
        ("Intel(R) Xeon(R) 6780E", "Xeon 6780E"),
        ("INTEL(R) XEON(R) PLATINUM 8570", "Xeon Platinum 8570"),
        ("AMD EPYC 7742 64-Core Processor", "EPYC 7742"),
        ("AMD EPYC 9R14", "EPYC 9R14"),
        ("AMD EPYC 9655P 96-Core Processor", "EPYC 9655P"),
        ("AWS Graviton2", "Graviton2"),
    ],
)
def test_real_spellings_find_their_device(written: str, meant: str) -> None:
    """Drivers, /proc/cpuinfo and node labels spell a device each in its way."""
    found = find_device(written)
    assert found is not None
    assert found.name == meant


@pytest.mark.parametrize(
    "written",
    [
        "",
        "H1000",
        "NVIDIA H100 80GB HBM3 MIG 1g.11tb",
        "NVIDIA H100 80GB HBM3 MIG 3g.71gb",
        "NVIDIA H200 MIG",
        "nvidia.com/mig-3g.40gb",
        "NVIDIA",
        "GPU",
        "Frobnicator-9000",
        "Intel(R) Xeon(R) Platinum 8499C",
        "Intel(R) Xeon(R) Processor",
        "AMD EPYC 9999 1024-Core Processor",
        "Neoverse-N1",
        "A100-SXM4-64GB",
        "RTX 4090 Laptop GPU D",
        "Tesla-T5-SHARED",
        "SHARED",
        "NVIDIA A40-8Q",
        "GRID T4-16Q",
        "RTX 6000",
        "NVIDIA L40G",
        "NVIDIA H100L 94GB",
        "NVIDIA GeForce RTX 4090 Laptop GPU",
        "NVIDIA GeForce RTX 4060 Ti",
        "AMD Radeon RX 7900 GRE",
        "Instinct MI250X/MI250",
        "AMD Instinct MI308X",
        "HL-225D",
        "Intel(R) Xeon(R) CPU @ 2.20GHz",
        "Intel Xeon Processor (SapphireRapids)",
        "AMD EPYC-Rome Processor",
        "Neoverse-V2",
        "4090",
        "8x",
    ],
)
def test_what_is_not_in_the_catalog_is_unknown(written: str) -> None:
    """A name that is only like a known one is not that device."""
    assert find_device(written) is None


def test_the_pci_id_is_asked_before_the_names() -> None:
    """10de:2330 is an H100 SXM5 board, whatever a label says."""
    for spelled in ("10de:2330", "0x10DE:0x2330"):
        found = find_device("T4", pci_id=spelled)
        assert found is not None
        assert found.name == "H100-SXM"


def test_an_unknown_pci_id_leaves_the_name_to_decide() -> None:
    """Engineering samples and virtual functions have ids of their own."""
    found = find_device("L4", pci_id="10de:ffff")
    assert found is not None
    assert found.name == "L4"


def test_a_shared_name_means_the_usual_device_first() -> None:
    """A100 alone is the 40 GB part, and the 80 GB one is offered where memory can tell."""
    assert [device.name for device in candidates("NVIDIA A100")] == ["A100-40GB", "A100-80GB"]


def test_only_names_of_memory_sizes_are_shared() -> None:
    """Two devices answer to one name only where their memory tells them apart."""
    names = {
        normalized(name) for device in devices().values() for name in (device.name, *device.aliases)
    }
    for name in names:
        found = candidates(name)
        assert len({device.memory_bytes for device in found}) == len(found), name


@pytest.mark.parametrize(
    ("names", "pci_id", "meant"),
    [
        (("AMD Instinct MI250",), "1002:740c", "MI250"),
        (("AMD Instinct MI250X",), "1002:740c", "MI250X"),
        (("NVIDIA A16",), "10de:25b6", "A16"),
        (("Quadro RTX 8000",), "10de:1e30", "Quadro-RTX-8000"),
        (("a label",), "10de:25b6", None),
    ],
)
def test_where_boards_share_an_id_the_name_chooses(
    names: tuple[str, ...], pci_id: str, meant: str | None
) -> None:
    """pci.ids gives one line to A2 and A16, to MI250 and MI250X: the id alone tells neither."""
    found = find_device(*names, pci_id=pci_id)
    assert (found.name if found else None) == meant


def test_only_boards_of_one_chip_share_a_pci_id() -> None:
    """An id decides the generation, whatever else it leaves open."""
    for pci_id in {pci_id for device in devices().values() for pci_id in device.pci_ids}:
        assert len({device.generation for device in candidates_by_pci(pci_id)}) == 1, pci_id
