"""Refuses to run in production with a secret that everybody knows."""

from __future__ import annotations

import re
from urllib.parse import parse_qs, unquote, urlsplit

from pydantic import SecretStr

from budsim.commons.config import Environment, Settings, read_settings
from budsim.commons.errors import InvalidInput

# Words that are no secret, as they read without case, digits at the end and punctuation.
PLACEHOLDERS = frozenset(
    "admin apitoken budsim budsimdev change default demo dev dummy example foo foobar guest "
    "letmein localhost none null pass passw0rd passwd password placeholder postgres postgresql "
    "qwerty replace root s3cr3t s3cret sample secret test testing todo token unset user "
    "welcome".split()
)
# Texts that no secret contains, without case and punctuation.
MARKS = (
    "changeme",
    "changethis",
    "placeholder",
    "replaceme",
    "replacethis",
    "yourtoken",
    "yoursecret",
)
# Different characters a secret has at the least: `xxxx` and `1111` have one.
LEAST_DIFFERENT = 3


def load_settings() -> Settings:
    """Read every setting, and refuse placeholder secrets in production.

    Raises
    ------
    InvalidInput
        A value is out of its bounds, or production would run with a placeholder secret.
    """
    settings = read_settings()
    if settings.dapr.secret_store_name is None:
        refuse_placeholders(settings)
    return settings


def refuse_placeholders(settings: Settings) -> None:
    """Raise `InvalidInput` where production would run with a placeholder; names the variable."""
    if settings.app.environment is not Environment.PRODUCTION:
        return
    for name, secret in _secrets_in_use(settings).items():
        if secret is not None and is_placeholder(secret):
            raise InvalidInput(
                name, "missing or a placeholder in production", "a secret of your own"
            )


def is_placeholder(secret: str) -> bool:
    """Return whether a secret is empty, a word everybody tries first, or a template left unfilled.

    Spelling does not matter: `Change-Me!`, `CHANGE_ME` and `changeme1` are the same.
    """
    text = secret.strip()
    plain = re.sub(r"[\W_]", "", text.lower())
    words = re.sub(r"\d+$", "", plain)
    return (
        len(set(plain)) < LEAST_DIFFERENT
        or plain in PLACEHOLDERS
        or words in PLACEHOLDERS
        or any(mark in plain for mark in MARKS)
        or plain.startswith("your")
        or bool(re.fullmatch(r"<.*>|\$\{.*\}|\{\{.*\}\}|\$\w+", text))
    )


def _secrets_in_use(settings: Settings) -> dict[str, str | None]:
    """Return the secrets the service runs with by variable; None where there need be none."""
    sidecar_token = settings.dapr.dapr_api_token
    return {
        "APP_API_TOKEN": _revealed(settings.app.app_api_token),
        "DAPR_API_TOKEN": None if sidecar_token is None else _revealed(sidecar_token),
        "DATABASE_URL": _password(settings.database.url),
    }


def _password(url: str) -> str | None:
    named = urlsplit(url)
    in_query = parse_qs(named.query).get("password", [None])[0]
    return in_query if named.password is None else unquote(named.password)


def _revealed(secret: SecretStr | None) -> str:
    return secret.get_secret_value() if secret else ""
