"""Images: which one, where its templates lie, and a site's own instead."""

from __future__ import annotations

from budsim.engine_ops.shared.images import image_key, template_path, with_own_image
from budsim.engine_ops.vllm import Vllm
from budsim.hardware_ops.device import DeviceKind
from tests.engine_ops.samples import LLAMA, replica

TEMPLATE = "tool_chat_template_llama3.1_json.jinja"


def test_a_template_is_found_where_the_image_has_it() -> None:
    """CUDA's image works beside examples/, ROCm's keeps them below /app, Gaudi's has none known."""
    assert template_path("vllm", DeviceKind.CUDA, TEMPLATE) == f"examples/{TEMPLATE}"
    assert template_path("vllm", DeviceKind.ROCM, TEMPLATE) == f"/app/vllm/examples/{TEMPLATE}"
    assert template_path("vllm", DeviceKind.HPU, TEMPLATE) is None
    assert template_path("vllm", DeviceKind.CUDA, None) is None
    assert template_path("sglang", DeviceKind.CUDA, TEMPLATE) is None


def test_gaudi_gets_an_image_that_was_published() -> None:
    """The plugin is behind vLLM: there is no image of 0.32, the newest in use is of 0.26."""
    image = Vllm().launch(LLAMA, replica("Gaudi3")).image
    assert image.startswith("vault.habana.ai/gaudi-docker/")
    assert "vllm-0.26.0-" in image


def test_a_sites_own_image_replaces_ours_by_engine_and_kind() -> None:
    """The key of engine and kind wins over the engine's alone; others stay as they are."""
    launch = Vllm().launch(LLAMA, replica("H100-SXM"))
    images = {"vllm/hpu": "site/gaudi:1", "vllm": "site/vllm:1"}

    def own(kind: DeviceKind, engine: str = "vllm") -> str:
        return with_own_image(launch, engine, kind, images).image

    assert image_key("vllm", DeviceKind.HPU) == "vllm/hpu"
    assert own(DeviceKind.HPU) == "site/gaudi:1"
    assert own(DeviceKind.CUDA) == "site/vllm:1"
    assert own(DeviceKind.CUDA, "sglang") == launch.image
