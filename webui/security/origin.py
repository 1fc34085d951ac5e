"""Whether a request comes from our own page, or from another web site that makes a browser send it."""

from __future__ import annotations

import ipaddress
from typing import Final
from urllib.parse import urlsplit

from starlette.requests import Request

_READS: Final = frozenset({"GET", "HEAD", "OPTIONS"})


def is_from_here(request: Request, *, remote: bool, host: str) -> bool:
    """False for a rebound DNS name (on this machine alone), and for what another web site sends or embeds.

    A link from elsewhere may open the page: it only looks. Browsers say where a request comes from in
    `Sec-Fetch-Site`, where the page is safe (https or this machine), and in the `Origin` of everything that is not a
    plain look. Programs send neither.
    """
    headers = request.headers
    named = headers.get("host", "")
    if not remote and not _is_this_machine(named, host.strip("[]").lower()):
        return False
    site = headers.get("sec-fetch-site")
    if site in ("cross-site", "same-site"):
        opened = headers.get("sec-fetch-mode") == "navigate" and headers.get("sec-fetch-dest", "document") == "document"
        return opened and request.method in _READS
    if request.method in _READS or site == "same-origin":
        return True
    origin = headers.get("origin")
    # A proxy that renames the host says so; a web page cannot set this header without being asked about it first.
    known = {named.lower(), headers.get("x-forwarded-host", named).lower()}
    return origin is None or urlsplit(origin).netloc.lower() in known


def _is_this_machine(named: str, host: str) -> bool:
    try:
        name = urlsplit(f"//{named}").hostname or ""
        return name in ("localhost", host) or ipaddress.ip_address(name).is_loopback
    except ValueError:  # neither a name that we answer to nor an address
        return False
