"""Every setting of the service, grouped, described and bounded; read from the environment and an `.env` file."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any, TypeVar
from urllib.parse import unquote, urlsplit

from pydantic import Field, SecretStr, ValidationError
from pydantic.fields import FieldInfo
from pydantic_settings import BaseSettings, SettingsConfigDict

from budsim.commons.errors import InvalidInput

Port = Annotated[int, Field(ge=1, le=65535)]
PLACEHOLDERS = frozenset(
    {"", "change-me", "changeme", "secret", "token", "password", "postgres", "budsim", "budsim-dev"}
)


class Environment(StrEnum):
    """Where the service runs; production refuses placeholder secrets."""

    DEVELOPMENT = "development"
    PRODUCTION = "production"


class _Group(BaseSettings):
    model_config = SettingsConfigDict(
        env_file=".env", env_ignore_empty=True, extra="ignore", frozen=True
    )


Given = TypeVar("Given", bound=_Group)


class AppSettings(_Group):
    """The HTTP server and who may call it."""

    environment: Environment = Field(
        Environment.DEVELOPMENT, description="development or production"
    )
    app_port: Port = Field(9083, description="port the service listens on")
    drain_s: float = Field(
        3.0,
        ge=0,
        le=600,
        description="after SIGTERM health says 503 for so long before the server stops, s",
    )
    app_api_token: SecretStr | None = Field(
        None, description="callers must send it in the header dapr-api-token; unset: anyone may"
    )
    log_level: str = Field(
        "INFO",
        pattern="^(DEBUG|INFO|WARNING|ERROR)$",
        description="least severe log line written",
    )


class TelemetrySettings(_Group):
    """Where traces go."""

    otel_exporter_otlp_endpoint: str | None = Field(
        None,
        pattern="^https?://",
        description="OpenTelemetry collector, OTLP over HTTP; unset: no traces leave",
    )


class DatabaseSettings(_Group):
    """Where runs, plans and events are kept."""

    database_url: str = Field(
        "sqlite:///budsim.db",
        pattern=r"^(sqlite|postgresql)(\+\w+)?://",
        description="SQLite file or postgresql://user:password@host/name",
    )
    database_pool_size: int = Field(
        10, ge=1, le=200, description="connections kept open (Postgres)"
    )
    migrate_at_start: bool = Field(
        True, description="bring the schema up to date at start; false where a job does it"
    )
    retention_days: float = Field(
        30.0, gt=0, le=3650, description="finished runs are deleted after so many days"
    )


class DaprSettings(_Group):
    """The sidecar; without ports everything happens in this process."""

    dapr_runtime_host: str = Field("127.0.0.1", description="host the sidecar listens on")
    dapr_http_port: Port | None = Field(
        None, description="the sidecar's HTTP port; unset: no sidecar"
    )
    dapr_grpc_port: Port | None = Field(
        None, description="the sidecar's gRPC port, preferred where set"
    )
    dapr_api_token: SecretStr | None = Field(None, description="sent to the sidecar on every call")
    dapr_workflows: bool = Field(
        True, description="with a gRPC port: runs are Dapr workflows; false: runs of this process"
    )
    dapr_timeout_s: float = Field(
        5.0, gt=0, le=60, description="longest wait for one call to the sidecar, s"
    )
    state_store_name: str = Field("statestore", description="component the inventory is read from")
    pubsub_name: str = Field("pubsub", description="component events are published through")
    pubsub_topic: str = Field("budSimMessages", description="topic requests arrive on")
    dead_letter_topic: str = Field(
        "poisonMessages", description="topic of messages nobody could handle"
    )
    secret_store_name: str | None = Field(
        None,
        description="component APP_API_TOKEN and DATABASE_URL are read from at start; unset: the environment has them",
    )
    secret_name: str = Field(
        "budsim", description="secret of that component; its keys are named as the variables"
    )
    configuration_store_name: str | None = Field(
        None,
        description="component limits, retention and log level are read from at start, named as here; unset: none",
    )
    stores_wait_s: float = Field(
        60.0, ge=0, le=600, description="how long a start waits for these two, s"
    )

    @property
    def has_sidecar(self) -> bool:
        """Whether a sidecar is configured."""
        return bool(self.dapr_http_port or self.dapr_grpc_port)

    @property
    def has_workflows(self) -> bool:
        """Whether the sidecar carries out runs."""
        return bool(self.dapr_grpc_port and self.dapr_workflows)


class InventorySettings(_Group):
    """Where the hardware inventory comes from: the state store with a sidecar, a file without."""

    inventory_file: Path | None = Field(
        None, description="inventory JSON or short YAML, read when there is no sidecar"
    )
    cluster_info_state_key: str = Field(
        "cluster_info", description="key of the inventory in the state store"
    )
    inventory_max_bytes: int = Field(
        64_000_000, ge=1_000, le=10**9, description="largest inventory read, bytes"
    )
    inventory_ttl_s: float = Field(
        1.0, ge=0, le=3600, description="how long a read inventory is used again, s"
    )


class ModelSettings(_Group):
    """Where model configurations and trained regressors are found."""

    model_registry_dir: Path | None = Field(
        None, description="folder that paths in pretrained_model_uri are relative to"
    )
    pretrained_models_dir: Path | None = Field(
        None, description="trained regressors; unset: those shipped with budsim"
    )
    calibration_file: Path | None = Field(
        None, description="a site's calibration by `budsim calibrate`; unset: none"
    )
    hugging_face_hub: bool = Field(
        False, description="ask the Hugging Face hub for models nobody here knows"
    )


class LimitSettings(_Group):
    """How much work is accepted and how long it may take."""

    worker_processes: int = Field(
        2, ge=0, le=256, description="simulations at a time; 0: threads of this process (tests)"
    )
    max_body_bytes: int = Field(
        1_000_000, ge=1_000, le=10**9, description="largest request body, bytes"
    )
    max_pending_runs: int = Field(
        10_000, ge=1, le=10**7, description="accepted runs that wait; more are refused with 429"
    )
    max_requests_at_a_time: int = Field(
        512, ge=1, le=100_000, description="requests answered at a time; more are refused with 503"
    )
    max_requests_per_s: float = Field(
        1000.0,
        ge=0,
        le=1e6,
        description="requests a second of one caller to one replica; more are refused with 429; 0: any",
    )
    max_synchronous_runs: int = Field(
        32, ge=1, le=10_000, description="debug=true runs at a time; more are refused with 503"
    )
    simulation_timeout_s: float = Field(
        120.0, gt=0, le=86400, description="longest time one simulation may take, s"
    )
    lease_s: float = Field(
        30.0, ge=1, le=3600, description="a replica silent for so long loses its run to another, s"
    )
    poll_s: float = Field(
        1.0,
        gt=0,
        le=60,
        description="how often unfinished runs and unsent events are looked for, s",
    )
    max_attempts: int = Field(
        20, ge=1, le=100, description="tries of one step when what it depends on is not there"
    )
    plans_kept: int = Field(50, ge=1, le=1000, description="ranked plans stored for one run")


GROUPS: tuple[type[_Group], ...] = (
    AppSettings,
    TelemetrySettings,
    DatabaseSettings,
    DaprSettings,
    InventorySettings,
    ModelSettings,
    LimitSettings,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """All groups together; tests give their own values, the service reads them once at start."""

    app: AppSettings = field(default_factory=AppSettings)
    telemetry: TelemetrySettings = field(default_factory=TelemetrySettings)
    database: DatabaseSettings = field(default_factory=DatabaseSettings)
    dapr: DaprSettings = field(default_factory=DaprSettings)
    inventory: InventorySettings = field(default_factory=InventorySettings)
    models: ModelSettings = field(default_factory=ModelSettings)
    limits: LimitSettings = field(default_factory=LimitSettings)

    def overridden(self, values: Mapping[str, str]) -> Settings:
        """Return the settings with ``values``, by variable, in place of theirs; names of no setting are ignored.

        Raises
        ------
        InvalidInput
            A value is out of its bounds; names the variable.
        """
        lowered = {name.lower(): value for name, value in values.items()}
        changed = {
            part.name: _valid(type(group := getattr(self, part.name)), group.model_dump() | lowered)
            for part in fields(self)
        }
        return replace(self, **changed)


SECRETS = ("APP_API_TOKEN", "DATABASE_URL")
"""What a secret store may hold."""
TUNABLES = (
    "LOG_LEVEL",
    "RETENTION_DAYS",
    "INVENTORY_TTL_S",
    *(name.upper() for name in LimitSettings.model_fields),
)
"""What a configuration store may hold."""


def load_settings() -> Settings:
    """Read every setting from the environment and `.env`.

    Raises
    ------
    InvalidInput
        A value is out of its bounds, or a placeholder secret is used in production; names the variable.
    """
    settings = Settings(
        app=_valid(AppSettings, {}),
        telemetry=_valid(TelemetrySettings, {}),
        database=_valid(DatabaseSettings, {}),
        dapr=_valid(DaprSettings, {}),
        inventory=_valid(InventorySettings, {}),
        models=_valid(ModelSettings, {}),
        limits=_valid(LimitSettings, {}),
    )
    if settings.dapr.secret_store_name is None:
        refuse_placeholders(settings)
    return settings


def env_sample() -> str:
    """Return the text of `.env.sample`: every variable with its meaning, bounds and default."""
    sections = (_section(group) for group in GROUPS)
    return "# Written by `python -m budsim.commons.config`; do not edit.\n\n" + "\n".join(sections)


def refuse_placeholders(settings: Settings) -> None:
    """Raise `InvalidInput` where production would run with a placeholder secret; names the variable."""
    if settings.app.environment is not Environment.PRODUCTION:
        return
    sidecar_token = settings.dapr.dapr_api_token
    password = urlsplit(settings.database.database_url).password
    used = {
        "APP_API_TOKEN": _revealed(settings.app.app_api_token),
        "DAPR_API_TOKEN": None if sidecar_token is None else _revealed(sidecar_token),
        "DATABASE_URL": None if password is None else unquote(password),
    }
    for name, secret in used.items():
        if secret is not None and secret.strip().lower() in PLACEHOLDERS:
            raise InvalidInput(
                name, "missing or a placeholder in production", "a secret of your own"
            )


def _valid(group: type[Given], values: Mapping[str, Any]) -> Given:
    try:
        return group(**values)
    except ValidationError as error:
        first = error.errors(include_input=False, include_url=False)[0]
        name = ".".join(str(part) for part in first["loc"]).upper()
        raise InvalidInput(name, first["msg"], "what .env.sample says") from None


def _revealed(secret: SecretStr | None) -> str:
    return secret.get_secret_value() if secret else ""


def _section(group: type[_Group]) -> str:
    lines = [f"# {(group.__doc__ or '').strip().splitlines()[0]}"]
    for name, definition in group.model_fields.items():
        lines.append(f"# {definition.description}{_bounds(definition)}")
        lines.append(_assignment(name, definition.default))
    return "\n".join(lines) + "\n"


def _bounds(definition: FieldInfo) -> str:
    signs = {"ge": ">=", "gt": ">", "le": "<=", "lt": "<"}
    bounds = [
        f"{sign} {getattr(rule, name)}"
        for rule in definition.metadata
        for name, sign in signs.items()
        if getattr(rule, name, None) is not None
    ]
    return f" ({', '.join(bounds)})" if bounds else ""


def _assignment(name: str, default: object) -> str:
    if default is None:
        return f"# {name.upper()}="
    return f"{name.upper()}={str(default).lower() if isinstance(default, bool) else default}"


if __name__ == "__main__":
    Path(".env.sample").write_text(env_sample(), encoding="utf-8")
