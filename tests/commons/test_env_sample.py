"""`.env.sample` is what the settings say."""

from pathlib import Path

import pytest

from budsim.commons.config import read_settings
from budsim.commons.env_sample import env_sample


def test_env_sample_is_fresh():
    """`python -m budsim.commons.env_sample` would write the same."""
    shipped = Path(__file__).parents[2] / ".env.sample"
    assert shipped.read_text(encoding="utf-8") == env_sample()


def test_copied_sample_is_a_valid_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """`cp .env.sample .env` gives settings that load and equal the defaults."""
    monkeypatch.chdir(tmp_path)
    defaults = read_settings()
    (tmp_path / ".env").write_text(env_sample(), encoding="utf-8")
    assert read_settings() == defaults
