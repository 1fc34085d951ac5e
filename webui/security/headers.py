"""What a browser is told not to do with our answers."""

from __future__ import annotations

import base64
import hashlib
import re
import secrets
from typing import Final

_SCRIPT_TAG: Final = re.compile(rb"<script(?=[\s>])")
_BODY_OF_SCRIPT: Final = re.compile(r"<script>(.*?)</script>", re.DOTALL)
ALWAYS: Final = (
    ("X-Content-Type-Options", "nosniff"),
    ("X-Frame-Options", "DENY"),
    ("Referrer-Policy", "same-origin"),
    ("Cross-Origin-Opener-Policy", "same-origin"),
    ("Cross-Origin-Resource-Policy", "same-origin"),
    (
        "Permissions-Policy",
        "camera=(self), clipboard-read=(self), clipboard-write=(self), geolocation=(), microphone=()",
    ),
)
FILE_POLICY: Final = (
    "default-src 'none'; style-src 'unsafe-inline'; img-src 'self' data:; sandbox; frame-ancestors 'none'"
)
"""For everything that is not the page: a picture with a script in it shows, and does nothing."""


def script_hashes(head: str) -> tuple[str, ...]:
    """The sources that let the scripts in `head` run: Gradio puts them into the page by a script of its own."""
    return tuple(_hash(script) for script in _BODY_OF_SCRIPT.findall(head))


def new_nonce() -> str:
    """A word that scripts of one answer carry, and nothing that is put into the page later can know."""
    return secrets.token_urlsafe(16)


def with_nonce(page: bytes, nonce: str) -> bytes:
    """The page with the nonce in its script tags."""
    return _SCRIPT_TAG.sub(b'<script nonce="%s"' % nonce.encode(), page)


def page_policy(nonce: str, hashes: tuple[str, ...]) -> str:
    """The Content-Security-Policy of the page.

    Inline scripts run with the nonce or a known hash only, so that markup which slips into the page stays markup: an
    `onerror` in it is not run. Gradio compiles the scripts of its events, which needs 'unsafe-eval', and styles its
    components inline.
    """
    scripts = " ".join(f"'{source}'" for source in (f"nonce-{nonce}", *hashes))
    return "; ".join(
        (
            "default-src 'self'",
            f"script-src 'self' {scripts} 'unsafe-eval'",
            "style-src 'self' 'unsafe-inline'",
            "img-src 'self' data: blob:",
            "media-src 'self' data: blob:",
            "font-src 'self' data:",
            "connect-src 'self' data: blob:",
            "worker-src 'self' blob:",
            "frame-src 'none'",
            "object-src 'none'",
            "base-uri 'self'",
            "form-action 'self'",
            "frame-ancestors 'none'",
        )
    )


def _hash(script: str) -> str:
    return "sha256-" + base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
