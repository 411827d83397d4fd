"""The device catalog: sourced, plausible, quick to read, and found by the names real machines report."""

import csv
import os
import pickle
import subprocess
import sys
from pathlib import Path

import pytest

from budsim.commons.errors import CatalogError
from budsim.commons.precision import Precision
from budsim.hardware_ops import catalog
from budsim.hardware_ops.catalog import FIGURES, candidates, devices, find_device, normalized
from budsim.hardware_ops.device import Device, DeviceKind

MEASUREMENTS = Path(os.environ.get("BUDSIM_DATA", Path(__file__).parents[3] / "shared" / "data"))
NOT_ONE_DEVICE = {"SN40L", "AMD EPYC Zen 3, 2 vCPU (KVM)", "AMD Instinct MI300X 192GB HBM3 (x32)"}

every_device = pytest.mark.parametrize("device", devices().values(), ids=lambda device: device.name)


@every_device
def test_every_figure_has_a_source(device: Device) -> None:
    """No figure stands without saying where it was read."""
    assert all(len(device.sources[figure]) > 10 for figure in FIGURES)


@every_device
def test_figures_are_within_what_exists(device: Device) -> None:
    """Memory, bandwidth, power, prices and links are positive and in the range of machines one can buy."""
    assert 4e9 < device.memory_bytes < 2e12
    assert 30e9 < device.memory_bandwidth_bytes_per_s <= 8e12
    assert 10 <= device.tdp_w <= 1500
    assert 200 <= device.price_usd <= 100_000
    assert 0.01 < device.price_usd_per_h < 20
    assert device.compute_units >= 2
    assert device.scale_up.bandwidth_bytes_per_s > 0 < device.scale_out.bandwidth_bytes_per_s


@every_device
def test_narrower_formats_are_never_slower(device: Device) -> None:
    """Dense peaks grow as formats shrink: fp32 <= 16 bit <= fp8 <= 4 bit."""
    order = [Precision.FP32, Precision.BF16, Precision.FP8, Precision.NVFP4]
    peaks = [
        device.flops_per_s[precision] for precision in order if precision in device.flops_per_s
    ]
    assert peaks == sorted(peaks)


@every_device
def test_its_own_name_finds_it(device: Device) -> None:
    """The canonical name, in any case, means this device."""
    assert find_device(device.name) is device
    assert find_device(device.name.upper()) is device


def test_prices_say_whether_they_are_list_typical_or_derived() -> None:
    """A reader can tell a published price from a guess."""
    words = ("list:", "typical", "derived:")
    for device in devices().values():
        assert device.sources["price_usd"].startswith(words), device.name
        assert device.sources["price_usd_per_h"].startswith(words), device.name


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
        "NVIDIA H100 80GB HBM3 MIG 1g.10gb",
        "NVIDIA",
        "GPU",
        "Frobnicator-9000",
        "Intel(R) Xeon(R) Platinum 8480C",
        "Intel(R) Xeon(R) Processor",
        "AMD EPYC 9999 1024-Core Processor",
        "Neoverse-N1",
        "A100-SXM4-64GB",
        "RTX 4090 Laptop GPU D",
        "NVIDIA-A100-SXM4-80GB-MIG-1g.10gb",
        "NVIDIA H200 MIG 3g.71gb",
        "NVIDIA RTX PRO 6000 Blackwell Server Edition MIG 1g.24gb",
        "Tesla-T4-SHARED",
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
        assert len({device.generation for device in catalog.candidates_by_pci(pci_id)}) == 1, pci_id


def test_peaks_are_dense() -> None:
    """H100: 989 TFLOPS bf16, half of the sparse 1,979 on the data sheet's first page."""
    assert devices()["H100-SXM"].flops_per_s[Precision.BF16] == pytest.approx(989.4e12)


def test_cpu_peaks_follow_from_cores_clock_and_instructions() -> None:
    """56 cores x 2.0 GHz x 1024 operations = 114.7 TFLOPS bf16; 8 channels x 4800 MT/s x 8 bytes = 307 GB/s."""
    socket = devices()["Xeon Platinum 8480+"]
    assert socket.flops_per_s[Precision.BF16] == pytest.approx(114.688e12)
    assert socket.memory_bandwidth_bytes_per_s == pytest.approx(307.2e9)
    assert "derived" in socket.sources["flops_per_s"]


def test_server_parts_of_one_socket_have_no_link_to_another() -> None:
    """The P of EPYC 9654P: the same chip, in single-socket servers."""
    both, single = devices()["EPYC 9654"], devices()["EPYC 9654P"]
    assert (both.scale_up.domain_devices, single.scale_up.domain_devices) == (2, 1)
    assert both.flops_per_s == single.flops_per_s


def test_a_rent_nobody_asks_follows_from_the_purchase() -> None:
    """RTX PRO 6000 Max-Q: 8565 USD over three years, and 300 W x 1.3 at 0.12 USD/kWh: 0.373 USD/h."""
    board = devices()["RTX-PRO-6000-Max-Q"]
    assert board.price_usd_per_h == pytest.approx(8565 / 26280 + 0.3 * 1.3 * 0.12, abs=1e-3)
    assert board.sources["price_usd_per_h"].startswith("derived:")


def test_export_models_differ_in_their_links() -> None:
    """H800 and A800 multiply as H100 and A100 and send half as much or less over NVLink: 200 GB/s each way."""
    for cut, whole in (("H800-SXM", "H100-SXM"), ("A800-SXM4-80GB", "A100-80GB")):
        assert devices()[cut].flops_per_s == devices()[whole].flops_per_s
        assert devices()[cut].scale_up.bandwidth_bytes_per_s == 200e9


def test_a_power_capped_board_computes_less_and_reads_as_fast() -> None:
    """Half the power takes clocks, not memory."""
    whole, capped = devices()["H100-SXM"], devices()["H100-SXM(power-capped)"]
    assert capped.tdp_w == whole.tdp_w / 2
    assert capped.flops_per_s[Precision.BF16] < 0.8 * whole.flops_per_s[Precision.BF16]
    assert capped.memory_bandwidth_bytes_per_s == whole.memory_bandwidth_bytes_per_s


def test_devices_travel_between_processes() -> None:
    """A search runs in a worker: a device survives the trip."""
    device = devices()["B200-SXM"]
    assert pickle.loads(pickle.dumps(device)) == device


@pytest.mark.skipif(
    not MEASUREMENTS.is_dir(), reason="the shared measurements are not in this checkout"
)
def test_every_measured_device_is_known_under_its_kind() -> None:
    """Training finds the data sheet of every row that names one kind of device."""
    for file in MEASUREMENTS.glob("*.csv"):
        with file.open(newline="") as rows:
            measured = {(row["device_type"], row["device_name"]) for row in csv.DictReader(rows)}
        for kind, name in measured:
            if name in NOT_ONE_DEVICE or " (x" in name:
                continue
            found = find_device(name)
            assert found is not None, name
            assert found.kind is DeviceKind(kind)


def test_the_catalog_is_read_in_an_instant() -> None:
    """Reading takes less than 20 ms of processor time on an idle core; ten times that is allowed on a busy one."""
    program = (
        "import time; from budsim.hardware_ops.catalog import devices; "
        "start = time.process_time(); devices(); print(time.process_time() - start)"
    )
    out = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    assert float(out.stdout) < 0.2


def test_an_entry_without_a_source_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """A figure nobody can check stops the catalog, and the message names the entry."""
    entry = {
        **catalog.load_catalog(catalog.PACKAGE, "catalog/accelerators.json")[0],
        "sources": {"tdp_w": "a data sheet"},
    }
    monkeypatch.setattr(catalog, "load_catalog", lambda package, name: [entry])
    with pytest.raises(
        CatalogError, match=r"accelerators.json\[0\] \(P100-PCIe-16GB\): no source for memory_bytes"
    ):
        catalog.devices.__wrapped__()  # past the cache, which other tests share
