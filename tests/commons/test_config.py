"""Settings: bounds, production rules, and the sample file made of them."""

from pathlib import Path

import pytest

from budsim.commons.config import env_sample, load_settings
from budsim.commons.errors import InvalidInput


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Read no `.env` of whoever runs the tests."""
    monkeypatch.chdir(tmp_path)


def test_env_sample_is_what_the_settings_say():
    """`.env.sample` is fresh: `python -m budsim.commons.config` would write the same."""
    shipped = Path(__file__).parents[2] / ".env.sample"
    assert shipped.read_text(encoding="utf-8") == env_sample()


def test_copied_sample_is_a_valid_environment(tmp_path: Path):
    """`cp .env.sample .env` gives settings that load and equal the defaults."""
    defaults = load_settings()
    (tmp_path / ".env").write_text(env_sample(), encoding="utf-8")
    assert load_settings() == defaults


def test_variable_out_of_bounds_is_named(monkeypatch: pytest.MonkeyPatch):
    """A port above 65535 is refused by name."""
    monkeypatch.setenv("APP_PORT", "70000")
    with pytest.raises(InvalidInput, match="APP_PORT"):
        load_settings()


@pytest.mark.parametrize("token", [None, "change-me", " Secret "])
def test_production_refuses_placeholder_tokens(monkeypatch: pytest.MonkeyPatch, token: str | None):
    """In production a token of one's own is needed."""
    monkeypatch.setenv("ENVIRONMENT", "production")
    if token:
        monkeypatch.setenv("APP_API_TOKEN", token)
    with pytest.raises(InvalidInput, match="APP_API_TOKEN"):
        load_settings()


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("DAPR_API_TOKEN", "change-me"),
        ("DATABASE_URL", "postgresql://budsim:budsim-dev@db/budsim"),
        ("DATABASE_URL", "postgresql://b:@db/b"),
    ],
)
def test_production_refuses_other_placeholder_secrets(
    monkeypatch: pytest.MonkeyPatch, name: str, value: str
):
    """The sidecar's token where there is one, and the database's password; the secret itself is not repeated."""
    monkeypatch.setenv("ENVIRONMENT", "production")
    monkeypatch.setenv("APP_API_TOKEN", "one-of-our-own")
    assert load_settings().app.environment == "production"
    monkeypatch.setenv(name, value)
    with pytest.raises(InvalidInput, match=name) as refused:
        load_settings()
    assert "budsim-dev" not in str(refused.value)


def test_a_port_makes_a_sidecar(monkeypatch: pytest.MonkeyPatch):
    """Without Dapr ports there is no sidecar; either port makes one."""
    assert not load_settings().dapr.has_sidecar
    monkeypatch.setenv("DAPR_GRPC_PORT", "50001")
    assert load_settings().dapr.has_sidecar
