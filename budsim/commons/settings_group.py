"""A group of settings, and how it is read from the environment and `.env`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, TypeVar

from pydantic import AliasChoices, Field, ValidationError
from pydantic_settings import BaseSettings, SettingsConfigDict

from budsim.commons.errors import InvalidInput

Port = Annotated[int, Field(ge=1, le=65535)]


class SettingsGroup(BaseSettings):
    """Settings that belong together; each field is an environment variable of the same name."""

    model_config = SettingsConfigDict(
        env_file=".env",
        env_ignore_empty=True,
        extra="ignore",
        frozen=True,
        populate_by_name=True,
        hide_input_in_errors=True,
    )


Group = TypeVar("Group", bound=SettingsGroup)


def secret(name: str, default: Any, description: str) -> Any:
    """Return a field that the callers' platform may also name with the prefix SECRETS_."""
    # The prefixed name first: a copied .env.sample sets DATABASE_URL to its default.
    aliases = AliasChoices(f"secrets_{name}", name)
    return Field(default, validation_alias=aliases, description=description)


def read_group(group: type[Group], values: Mapping[str, Any] | None = None) -> Group:
    """Read one group of settings; ``values`` win over the environment.

    Raises
    ------
    InvalidInput
        A value is out of its bounds; names the variable and never repeats the value.
    """
    try:
        return group(**(values or {}))
    except ValidationError as error:
        first = error.errors(include_input=False, include_url=False, include_context=False)[0]
        name = ".".join(str(part) for part in first["loc"]).upper()
        problem = first["msg"].removeprefix("Value error, ")
        raise InvalidInput(name, problem, "what .env.sample says") from None
