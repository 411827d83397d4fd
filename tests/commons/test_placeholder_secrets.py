"""Production refuses secrets that everybody knows, however they are spelled."""

from pathlib import Path

import pytest

from budsim.commons.errors import InvalidInput
from budsim.commons.placeholder_secrets import is_placeholder, load_settings


@pytest.fixture(autouse=True)
def production(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Set up production with a token of its own."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("ENVIRONMENT", "production")
    monkeypatch.setenv("APP_API_TOKEN", "8f1c0a6e2b")


def test_secrets_of_ones_own_are_taken(monkeypatch: pytest.MonkeyPatch):
    """A token and a password nobody would guess."""
    monkeypatch.setenv("DATABASE_URL", "postgresql://budsim:Kx9-2hQv@db/budsim")
    assert load_settings().app.environment == "production"


@pytest.mark.parametrize(
    "secret",
    [
        "",
        " ",
        "change-me",
        "CHANGE_ME",
        "ChangeMe!",
        "changeme123",
        "please-change-me-now",
        " Secret ",
        "s3cret",
        "p a s s w o r d",
        "password1",
        "budsim-dev",
        "your-token-here",
        "<token>",
        "${APP_API_TOKEN}",
        "{{ token }}",
        "xxxxxxxx",
        "1111",
    ],
)
def test_placeholders_of_any_spelling_are_refused(secret: str):
    """Case, punctuation and a number at the end make no secret of a word."""
    assert is_placeholder(secret)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("APP_API_TOKEN", "Change-Me"),
        ("DAPR_API_TOKEN", "change-me"),
        ("DATABASE_URL", "postgresql://budsim:budsim-dev@db/budsim"),
        ("DATABASE_URL", "postgresql://b:@db/b"),
        ("DATABASE_URL", "postgresql://b@db/b?password=postgres"),
    ],
)
def test_the_variable_is_named_and_the_secret_is_not(
    monkeypatch: pytest.MonkeyPatch, name: str, value: str
):
    """Wherever the placeholder stands."""
    monkeypatch.setenv(name, value)
    with pytest.raises(InvalidInput, match=name) as refused:
        load_settings()
    assert "budsim-dev" not in str(refused.value)


def test_a_missing_token_is_refused(monkeypatch: pytest.MonkeyPatch):
    """In production somebody must be kept out."""
    monkeypatch.delenv("APP_API_TOKEN")
    with pytest.raises(InvalidInput, match="APP_API_TOKEN"):
        load_settings()
