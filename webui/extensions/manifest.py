"""What an extension says of itself before any of its code runs: `extension.toml`."""

from __future__ import annotations

import importlib.metadata
import shlex
import sys
import tomllib
from pathlib import Path
from typing import Annotated, Final

from packaging.requirements import InvalidRequirement, Requirement
from pydantic import BaseModel, ConfigDict, Field, StringConstraints, ValidationError, field_validator

from webui.errors import UserError
from webui.i18n import Language

API_VERSION: Final = 1
"""The newest version of `ExtensionAPI` that there is."""
MANIFEST_NAME: Final = "extension.toml"
ENTRY_NAME: Final = "extension.py"
_MAX_BYTES: Final = 64 * 1024

Id = Annotated[str, StringConstraints(pattern=r"^[a-z][a-z0-9_]{1,39}$")]
Line = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1, max_length=200, pattern=r"^[^\r\n]*$")]


class _Table(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)


class BothLanguages(_Table):
    """The same words in English and Thai."""

    en: Line
    th: Line

    def text(self, language: Language) -> str:
        """In one of the two."""
        return self.en if language == "en" else self.th


class Needs(_Table):
    """Other extensions, by id, which load first, and Python packages ("scipy>=1.14")."""

    extensions: list[Id] = Field(default_factory=list, max_length=50)
    packages: list[Line] = Field(default_factory=list, max_length=50)

    @field_validator("packages")
    @classmethod
    def _requirements(cls, packages: list[str]) -> list[str]:
        for package in packages:
            try:
                Requirement(package)
            except InvalidRequirement as error:
                raise ValueError(f"{package!r} is no requirement: {error}") from error
        return packages


class Manifest(_Table):
    """`api` is the version of `ExtensionAPI` that the extension was written for."""

    id: Id
    title: BothLanguages
    version: Line
    api: Annotated[int, Field(ge=1)]
    about: BothLanguages | None = None
    needs: Needs = Field(default_factory=Needs)


def read_manifest(path: Path) -> Manifest:
    """Read and check one; raises UserError that names what to correct."""
    try:
        with path.open("rb") as file:
            content = file.read(_MAX_BYTES + 1)
        if len(content) > _MAX_BYTES:
            raise UserError("error.extension_manifest", path=str(path), reason=f"> {_MAX_BYTES} bytes")
        return Manifest.model_validate(tomllib.loads(content.decode("utf-8")))
    except ValidationError as error:
        problem = error.errors(include_url=False)[0]
        reason = f"{'.'.join(map(str, problem['loc']))}: {problem['msg']}"
        raise UserError("error.extension_manifest", path=str(path), reason=reason) from error
    except (OSError, ValueError, RecursionError) as error:  # TOMLDecodeError and UnicodeDecodeError are ValueErrors
        raise UserError(
            "error.extension_manifest", path=str(path), reason=str(error) or type(error).__name__
        ) from error


def missing_packages(needs: Needs) -> tuple[str, ...]:
    """Those of the needed packages that are not installed, or in another version; nothing is imported."""
    missing = []
    for package in needs.packages:
        requirement = Requirement(package)
        if requirement.marker is not None and not requirement.marker.evaluate():
            continue
        try:
            installed = importlib.metadata.version(requirement.name)
        except importlib.metadata.PackageNotFoundError:
            missing.append(package)
            continue
        if not requirement.specifier.contains(installed, prereleases=True):
            missing.append(package)
    return tuple(missing)


def install_command(packages: tuple[str, ...]) -> str:
    """What the owner types to get them; the program itself never installs anything."""
    return shlex.join([sys.executable, "-m", "pip", "install", *packages])
