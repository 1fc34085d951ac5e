"""The table of what only the owner may do. Remote mode is decided in `Settings.remote`; what follows from it, here."""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from types import MappingProxyType
from typing import Final

from webui.errors import UserError
from webui.settings import Settings


class Deed(StrEnum):
    """What the owner may do, and visitors of a shared page may not."""

    CHANGE_SETTINGS = "change_settings"
    DOWNLOAD_MODEL = "download_model"
    CHANGE_EXTENSIONS = "change_extensions"
    INDEX_FOLDERS = "index_folders"
    SEE_SERVER_PATHS = "see_server_paths"
    SEE_OTHERS_PICTURES = "see_others_pictures"


OWNER_ONLY: Final[Mapping[Deed, str]] = MappingProxyType(
    {
        Deed.CHANGE_SETTINGS: "sharing.not.change_settings",
        Deed.DOWNLOAD_MODEL: "sharing.not.download_model",
        Deed.CHANGE_EXTENSIONS: "sharing.not.change_extensions",
        Deed.INDEX_FOLDERS: "sharing.not.index_folders",
        Deed.SEE_SERVER_PATHS: "sharing.not.see_server_paths",
        Deed.SEE_OTHERS_PICTURES: "sharing.not.see_others_pictures",
    }
)
"""What remote mode forbids, and how the page says it."""


def may(settings: Settings, deed: Deed) -> bool:
    """Whether whoever reaches this page may do it: everybody on this machine alone, nobody when it is shared.

    A shared page cannot tell its owner from a visitor, so that the owner does these things on the command line, or on
    the page of a server that is not shared.
    """
    return not (settings.remote and deed in OWNER_ONLY)


def check(settings: Settings, deed: Deed) -> None:
    """Raise UserError unless they may."""
    if not may(settings, deed):
        raise UserError("error.owner_only")
