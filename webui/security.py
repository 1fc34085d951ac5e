"""Who may use the page: requests from other web sites are refused locally, and remote mode asks for a login."""

from __future__ import annotations

import hmac
import ipaddress
import secrets
from dataclasses import dataclass
from typing import Final
from urllib.parse import urlsplit

from starlette.datastructures import Headers
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Receive, Scope, Send

from webui.settings import Settings

_SAFE_METHODS: Final = frozenset({"GET", "HEAD", "OPTIONS"})


@dataclass(frozen=True, slots=True)
class Login:
    """The one login of remote mode; `made_up` says that the owner has not seen the password yet."""

    name: str
    password: str
    made_up: bool

    def check(self, name: str, password: str) -> bool:
        """Whether they are right, in a time that does not tell how nearly."""
        same_name = hmac.compare_digest(name.encode("utf-8", "replace"), self.name.encode())
        same_password = hmac.compare_digest(password.encode("utf-8", "replace"), self.password.encode())
        return same_name and same_password


def login_for(settings: Settings) -> Login | None:
    """The login that these settings require: none on this machine alone; a password is made up when none is given."""
    if not settings.remote:
        return None
    if settings.login_password is not None:
        return Login(settings.login_name, settings.login_password.get_secret_value(), made_up=False)
    return Login(settings.login_name, secrets.token_urlsafe(12), made_up=True)


class LocalOnlyMiddleware:
    """Refuses what another web site makes a browser send here (ASGI; for local mode, where there is no login).

    A `Host` that is not this machine's is a rebound DNS name; a foreign `Origin`, or "cross-site" in `Sec-Fetch-Site`,
    on anything but a plain look is a drive-by. Both get 403.
    """

    def __init__(self, app: ASGIApp, host: str) -> None:
        self._app = app
        self._host = host.strip("[]").lower()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on, or refuse it."""
        if scope["type"] not in ("http", "websocket") or self._is_welcome(scope):
            await self._app(scope, receive, send)
            return
        await PlainTextResponse("This page answers its own machine only.", 403)(scope, receive, send)

    def _is_welcome(self, scope: Scope) -> bool:
        headers = Headers(scope=scope)
        host = headers.get("host", "")
        if not self._is_this_machine(host):
            return False
        if scope.get("method") in _SAFE_METHODS:
            return True
        origin = headers.get("origin")
        if origin is not None and urlsplit(origin).netloc.lower() != host.lower():
            return False
        return headers.get("sec-fetch-site") != "cross-site"

    def _is_this_machine(self, host: str) -> bool:
        try:
            name = urlsplit(f"//{host}").hostname or ""
            return name in ("localhost", self._host) or ipaddress.ip_address(name).is_loopback
        except ValueError:  # neither a name that we answer to nor an address
            return False
