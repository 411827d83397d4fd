"""When versions of engines came out."""

from __future__ import annotations

from math import isnan

import pytest

from budsim.engine_ops.releases import release_year


def test_image_tags_and_candidates_count_as_their_release() -> None:
    """Image tags and candidates get their release's date; a patch of SGLang has its own.

    vLLM 0.18 came out on the 79th day of 2026.
    """
    assert release_year("vllm", "v0.18.1-cu130") == pytest.approx(2026 + 78 / 365.25)
    assert release_year("sglang", "0.5.6.post2") < release_year("sglang", "0.5.9")
    assert release_year("trtllm", "1.2.0rc6.post2") == release_year("trtllm", "1.2.1")


@pytest.mark.parametrize(
    ("engine", "version"),
    [("vllm", "nightly-5b8c30d"), ("vllm", "9.9.9"), ("atom", "0.1.0"), ("vllm", "")],
)
def test_an_unknown_version_has_no_year(engine: str, version: str) -> None:
    """Nothing is guessed for nightlies, unknown releases and unknown engines."""
    assert isnan(release_year(engine, version))
