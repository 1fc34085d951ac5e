"""The one door: every request, to the page, to Gradio's own routes and to the REST API, passes here first (ASGI)."""

from __future__ import annotations

import base64
import binascii
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final
from urllib.parse import parse_qs

from starlette.concurrency import run_in_threadpool
from starlette.requests import ClientDisconnect, Request
from starlette.responses import HTMLResponse, JSONResponse, PlainTextResponse, RedirectResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from webui.errors import UserError
from webui.i18n import Language, Messages, accepted_language
from webui.security.answer import GuardedAnswer
from webui.security.headers import script_hashes
from webui.security.logins import Logins, logins_for
from webui.security.origin import is_from_here
from webui.security.payload import check_files, lies_in, read_json_object
from webui.security.routes import FILE, GRADIO, HEARTBEAT, PUBLIC, UPLOAD, is_there
from webui.security.visitors import LOGIN_SECONDS, Visitor, Visitors
from webui.settings import Settings
from webui.views.login import render_login

VISITOR: Final = "diffuscope.visitor"
"""Where the scope of an admitted request holds its Visitor; there is none on this machine alone."""

FILES_AT_ONCE: Final = 8
"""An upload may hold so many files of the largest size."""

_MAX_ADDRESS: Final = 16 * 1024
_MAX_HEADER_BYTES: Final = 32 * 1024
_MAX_HEADERS: Final = 100
_MAX_LOGIN_BYTES: Final = 8 * 1024
_READS: Final = frozenset({"GET", "HEAD", "OPTIONS"})
_NEEDS_SESSION: Final = tuple(GRADIO + call for call in ("cancel", "component_server", "queue/join", "run/"))
_PROGRAMS: Final = ("/api/v1/", "/metrics")
"""What programs call, with the login in each request (HTTP Basic). A browser would send it from any web site."""
_STATUS: Final = {
    "error.not_logged_in": 401,
    "error.other_site": 403,
    "error.foreign_file": 403,
    "error.foreign_session": 403,
    "error.no_such_route": 404,
    "error.address_too_long": 414,
    "error.headers_too_large": 431,
    "error.upload_too_large": 413,
    "error.too_many_calls": 429,
    "error.too_many_logins": 429,
}


@dataclass(frozen=True, slots=True)
class Guard:
    """What the gate knows: the settings, who may log in (None: nobody needs to), and what the page's head holds."""

    settings: Settings
    messages: Messages
    logins: Logins | None
    visitors: Visitors
    uploads: Path
    pictures: str
    page_scripts: tuple[str, ...] = ()
    cookie: str = field(default="diffuscope-login")

    @property
    def file_folders(self) -> tuple[Path, ...]:
        """Where a served or a named file may lie; what others have drawn is nobody's business on a shared page."""
        return (self.uploads,) if self.settings.remote else (self.uploads, self.settings.outputs_dir)


def guard_for(settings: Settings, messages: Messages, *, uploads: Path, pictures: str, head: str) -> Guard:
    """The guard that the settings require. Raises UserError when the file of logins cannot be used."""
    return Guard(
        settings,
        messages,
        logins_for(settings),
        Visitors(settings.calls_per_minute),
        uploads,
        pictures,
        script_hashes(head),
        f"diffuscope-login-{settings.port}",
    )


class Gate:
    """Lets a request through to `app`, or answers in one sentence why not."""

    def __init__(self, app: ASGIApp, guard: Guard) -> None:
        self._app = app
        self._guard = guard

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on, or refuse it."""
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
            return
        if scope["type"] != "http":  # nothing here speaks over web sockets
            await PlainTextResponse("There is nothing here.", 403)(scope, receive, send)
            return
        answer = GuardedAnswer(send, scope["path"], self._guard.page_scripts)
        request = Request(scope, receive)
        try:
            await self._pass_on(request, answer)
        except UserError as error:
            if answer.started:
                raise
            await self._refusal(request, error)(scope, receive, answer)
        except ClientDisconnect:
            return

    async def _pass_on(self, request: Request, answer: GuardedAnswer) -> None:
        guard, scope, path = self._guard, request.scope, request.url.path
        _check_size(request)
        if not is_from_here(request, remote=guard.settings.remote, host=guard.settings.host):
            raise UserError("error.other_site")
        if not is_there(path, guard.pictures) or "deep_link" in request.query_params:
            raise UserError("error.no_such_route")
        if path in ("/login", "/logout"):
            await (await self._log_in_or_out(request))(scope, request.receive, answer)
            return
        visitor = await self._visitor(request)
        if visitor is None and guard.logins is not None and path not in PUBLIC:
            raise UserError("error.not_logged_in")
        if visitor is not None:
            self._check_visitor(request, visitor)
            scope[VISITOR] = visitor
        if path.startswith(FILE) and not lies_in(_absolute(path.removeprefix(FILE)), guard.file_folders):
            raise UserError("error.foreign_file")
        receive = _bounded(request.receive, guard.settings.max_upload_mb * FILES_AT_ONCE << 20)
        if request.method not in _READS and path.startswith(GRADIO) and path.rstrip("/") != UPLOAD:
            receive = self._checked_call(path, await _whole_body(receive), visitor, request.receive)
        await self._app(scope, receive, answer)

    async def _visitor(self, request: Request) -> Visitor | None:
        """Who asks, by the cookie of the login or, for programs, by HTTP Basic."""
        guard = self._guard
        if guard.logins is None:
            return None
        visitor = guard.visitors.of(request.cookies.get(guard.cookie, ""))
        if visitor is not None or not request.url.path.startswith(_PROGRAMS):
            return visitor
        name, password = _basic(request.headers.get("authorization", ""))
        right: bool = bool(name) and await run_in_threadpool(guard.logins.check, name, password, _address(request))
        return Visitor(name, f"{name}#api") if right else None

    def _check_visitor(self, request: Request, visitor: Visitor) -> None:
        """How often visitors may call, and that the open page that they name is theirs."""
        path, visitors = request.url.path, self._guard.visitors
        page = path.removeprefix(HEARTBEAT) if path.startswith(HEARTBEAT) else None
        named = [*request.query_params.getlist("session_hash"), *([page] if page is not None else [])]
        if request.method not in _READS or named:
            visitors.spend(visitor)
        if not all(visitors.claim(session, visitor) for session in named):
            raise UserError("error.foreign_session")

    def _checked_call(self, path: str, body: bytes, visitor: Visitor | None, more: Receive) -> Receive:
        """The body, to be received again; raises UserError when it names another's session or a foreign file."""
        values = read_json_object(body)
        check_files(values, self._guard.file_folders)
        session = values.get("session_hash")
        if visitor is not None and (session is not None or path.startswith(_NEEDS_SESSION)):
            mine = isinstance(session, str) and session and self._guard.visitors.claim(session, visitor)
            if not mine:
                raise UserError("error.foreign_session")
        return _again(body, more)

    async def _log_in_or_out(self, request: Request) -> Response:
        guard, language = self._guard, self._language(request)
        say = guard.messages.translator(language)
        if guard.logins is None:
            return RedirectResponse("/", 303)
        if request.url.path == "/logout":
            if request.method == "POST":
                guard.visitors.leave(request.cookies.get(guard.cookie, ""))
            away = RedirectResponse("/login", 303)
            away.delete_cookie(guard.cookie)
            return away
        if request.method != "POST":
            return HTMLResponse(render_login(say), headers={"Cache-Control": "no-store"})
        body = await _whole_body(_bounded(request.receive, _MAX_LOGIN_BYTES))
        said = parse_qs(body.decode("utf-8", "replace"), max_num_fields=8)
        name, password = (said.get(key, [""])[0] for key in ("username", "password"))
        try:
            right = await run_in_threadpool(guard.logins.check, name.strip(), password, _address(request))
        except UserError as error:
            return HTMLResponse(render_login(say, guard.messages.error(language, error)), _STATUS[error.key])
        if not right:
            return HTMLResponse(render_login(say, say.text("login.wrong")), 401)
        inside = RedirectResponse("/", 303)
        secure = "https" in (request.url.scheme, request.headers.get("x-forwarded-proto", ""))
        token = guard.visitors.enter(name.strip())
        inside.set_cookie(guard.cookie, token, int(LOGIN_SECONDS), secure=secure, httponly=True, samesite="lax")
        return inside

    def _refusal(self, request: Request, error: UserError) -> Response:
        status, headers = _STATUS.get(error.key, 400), {"Cache-Control": "no-store"}
        if status == 401 and request.method == "GET" and "text/html" in request.headers.get("accept", ""):
            return RedirectResponse("/login", 303)
        if status == 401 and request.url.path.startswith(_PROGRAMS):
            headers["WWW-Authenticate"] = 'Basic realm="Diffuscope"'
        if status == 429:
            headers["Retry-After"] = str(error.values.get("seconds", 10))
        if status in (413, 431):
            headers["Connection"] = "close"
        message = self._guard.messages.error(self._language(request), error)
        return JSONResponse({"error": {"key": error.key, "message": message}}, status, headers)

    def _language(self, request: Request) -> Language:
        wished = request.query_params.get("language", "") or request.headers.get("accept-language", "")
        return accepted_language(wished[:200], self._guard.settings.language or "en")


def _check_size(request: Request) -> None:
    headers = request.headers.raw
    if len(headers) > _MAX_HEADERS or sum(len(name) + len(value) for name, value in headers) > _MAX_HEADER_BYTES:
        raise UserError("error.headers_too_large")
    if len(request.scope.get("raw_path") or b"") + len(request.scope["query_string"]) > _MAX_ADDRESS:
        raise UserError("error.address_too_long")


def _absolute(path: str) -> str:
    """The path in an address after `file=`; Gradio takes a relative one from the folder that it was started in."""
    return path if "://" in path else str(Path(path).absolute())


def _basic(header: str) -> tuple[str, str]:
    scheme, _, credentials = header.partition(" ")
    try:
        name, _, password = base64.b64decode(credentials, validate=True).decode().partition(":")
    except (binascii.Error, UnicodeDecodeError):
        return "", ""
    return (name, password) if scheme.lower() == "basic" else ("", "")


def _address(request: Request) -> str:
    """Who connects. A tunnel or a proxy on this machine says whom it speaks for, last; nobody else is believed."""
    address = request.client.host if request.client is not None else ""
    told = request.headers.get("x-forwarded-for", "")
    return told.rpartition(",")[2].strip()[:64] if told and address in ("127.0.0.1", "::1") else address


def _bounded(receive: Receive, limit: int) -> Receive:
    """`receive` that raises UserError as soon as a body is longer than `limit` bytes, whatever its length was said."""
    received = 0

    async def next_part() -> Message:
        nonlocal received
        message = await receive()
        received += len(message.get("body", b""))
        if received > limit:
            raise UserError("error.upload_too_large", limit=limit >> 10)
        return message

    return next_part


async def _whole_body(receive: Receive) -> bytes:
    body = bytearray()
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise ClientDisconnect
        body += message.get("body", b"")
        if not message.get("more_body", False):
            return bytes(body)


def _again(body: bytes, more: Receive) -> Receive:
    """Gives a body that has been read; then whatever else comes, which is that the caller goes away."""
    waiting: list[dict[str, Any]] = [{"type": "http.request", "body": body, "more_body": False}]

    async def receive() -> Message:
        return waiting.pop() if waiting else await more()

    return receive
