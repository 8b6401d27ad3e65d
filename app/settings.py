"""Everything an operator may set, read once from the environment. Prefix FITPROOF_, plus the hub's own HF_ names."""

import os
import sys
from pathlib import Path
from typing import Annotated, Any, Literal
from urllib.parse import urlsplit

from pydantic import AliasChoices, Field, SecretStr, ValidationError, field_validator
from pydantic_settings import SettingsConfigDict

from app.probe_settings import ProbeSettings
from planner.errors import FieldProblem, FitproofError
from planner.request.validation.messages import field_problems
from planner.units import MIB

PREFIX = "FITPROOF_"
# Read by what we start, and set by us: cards of a dry run (planner/probe/card), a program under one, the CLI's token.
_READ_ELSEWHERE = {"FITPROOF_CARDS", "FITPROOF_CARD_SET", "FITPROOF_DRY_RUN", "FITPROOF_TOKEN", "FITPROOF_HUB_OFFLINE"}


class SettingsError(FitproofError):
    """The environment holds a setting that cannot be used. Every bad variable is named."""

    code = "settings"


def default_data_dir() -> Path:
    """Where this system keeps a user's application data: XDG on Linux, Application Support, LOCALAPPDATA."""
    if sys.platform == "darwin":
        return Path.home() / "Library" / "Application Support" / "fitproof"
    variable, fallback = (
        ("LOCALAPPDATA", Path.home() / "AppData" / "Local")
        if sys.platform == "win32"
        else ("XDG_DATA_HOME", Path.home() / ".local" / "share")
    )
    return Path(os.environ.get(variable) or fallback) / "fitproof"


class Settings(ProbeSettings):
    """One frozen object. Each field's description is its row in the README's table."""

    model_config = SettingsConfigDict(
        env_prefix=PREFIX, env_ignore_empty=True, frozen=True, extra="forbid", populate_by_name=True
    )

    host: str = Field("127.0.0.1", description="Address to listen on.")
    port: Annotated[int, Field(ge=0, le=65_535)] = Field(8000, description="Port to listen on; 0 takes a free one.")
    workers: Annotated[int, Field(ge=1, le=64)] = Field(
        2, description="Processes that answer questions at a time, beside one for whatever takes long."
    )
    data_dir: Path = Field(
        default_factory=default_data_dir, description="Folder of the database, the hub cache and probe files."
    )
    database_url: SecretStr | None = Field(
        None, description="PostgreSQL or SQLite address of the database; unset means a SQLite file in the data folder."
    )
    max_body_bytes: Annotated[int, Field(ge=1024)] = Field(MIB, description="Largest request body accepted, in bytes.")
    log_format: Literal["auto", "json", "text"] = Field(
        "auto", description="Log lines for machines (json) or people (text); auto: text in a terminal."
    )
    log_level: Literal["debug", "info", "warning", "error"] = Field("info", description="Least severe line logged.")
    hub_endpoint: str = Field(
        "https://huggingface.co",
        validation_alias=AliasChoices("hub_endpoint", "HF_ENDPOINT"),
        description="Model hub whose config.json files are read.",
    )
    hub_token: SecretStr | None = Field(
        None,
        validation_alias=AliasChoices("hub_token", "HF_TOKEN"),
        description="Token for gated models. Sent to the hub only, never logged.",
    )
    hub_offline: bool = Field(
        False,
        validation_alias=AliasChoices("hub_offline", "FITPROOF_HUB_OFFLINE", "HF_HUB_OFFLINE"),
        description="Never ask the hub; use the catalogue and the cache.",
    )
    hub_timeout_seconds: Annotated[float, Field(gt=0, le=300)] = Field(
        10.0, description="Time a hub answer may take in all, redirects included."
    )
    hub_max_config_bytes: Annotated[int, Field(ge=1024)] = Field(
        2 * MIB, description="Largest config.json accepted from the hub, in bytes."
    )
    hub_cache_seconds: Annotated[float, Field(ge=0)] = Field(
        86_400.0, description="Age at which a cached config.json is checked with the hub again."
    )

    @field_validator("hub_endpoint")
    @classmethod
    def _web_address(cls, value: str) -> str:
        if not value.startswith(("https://", "http://")):
            msg = "must start with https:// or http://"
            raise ValueError(msg)
        return value.rstrip("/")

    @property
    def hub_name(self) -> str:
        """The hub's address without a user and a password that it may carry."""
        parts = urlsplit(self.hub_endpoint)
        return parts._replace(netloc=parts.netloc.rpartition("@")[2]).geturl()

    @field_validator("data_dir")
    @classmethod
    def _absolute(cls, value: Path) -> Path:
        return value.expanduser().absolute()

    @classmethod
    def load(cls, **given: Any) -> "Settings":
        """Read the environment; `given` (command-line options) win where they are not None.

        Raises:
            SettingsError: names every bad variable and says the fix.
        """
        try:
            return cls(**{name: value for name, value in given.items() if value is not None})
        except ValidationError as error:
            # Inputs are left out: one of them may be the token.
            details = error.errors(include_url=False, include_input=False)
            problems = [FieldProblem(variable_of(p.field), _without_input(p.message)) for p in field_problems(details)]
            raise SettingsError("The environment has settings that cannot be used.", problems) from None


def variable_of(field: str) -> str:
    """`HF_TOKEN` for `hub_token`, `FITPROOF_PORT` for `port`."""
    info = Settings.model_fields.get(field)
    alias = info.validation_alias if info else None
    if isinstance(alias, AliasChoices):
        return str(alias.choices[-1])
    return field if field.startswith(("HF_", PREFIX)) else PREFIX + field.upper()


def unknown_variables() -> list[str]:
    """Names with our prefix that no setting reads: most likely typing mistakes, worth a warning."""
    known = {variable_of(field) for field in Settings.model_fields} | _READ_ELSEWHERE
    return sorted(name for name in os.environ if name.startswith(PREFIX) and name not in known)


def _without_input(message: str) -> str:
    return message.partition("; got ")[0]
