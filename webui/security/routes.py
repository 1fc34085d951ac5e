"""Which of Gradio's routes there are here: those that the page uses. What is not named does not exist."""

from __future__ import annotations

import re
from typing import Final

GRADIO: Final = "/gradio_api/"
_PAGE: Final = frozenset({"/", "/config", "/theme.css", "/favicon.ico", "/manifest.json", "/robots.txt"})
_PAGE_FOLDERS: Final = ("/assets/", "/static/", "/svelte/", "/pwa_icon", "/api/v1/")
_CALLS: Final = frozenset(
    {
        "app_id",
        "cancel",
        "component_server",
        "info",
        "login_check",
        "queue/data",
        "queue/join",
        "queue/status",
        "reset",
        "startup-events",
        "theme.css",
        "upload",
        "upload_progress",
        "user",
    }
)
_CALL_FOLDERS: Final = ("custom_component/", "file=", "heartbeat/", "run/")
OURS: Final = frozenset({"/login", "/logout", "/healthz", "/readyz", "/metrics"})
PUBLIC: Final = frozenset(
    {"/login", "/healthz", "/readyz", "/favicon.ico", "/manifest.json", "/robots.txt", GRADIO + "startup-events"}
)
"""What needs no login: the login itself, and what tells nothing about anybody."""
FILE: Final = GRADIO + "file="
HEARTBEAT: Final = GRADIO + "heartbeat/"
UPLOAD: Final = GRADIO + "upload"
_ODD: Final = re.compile(r"[\x00-\x1f\x7f]")


def is_there(path: str, pictures: str) -> bool:
    """Whether a request to this path may go on. `pictures` is the folder of our own picture addresses.

    Gradio has many routes more: a proxy, a code editor, monitoring, links that keep a page's whole state. None of them
    is used here, and each would be another door.
    """
    if _ODD.search(path):
        return False
    plain = path.rstrip("/") or "/"
    if plain in _PAGE or plain in OURS or path.startswith((*_PAGE_FOLDERS, f"/{pictures}/")):
        return True
    call = path.removeprefix(GRADIO)
    return call != path and (call.rstrip("/") in _CALLS or call.startswith(_CALL_FOLDERS))
