"""Adds to every answer what a browser must be told, and to the page the nonce of its scripts."""

from __future__ import annotations

from typing import Final

from starlette.datastructures import MutableHeaders
from starlette.types import Message, Send

from webui.security.headers import ALWAYS, FILE_POLICY, new_nonce, page_policy, with_nonce

_SCRIPTS_AND_STYLES: Final = ("/assets/", "/static/", "/svelte/", "/gradio_api/custom_component/")


class GuardedAnswer:
    """A `send` for one request to `path`; `hashes` are those of the page's own inline scripts."""

    def __init__(self, send: Send, path: str, hashes: tuple[str, ...]) -> None:
        self.started = False
        self._send = send
        self._path = path
        self._hashes = hashes
        self._nonce = new_nonce()
        self._held: tuple[Message, bytearray] | None = None

    async def __call__(self, message: Message) -> None:
        """Send one part of the answer; the page is held back until it is whole, for its length changes."""
        if message["type"] == "http.response.start":
            self.started = True
            if self._add_headers(message):
                self._held = (message, bytearray())
                return
        elif self._held is not None and message["type"] == "http.response.body":
            await self._collect(message)
            return
        await self._send(message)

    def _add_headers(self, message: Message) -> bool:
        """Whether it is the page."""
        headers = MutableHeaders(scope=message)
        for name, value in ALWAYS:
            headers[name] = value
        is_page = headers.get("content-type", "").startswith("text/html") and self._path in ("/", "/login")
        if is_page:
            headers["Content-Security-Policy"] = page_policy(self._nonce, self._hashes)
            headers.setdefault("Cache-Control", "no-store")
        elif not self._path.startswith(_SCRIPTS_AND_STYLES):
            headers["Content-Security-Policy"] = FILE_POLICY
        return is_page

    async def _collect(self, message: Message) -> None:
        assert self._held is not None  # noqa: S101 - the caller has looked
        start, page = self._held
        page += message.get("body", b"")
        if message.get("more_body", False):
            return
        whole = with_nonce(bytes(page), self._nonce)
        headers = MutableHeaders(scope=start)
        if "content-length" in headers and page:  # the answer to HEAD has a length and no body
            headers["content-length"] = str(len(whole))
        self._held = None
        await self._send(start)
        await self._send({"type": "http.response.body", "body": whole})
