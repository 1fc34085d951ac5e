"""What the owner of this machine decides: folders, address, limits. File < environment < flags; read once, passed on.

`Settings(...)` reads nothing by itself, so that tests and notebooks get what they ask for; `load_settings` gathers the
three sources. Neither torch nor gradio is imported here.
"""

from __future__ import annotations

import ipaddress
import tomllib
from collections.abc import Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, Final

import platformdirs
from pydantic import Field, SecretStr, ValidationError, ValidationInfo, field_validator
from pydantic_settings import (
    BaseSettings,
    EnvSettingsSource,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
    SettingsError,
)
from typing_extensions import override

from webui.clip.limits import ScoreLimits
from webui.diffusion.request import GenerateLimits
from webui.errors import UserError
from webui.i18n import Language

APP_NAME: Final = "diffuscope"
CONFIG_NAME: Final = "config.toml"
ENV_PREFIX: Final = "DIFFUSCOPE_"
_PATH_FIELDS: Final = ("data_dir", "models_dir", "outputs_dir", "auth_file")
_REMOTE_MAX_PIXELS: Final = 768 * 768


def default_data_dir() -> Path:
    """Where pictures, checkpoints and `config.toml` live unless told otherwise.

    In a checkout that is the checkout itself, so that `outputs/` and `models/` lie beside `webui.sh`; for an installed
    package it is the user's data folder of this platform.
    """
    checkout = checkout_dir()
    return checkout if checkout is not None else Path(platformdirs.user_data_dir(APP_NAME, appauthor=False))


def bundled_models_dir() -> Path:
    """The folder with the models that ship with the project (`emoji/`): in the checkout, or inside the package."""
    checkout = checkout_dir()
    return checkout / "models" if checkout is not None else Path(__file__).parent / "bundled"


def bundled_extensions_dir() -> Path:
    """The folder with the extensions that ship with the project: in the checkout, or inside the package."""
    checkout = checkout_dir()
    return checkout / "extensions" if checkout is not None else Path(__file__).parent / "bundled_extensions"


def checkout_dir() -> Path | None:
    """The checkout that this code runs from, or None when it was installed as a package."""
    root = Path(__file__).parent.parent
    return root if (root / "pyproject.toml").is_file() and (root / "webui.sh").is_file() else None


def _is_remote(data: Mapping[str, Any]) -> bool:
    return bool(data.get("share") or data.get("share_server")) or not _is_loopback(str(data.get("host", "127.0.0.1")))


def _is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:  # a host name: whoever it resolves to may be anyone
        return False


def _default_limits(data: Mapping[str, Any]) -> GenerateLimits:
    limits = GenerateLimits()
    if _is_remote(data):
        return replace(limits, max_side=1024, max_pixels=_REMOTE_MAX_PIXELS, max_batch_size=4, max_batch_count=4)
    return limits


def _default_score_limits(data: Mapping[str, Any]) -> ScoreLimits:
    limits = ScoreLimits()
    if _is_remote(data):
        return replace(limits, max_pictures=100, max_texts=100, max_labels=1000, max_picture_pixels=40_000_000)
    return limits


class Settings(BaseSettings):
    """Everything that can be set, checked and frozen.

    `memory_budget_gb` bounds what loaded models may take together (None: decided from the free memory);
    `idle_unload_minutes` is how long an unused model stays (0: for ever). `language` None follows the reader: the
    browser's language on the page, LANG on the command line. Remote mode starts from lower limits; what the owner sets
    by name holds in both. `index_outputs` puts generated pictures into the search index as they are made. A shared page
    asks for the logins in `auth_file`, else for the one login; `calls_per_minute` is for each visitor (0: no limit);
    `metrics` says whether there is `/metrics`, on this machine alone unless asked for.
    `safe_mode` starts without any extension. `max_waiting_users` may each let one job wait; further ones, up to
    `max_waiting_jobs_per_user`, are taken while fewer than `max_waiting_jobs` wait in all.
    """

    model_config = SettingsConfigDict(frozen=True, extra="forbid", env_prefix=ENV_PREFIX, env_nested_delimiter="__")

    data_dir: Path = Field(default_factory=default_data_dir)
    models_dir: Path = Field(default_factory=lambda data: data["data_dir"] / "models")
    outputs_dir: Path = Field(default_factory=lambda data: data["data_dir"] / "outputs")

    host: str = Field(default="127.0.0.1", min_length=1)
    port: int = Field(default=7860, ge=0, le=65535)
    share: bool = False
    share_server: str | None = Field(default=None, pattern=r"^[A-Za-z0-9.-]+:[0-9]{1,5}$")
    login_name: str = Field(default=APP_NAME, min_length=1)
    login_password: SecretStr | None = None
    auth_file: Path | None = None
    language: Language | None = None

    memory_budget_gb: float | None = Field(default=None, gt=0)
    idle_unload_minutes: float = Field(default=30.0, ge=0)

    limits: GenerateLimits = Field(default_factory=_default_limits)
    score_limits: ScoreLimits = Field(default_factory=_default_score_limits)
    max_upload_mb: int = Field(default_factory=lambda data: 16 if _is_remote(data) else 64, ge=1)
    index_outputs: bool = True
    safe_mode: bool = False
    max_waiting_jobs: int = Field(default_factory=lambda data: 16 if _is_remote(data) else 64, ge=1)
    max_waiting_users: int = Field(default=128, ge=1)
    max_waiting_jobs_per_user: int = Field(default_factory=lambda data: 4 if _is_remote(data) else 64, ge=1)
    metrics: bool = Field(default_factory=lambda data: not _is_remote(data))
    calls_per_minute: int = Field(default_factory=lambda data: 600 if _is_remote(data) else 0, ge=0)

    @property
    def wants_link(self) -> bool:
        """Whether a public link is to be made; naming a server for it asks for it."""
        return self.share or self.share_server is not None

    @property
    def remote(self) -> bool:
        """Whether other machines can reach the page: then it wants a login and refuses the owner's tools."""
        return _is_remote({"share": self.wants_link, "host": self.host})

    @override
    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Only what the caller passes; `load_settings` merges the environment and the file, to name the culprit."""
        return (init_settings,)

    @field_validator(*_PATH_FIELDS)
    @classmethod
    def _absolute(cls, path: Path | None) -> Path | None:
        return None if path is None else path.expanduser().absolute()

    @field_validator("limits", mode="before")
    @classmethod
    def _complete_limits(cls, limits: object, info: ValidationInfo) -> object:
        if isinstance(limits, Mapping):
            return asdict(_default_limits(info.data)) | dict(limits)
        return limits

    @field_validator("score_limits", mode="before")
    @classmethod
    def _complete_score_limits(cls, limits: object, info: ValidationInfo) -> object:
        if isinstance(limits, Mapping):
            return asdict(_default_score_limits(info.data)) | dict(limits)
        return limits


def load_settings(config: Path | None = None, **flags: object) -> Settings:
    """Gather settings from the TOML file, then `DIFFUSCOPE_*` variables, then `flags` (None: not given).

    The file is `config`, else `config.toml` in the data folder if there is one. Nested keys are tables in the file and
    double underscores in the environment (`DIFFUSCOPE_LIMITS__MAX_STEPS=50`). Raises UserError that names the file,
    variable or flag and the key.
    """
    given = {name: value for name, value in flags.items() if value is not None}
    environment = _read_environment()
    path = config.expanduser() if config is not None else _config_in_data_dir(given, environment)
    file = _read_config(path) if path is not None else {}
    merged = _merged(_merged(file, environment), given)
    try:
        return Settings(**merged)
    except ValidationError as error:
        problem = error.errors(include_url=False)[0]
        location = tuple(str(part) for part in problem["loc"])
        source = _source_of(location, given, environment, path)
        raise UserError("error.bad_setting", key=".".join(location), source=source, reason=problem["msg"]) from error


def _read_environment() -> dict[str, Any]:
    try:
        return EnvSettingsSource(Settings)()
    except SettingsError as error:  # a nested value that is not JSON
        raise UserError("error.bad_environment", reason=str(error)) from error


def _config_in_data_dir(given: Mapping[str, Any], environment: Mapping[str, Any]) -> Path | None:
    data_dir = given.get("data_dir") or environment.get("data_dir") or default_data_dir()
    path = Path(data_dir).expanduser() / CONFIG_NAME
    return path if path.is_file() else None


def _read_config(path: Path) -> dict[str, Any]:
    """The file's values; relative folders in it are meant from where it lies."""
    try:
        values = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise UserError("error.config_unreadable", path=str(path), reason=error.strerror or str(error)) from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise UserError("error.config_not_toml", path=str(path), reason=str(error)) from error
    for name in _PATH_FIELDS:
        if isinstance(folder := values.get(name), str):
            values[name] = path.absolute().parent / Path(folder).expanduser()
    return values


def _merged(below: Mapping[str, Any], above: Mapping[str, Any]) -> dict[str, Any]:
    result: dict[str, Any] = dict(below)
    for key, value in above.items():
        beneath: Any = result.get(key)
        both_tables = isinstance(beneath, Mapping) and isinstance(value, Mapping)
        result[key] = _merged(beneath, value) if both_tables else value
    return result


def _source_of(
    location: tuple[str, ...], given: Mapping[str, Any], environment: Mapping[str, Any], path: Path | None
) -> str:
    if _holds(given, location):
        return "--" + location[0].replace("_", "-")
    if _holds(environment, location) or path is None:
        return ENV_PREFIX + "__".join(location).upper()
    return str(path)


def _holds(values: Mapping[str, Any], location: tuple[str, ...]) -> bool:
    current: object = values
    for part in location:
        if not isinstance(current, Mapping):
            return True  # the error lies inside a value that this source gave whole
        if part not in current:
            return False
        current = current[part]
    return True
