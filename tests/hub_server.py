"""A model hub on this machine: the API that `huggingface_hub` speaks, over HTTP, with the faults of real networks."""

from __future__ import annotations

import hashlib
import json
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

COMMIT = "0123456789abcdef0123456789abcdef01234567"
_CHUNK = 16 * 1024


@dataclass
class Faults:
    """What goes wrong, until it is used up or changed.

    `statuses` are answered first to questions ("api") and files ("file"); each of `drop_after` breaks one file off
    after so many bytes; `announce` adds to the size that is promised; `pause` are seconds between chunks of 16 KiB;
    `corrupt` flips a byte; `etag` is sent instead of the true one.
    """

    statuses: dict[str, list[int]] = field(default_factory=lambda: {"api": [], "file": []})
    drop_after: list[int] = field(default_factory=list)
    announce: int = 0
    pause: float = 0.0
    corrupt: bool = False
    etag: str = ""


class Hub:
    """The repositories by name, the faults, and what was asked: (method, path, Range).

    `sizes` are listed instead of the true ones, for files that nobody will download.
    """

    def __init__(self) -> None:
        self.repos: dict[str, dict[str, bytes]] = {}
        self.sizes: dict[str, dict[str, int]] = {}
        self.gated: set[str] = set()
        self.faults = Faults()
        self.asked: list[tuple[str, str, str]] = []
        self.url = ""

    def put(self, repo: str, folder: Path, **more: bytes) -> None:
        """Publish the files of `folder`, and `more` by name with "__" for "." and "/" kept."""
        files = {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}
        self.repos[repo] = files | {name.replace("__", "."): content for name, content in more.items()}

    def file_requests(self, name: str) -> list[str]:
        """The Range of each GET for a file's content; "" for all of it."""
        return [range_ for method, path, range_ in self.asked if method == "GET" and path.endswith("/cdn/" + name)]

    def environment(self, cache: Path) -> dict[str, str]:
        """What makes the Hub's library talk to this one only."""
        return {
            "HF_ENDPOINT": self.url,
            "HF_HUB_OFFLINE": "0",
            "HF_HOME": str(cache.parent),
            "HF_HUB_CACHE": str(cache),
        }


@contextmanager
def serve_hub() -> Iterator[Hub]:
    """A hub at `hub.url` for as long as the block lasts."""
    hub = Hub()

    class Handler(_Handler):
        served = hub

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    hub.url = f"http://127.0.0.1:{server.server_port}"
    threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()
    try:
        yield hub
    finally:
        server.shutdown()
        server.server_close()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    served: Hub

    def do_GET(self) -> None:
        self._answer()

    def do_HEAD(self) -> None:
        self._answer()

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002
        pass

    def _answer(self) -> None:
        path = unquote(urlsplit(self.path).path).lstrip("/")
        self.served.asked.append((self.command, path, self.headers.get("Range", "")))
        kind = "api" if path.startswith("api/") else "file"
        if statuses := self.served.faults.statuses[kind]:
            self._refuse(statuses.pop(0), "")
        elif kind == "api":
            self._describe(path)
        else:
            owner, name, verb, rest = path.split("/", 3)
            self._give(f"{owner}/{name}", verb, rest)

    def _describe(self, path: str) -> None:
        parts = path.split("/")
        repo, revision = "/".join(parts[2:4]), "/".join(parts[5:]) or "main"
        if repo not in self.served.repos:
            self._refuse(404, "RepoNotFound")
        elif revision not in ("main", COMMIT):
            self._refuse(404, "RevisionNotFound")
        else:
            files = self.served.repos[repo]
            sizes = {name: len(content) for name, content in files.items()} | self.served.sizes.get(repo, {})
            siblings = [{"rfilename": name, "size": size} for name, size in sizes.items()]
            body = json.dumps({"id": repo, "sha": COMMIT, "siblings": siblings, "tags": []}).encode()
            self._send(200, body, {"Content-Type": "application/json"})

    def _give(self, repo: str, verb: str, rest: str) -> None:
        """`/resolve/COMMIT/FILE` gives small files itself and sends to `/cdn/FILE` for large ones, as the Hub does."""
        name = rest.partition("/")[2] if verb == "resolve" else rest
        if repo in self.served.gated:
            self._refuse(403, "GatedRepo")
        elif (content := self.served.repos.get(repo, {}).get(name)) is None:
            self._refuse(404, "EntryNotFound")
        else:
            large = name.endswith(".safetensors")
            etag = self.served.faults.etag or (hashlib.sha256 if large else hashlib.sha1)(content).hexdigest()
            size = len(content) + self.served.faults.announce * large
            headers = {"ETag": f'"{etag}"', "X-Repo-Commit": COMMIT, "Accept-Ranges": "bytes"}
            if large and verb == "resolve":
                address = f"{self.served.url.replace('127.0.0.1', 'localhost')}/{repo}/cdn/{name}"  # another host
                linked = {"X-Linked-Size": str(size), "X-Linked-Etag": f'"{etag}"', "Location": address}
                self._send(302, b"", headers | linked)
            else:
                self._stream(content, headers)

    def _stream(self, content: bytes, headers: dict[str, str]) -> None:
        faults, first, status = self.served.faults, 0, 200
        if asked := self.headers.get("Range"):
            first, status = int(asked.removeprefix("bytes=").partition("-")[0]), 206
            headers["Content-Range"] = f"bytes {first}-{len(content) - 1}/{len(content)}"
            if first >= len(content):
                self._refuse(416, "")
                return
        body = content[first:]
        if faults.corrupt:
            body = body[:-1] + bytes([body[-1] ^ 1])
        large = "cdn" in self.path
        limit = faults.drop_after.pop(0) if large and faults.drop_after and self.command == "GET" else len(body)
        self._send(status, body[:limit], headers, length=len(body), pause=faults.pause * large)
        if limit < len(body):
            self.close_connection = True

    def _refuse(self, status: int, code: str) -> None:
        headers = {"X-Error-Code": code} if code else {}
        self._send(status, b"", headers | ({"Retry-After": "0"} if status == 429 else {}))

    def _send(
        self, status: int, body: bytes, headers: dict[str, str], length: int | None = None, pause: float = 0.0
    ) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body) if length is None else length))
        self.end_headers()
        if self.command == "HEAD":
            return
        try:
            for start in range(0, len(body), _CHUNK):
                self.wfile.write(body[start : start + _CHUNK])
                self.wfile.flush()
                time.sleep(pause)
        except OSError:  # the one who asked has gone
            self.close_connection = True
