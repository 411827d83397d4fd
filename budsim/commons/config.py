"""Every setting of the service, grouped, described and bounded.

Values come from environment variables and from a file `.env` in the working directory.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from enum import StrEnum
from pathlib import Path
from typing import Any

from pydantic import AliasChoices, Field, SecretStr, field_validator

from budsim.commons.database_settings import DatabaseSettings
from budsim.commons.settings_group import Port, SettingsGroup, read_group, secret


class Environment(StrEnum):
    """Where the service runs; production refuses placeholder secrets."""

    DEVELOPMENT = "development"
    PRODUCTION = "production"


class AppSettings(SettingsGroup):
    """The HTTP server and who may call it."""

    environment: Environment = Field(
        Environment.DEVELOPMENT, description="development or production"
    )
    app_port: Port = Field(9083, description="port `budsim serve` listens on")
    drain_s: float = Field(
        3.0,
        ge=0,
        le=600,
        description="after SIGTERM health answers 503 for so long before the server stops, s",
    )
    shutdown_s: float = Field(
        25.0,
        ge=0,
        le=600,
        description="then requests under way have so long before they are answered 503, s",
    )
    app_api_token: SecretStr | None = secret(
        "app_api_token",
        None,
        "callers must send it in the header dapr-api-token; unset: anyone may",
    )
    log_level: str = Field(
        "INFO",
        pattern="^(DEBUG|INFO|WARNING|ERROR)$",
        description="least severe log line written: DEBUG, INFO, WARNING or ERROR",
    )

    @field_validator("environment", "log_level", mode="before")
    @classmethod
    def _ignore_case(cls, value: object, about: Any) -> object:
        if not isinstance(value, str):
            return value
        return value.strip().upper() if about.field_name == "log_level" else value.strip().lower()


class TelemetrySettings(SettingsGroup):
    """Where traces go."""

    otel_exporter_otlp_endpoint: str | None = Field(
        None,
        pattern="^https?://",
        description="OpenTelemetry collector, OTLP over HTTP; unset: no traces leave",
    )


class DaprSettings(SettingsGroup):
    """The sidecar; without ports everything happens in this process."""

    dapr_runtime_host: str = Field("127.0.0.1", description="host the sidecar listens on")
    dapr_http_port: Port | None = Field(
        None, description="the sidecar's HTTP port; unset: no sidecar"
    )
    dapr_grpc_port: Port | None = Field(
        None, description="the sidecar's gRPC port, preferred where set"
    )
    dapr_api_token: SecretStr | None = secret(
        "dapr_api_token", None, "sent to the sidecar on every call"
    )
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
        "poisonMessages", description="topic of messages that could not be handled or delivered"
    )
    notify_service_topic: str | None = Field(
        None, description="topic of the notification service; unset: it is sent nothing"
    )
    event_topics_allowed: str = Field(
        "*Messages",
        validation_alias=AliasChoices("event_topics_allowed", "event_topics"),
        description="topics that source_topic may name: a comma list, * stands for any text",
    )
    event_give_up_s: float = Field(
        3600.0,
        gt=0,
        le=30 * 86400,
        description="an event refused for so long goes to DEAD_LETTER_TOPIC, s",
    )
    secret_store_name: str | None = Field(
        None,
        description="component APP_API_TOKEN and DATABASE_URL are read from at start;"
        " unset: the environment has them",
    )
    secret_name: str = Field(
        "budsim", description="secret of that component; its keys are named as the variables"
    )
    configuration_store_name: str | None = Field(
        None,
        description="component limits, retention and log level are read from at start,"
        " named as here; unset: none",
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

    @property
    def event_topics(self) -> tuple[str, ...]:
        """Patterns (`fnmatch`) of the topics that a request may have its events published on."""
        return _listed(self.event_topics_allowed)


class InventorySettings(SettingsGroup):
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


class ModelSettings(SettingsGroup):
    """Where model configurations and trained regressors are found."""

    model_registry_dir: Path | None = Field(
        None, description="folder that paths in pretrained_model_uri are relative to"
    )
    model_registry_pod_dir: str = Field(
        "/data/models-registry",
        pattern="^/",
        description="the same folder as the serving pods see it; args.model starts with it",
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


class ServingSettings(SettingsGroup):
    """Which engines may be recommended, and the image each is started from.

    An image that is unset is the one the engine publishes for the release budsim models.
    """

    engines_allowed: str = Field(
        "",
        validation_alias=AliasChoices("engines_allowed", "engines"),
        description="comma list of engines that may be recommended, such as vllm,sglang;"
        " empty: all",
    )
    deployer_max_loras: int = Field(
        5,
        ge=0,
        le=1024,
        description="LoRA adapters the deployer starts vLLM with where a request names none and"
        " the model has them; 0: it starts none",
    )
    image_vllm_cuda: str | None = Field(None, description="vLLM on NVIDIA GPUs")
    image_vllm_rocm: str | None = Field(None, description="vLLM on AMD GPUs")
    image_vllm_hpu: str | None = Field(None, description="vLLM on Gaudi")
    image_vllm_cpu: str | None = Field(
        None, description="vLLM on CPUs; for x86 and Arm together, one image of both"
    )
    image_sglang_cuda: str | None = Field(None, description="SGLang on NVIDIA GPUs")
    image_sglang_rocm: str | None = Field(None, description="SGLang on AMD GPUs")
    image_sglang_cpu: str | None = Field(None, description="SGLang on x86 CPUs")
    image_litellm_any: str | None = Field(None, description="LiteLLM's proxy")

    @property
    def engines(self) -> frozenset[str]:
        """Names of the engines that may be recommended; empty: all."""
        return frozenset(name.lower() for name in _listed(self.engines_allowed))

    @property
    def images(self) -> dict[tuple[str, str], str]:
        """The images that are set, by engine and kind of device."""
        found = {}
        for name in type(self).model_fields:
            if name.startswith("image_") and (image := getattr(self, name)):
                _, engine, kind = name.split("_", 2)
                found[engine, kind] = str(image)
        return found


class PriceSettings(SettingsGroup):
    """What an hour of a device costs, where the inventory states no price.

    The assumptions of ownership are those of `budsim.hardware_ops.ownership`.
    """

    price_basis: str = Field(
        "rent", pattern="^(rent|own)$", description="rent, or the cost of owning the devices"
    )
    price_term: str = Field(
        "on_demand", pattern="^(on_demand|reserved|spot)$", description="how devices are rented"
    )
    price_provider: str | None = Field(
        None, description="whose rents to take; unset: the lowest published"
    )
    prices_file: Path | None = Field(
        None, description="a site's own prices in YAML, JSON or CSV; read at start; unset: none"
    )
    pue: float | None = Field(
        None,
        ge=1,
        le=5,
        description="power of the data centre over that of its computers; unset: that of"
        " PRICES_FILE, else 1.56",
    )
    usd_per_kwh: float | None = Field(
        None,
        ge=0,
        le=10,
        description="price of power, for PRICE_BASIS own; unset: that of PRICES_FILE, else 0.1275",
    )
    g_co2_per_kwh: float = Field(
        445.0, ge=0, le=2000, description="carbon intensity of the grid, g CO2 per kWh"
    )


class LimitSettings(SettingsGroup):
    """How much work is accepted and how long it may take."""

    worker_processes: int = Field(
        2, ge=0, le=256, description="simulations at a time; 0: threads of this process (tests)"
    )
    max_header_bytes: int = Field(
        65_536, ge=1_024, le=10**7, description="largest request line and headers, bytes"
    )
    max_body_bytes: int = Field(
        1_000_000, ge=1_000, le=10**9, description="largest request body, bytes"
    )
    max_buffered_bytes: int = Field(
        64_000_000, ge=1_000, le=10**11, description="bodies held at a time, all together, bytes"
    )
    arrival_s: float = Field(
        10.0, gt=0, le=3600, description="longest time headers may take, and then the body, s"
    )
    max_unfinished_per_peer: int = Field(
        512,
        ge=1,
        le=100_000,
        description="requests of one address that are not complete yet; beyond it the oldest is"
        " closed",
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
        description="requests a second of one address and token to one replica;"
        " more are refused with 429; 0: any",
    )
    max_synchronous_runs: int = Field(
        32,
        ge=1,
        le=10_000,
        description="requests at a time that compute while the caller waits (debug=true,"
        " layouts); more are refused with 503",
    )
    simulation_timeout_s: float = Field(
        120.0, gt=0, le=86400, description="CPU time that one simulation may take, s"
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


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """All groups together; tests give their own values, the service reads them once at start."""

    app: AppSettings = field(default_factory=AppSettings)
    telemetry: TelemetrySettings = field(default_factory=TelemetrySettings)
    database: DatabaseSettings = field(default_factory=DatabaseSettings)
    dapr: DaprSettings = field(default_factory=DaprSettings)
    inventory: InventorySettings = field(default_factory=InventorySettings)
    models: ModelSettings = field(default_factory=ModelSettings)
    serving: ServingSettings = field(default_factory=ServingSettings)
    prices: PriceSettings = field(default_factory=PriceSettings)
    limits: LimitSettings = field(default_factory=LimitSettings)

    def overridden(self, values: Mapping[str, str]) -> Settings:
        """Return the settings with ``values``, by variable; names of no setting are ignored.

        Raises
        ------
        InvalidInput
            A value is out of its bounds; names the variable.
        """
        lowered = {name.lower(): value for name, value in values.items()}
        changed = {}
        for part in fields(self):
            group = getattr(self, part.name)
            given = {name: getattr(group, name) for name in type(group).model_fields}
            changed[part.name] = read_group(type(group), given | lowered)
        return replace(self, **changed)


GROUPS: dict[str, type[SettingsGroup]] = {
    "app": AppSettings,
    "telemetry": TelemetrySettings,
    "database": DatabaseSettings,
    "dapr": DaprSettings,
    "inventory": InventorySettings,
    "models": ModelSettings,
    "serving": ServingSettings,
    "prices": PriceSettings,
    "limits": LimitSettings,
}
# What a secret store may hold.
SECRETS = ("APP_API_TOKEN", "DATABASE_URL", "PSQL_PASSWORD")
# What a configuration store may hold.
TUNABLES = (
    "LOG_LEVEL",
    "RETENTION_DAYS",
    "INVENTORY_TTL_S",
    *(name.upper() for name in LimitSettings.model_fields),
)


def read_settings() -> Settings:
    """Read every setting from the environment and `.env`, without judging the secrets.

    Raises
    ------
    InvalidInput
        A value is out of its bounds; names the variable.
    """
    groups: dict[str, Any] = {name: read_group(group) for name, group in GROUPS.items()}
    return Settings(**groups)


def _listed(text: str) -> tuple[str, ...]:
    return tuple(part.strip() for part in text.split(",") if part.strip())
