"""`python -m webui.runtime.hub_worker`: the one process that talks to the Hub, for as long as a download takes.

The program itself stays offline (HF_HUB_OFFLINE) all the time; this process is started for a question or a download,
and ends with it. It reads one JSON object from stdin and writes JSON lines to stdout: progress, then an answer or an
error as a message key with its values. When its parent dies, stdin closes and it ends too.

Requests, retries and the layout of the cache are `huggingface_hub`'s. Resuming after this process was killed is not:
the library deletes what it has begun, so a file is written here beside the cache's blobs and becomes one when whole.
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
import re
import sys
import threading
import time
import traceback
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Any, Final
from urllib.parse import urlsplit

from filelock import FileLock
from httpx2 import HTTPError
from huggingface_hub import HfApi, constants, get_hf_file_metadata, hf_hub_download, hf_hub_url
from huggingface_hub.errors import (
    FileMetadataError,
    GatedRepoError,
    HfHubHTTPError,
    LocalEntryNotFoundError,
    OfflineModeIsEnabled,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)
from huggingface_hub.file_download import http_get
from huggingface_hub.utils import build_hf_headers  # type: ignore[attr-defined]

from webui.runtime.hub_cache import PARTIAL_SUFFIX, storage_of

_TIMEOUT_SECONDS: Final = 20.0
_REPORT_SECONDS: Final = 0.2
_MAX_FAILURES: Final = 4
_MAX_CONFIG_BYTES: Final = 8 * 2**20
_SAFE_ETAG: Final = re.compile(r"[0-9A-Za-z_.-]{1,128}")
_SHA256: Final = re.compile(r"[0-9a-f]{64}")
_CHUNK_BYTES: Final = 64 * 1024
"""What is written at once. The library's 10 MiB would be lost when a connection breaks, and seem to stand still."""

_KEYS: Final[tuple[tuple[type[Exception], str], ...]] = (
    (OfflineModeIsEnabled, "error.hub_offline_wanted"),
    (GatedRepoError, "error.hub_gated"),
    (RevisionNotFoundError, "error.hub_no_revision"),
    (RepositoryNotFoundError, "error.hub_not_found"),
)
_STATUS_KEYS: Final = {429: "error.hub_busy", 401: "error.hub_refused", 403: "error.hub_refused"}
_FULL: Final = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


class _FaultyFile(Exception):  # noqa: N818 - it is what was received
    """The Hub has sent something else than it announced; `key` and `values` say what."""

    def __init__(self, key: str, **values: object) -> None:
        super().__init__(key)
        self.key, self.values = key, values


def main() -> None:
    """Answer the one request on stdin."""
    request = json.loads(sys.stdin.readline())
    constants.DOWNLOAD_CHUNK_SIZE = _CHUNK_BYTES
    threading.Thread(target=_end_with_parent, daemon=True).start()
    try:
        answer = _look(request) if request["do"] == "look" else _fetch(request)
    except Exception as error:  # noqa: BLE001 - whatever it is, the parent says it
        answer = _explained(error, request)
    _send(answer)


def _end_with_parent() -> None:
    sys.stdin.read()
    os._exit(1)


def _send(message: Mapping[str, object]) -> None:
    sys.stdout.write(json.dumps(message) + "\n")
    sys.stdout.flush()


def _look(request: Mapping[str, Any]) -> dict[str, object]:
    """The commit, the files with their sizes, and the small files that say what kind of model it is."""
    repo, cache = request["repo"], request["cache"]
    info = _patiently(
        lambda: HfApi().model_info(repo, revision=request["revision"], files_metadata=True, timeout=_TIMEOUT_SECONDS),
        request["pause"],
    )
    files = {sibling.rfilename: sibling.size or 0 for sibling in info.siblings or ()}
    answer: dict[str, object] = {"commit": info.sha, "files": files}
    for key, name in (("index", "model_index.json"), ("config", "config.json")):
        answer[key] = None
        if 0 < files.get(name, 0) <= _MAX_CONFIG_BYTES and not answer.get("index"):
            path = hf_hub_download(repo, name, revision=info.sha, cache_dir=cache, tqdm_class=_Quiet)
            answer[key] = json.loads(Path(path).read_text(encoding="utf-8"))
    return answer


def _fetch(request: Mapping[str, Any]) -> dict[str, object]:
    """Download the files, one after the other; what is whole already is not asked for again."""
    storage = storage_of(Path(request["cache"]), request["repo"])
    folder = storage / "snapshots" / request["commit"]
    for file in request["files"]:
        if not (folder / file["name"]).exists():
            _fetch_file(request, storage, file["name"], file["size"])
        _send({"file": file["name"], "done": file["size"]})
    if request["revision"] != request["commit"]:
        ref = storage / "refs" / request["revision"]
        ref.parent.mkdir(parents=True, exist_ok=True)
        ref.write_text(request["commit"], encoding="ascii")
    return {"folder": str(folder)}


def _fetch_file(request: Mapping[str, Any], storage: Path, name: str, announced: int) -> None:
    url = hf_hub_url(request["repo"], name, revision=request["commit"])
    metadata = get_hf_file_metadata(url, retry_on_errors=True, timeout=_TIMEOUT_SECONDS)
    etag, size = metadata.etag or "", announced if metadata.size is None else metadata.size
    if not _SAFE_ETAG.fullmatch(etag) or etag.strip(".") == "":
        raise FileMetadataError(f"{url} has no usable ETag")
    blob = storage / "blobs" / etag
    blob.parent.mkdir(parents=True, exist_ok=True)
    if not blob.exists():
        lock = Path(request["cache"]) / ".locks" / storage.name / f"{etag}{PARTIAL_SUFFIX}.lock"
        lock.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(lock):
            part = blob.with_name(etag + PARTIAL_SUFFIX)
            _fill(part, url, name, size, request["pause"])
            if _SHA256.fullmatch(etag) and _sha256_of(part) != etag:
                part.unlink()
                raise _FaultyFile("error.hub_wrong_content", file=name)
            part.replace(blob)
    hf_hub_download(request["repo"], name, revision=request["commit"], cache_dir=request["cache"], tqdm_class=_Quiet)


def _fill(part: Path, url: str, name: str, size: int, pause: float) -> None:
    """Download into `part` from where it ends until it has `size` bytes; a fault is tried again while bytes come."""
    failures = 0
    while True:
        before = part.stat().st_size if part.exists() else 0
        if before > size:
            part.unlink()
            before = 0
        try:
            with part.open("ab") as stream:
                http_get(
                    url, stream, resume_size=before, headers=build_hf_headers(), expected_size=size,
                    displayed_filename=name, tqdm_class=partial(_Reporter, name),  # type: ignore[arg-type]
                )  # fmt: skip
            return
        except (HTTPError, OSError) as error:
            if isinstance(error, OSError) and error.errno is not None and not isinstance(error, HTTPError):
                raise
            actual = part.stat().st_size
            if actual > size:
                part.unlink()
                raise _FaultyFile("error.hub_wrong_length", file=name, size=size, actual=actual) from error
            failures = 0 if actual > before else failures + 1
            if failures == _MAX_FAILURES or _is_final(error):
                if isinstance(error, HTTPError) and _status(error) != 416:
                    raise
                raise _FaultyFile("error.hub_wrong_length", file=name, size=size, actual=actual) from error
            time.sleep(min(pause * 2**failures, 8.0))


def _patiently(ask: Callable[[], Any], pause: float) -> Any:
    """Ask again when the Hub is busy or out of order, a few times."""
    for failures in range(1, _MAX_FAILURES + 1):
        try:
            return ask()
        except HfHubHTTPError as error:
            if failures == _MAX_FAILURES or _is_final(error):
                raise
            time.sleep(min(pause * 2**failures, 8.0))
    raise AssertionError("unreachable")


def _is_final(error: Exception) -> bool:
    """Whether asking again gives the same: the Hub has understood and refused."""
    return isinstance(error, HfHubHTTPError) and _status(error) < 500 and _status(error) not in (408, 429)


def _status(error: BaseException) -> int:
    return int(error.response.status_code) if isinstance(error, HfHubHTTPError) else 0


def _sha256_of(path: Path) -> str:
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def _explained(error: Exception, request: Mapping[str, Any]) -> dict[str, object]:
    """The error as a message key and its values; an unexpected one with its traceback."""
    if isinstance(error, _FaultyFile):
        return {"error": error.key, "values": error.values}
    cause = error.__cause__ if isinstance(error, LocalEntryNotFoundError) and error.__cause__ else error
    key = _key_of(cause)
    if key is None:
        return {"crash": "".join(traceback.format_exception(error))}
    values = {
        "id": request["repo"],
        "revision": request["revision"],
        "folder": request["cache"],
        "host": urlsplit(constants.ENDPOINT).hostname or constants.ENDPOINT,
        "address": f"{constants.ENDPOINT}/{request['repo']}",
        "status": _status(cause),
        "reason": getattr(cause, "strerror", None) or str(cause),
    }
    return {"error": key, "values": values}


def _key_of(cause: BaseException) -> str | None:
    """What to say of an error of the library's or of the system's; None for one that nobody expects."""
    for kind, key in _KEYS:
        if isinstance(cause, kind):
            return key
    if isinstance(cause, HfHubHTTPError):
        return _STATUS_KEYS.get(_status(cause), "error.hub_down")
    if isinstance(cause, HTTPError | LocalEntryNotFoundError):
        return "error.hub_unreachable"
    if isinstance(cause, FileMetadataError | json.JSONDecodeError):
        return "error.hub_no_hub"
    if isinstance(cause, OSError) and cause.errno is not None:
        return "error.hub_disk_full_now" if cause.errno in _FULL else "error.hub_cache_unwritable"
    return None


class _Quiet:
    """A progress bar that says nothing: what the library makes one with, and what it calls."""

    def __init__(self, *_: object, **__: object) -> None:
        pass

    def __enter__(self) -> _Quiet:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        pass

    def update(self, count: int = 1) -> None:
        """So many bytes more (fewer, when the server starts again)."""

    def close(self) -> None:
        """The file is whole, or has failed."""


class _Reporter(_Quiet):
    """Tells the parent how much of a file is here, a few times a second."""

    def __init__(self, name: str, *_: object, initial: int = 0, **__: object) -> None:
        self._name, self._done, self._said = name, initial, 0.0
        self.update(0)

    def update(self, count: int = 1) -> None:
        """So many bytes more."""
        self._done += count
        if time.monotonic() - self._said >= _REPORT_SECONDS:
            self._said = time.monotonic()
            _send({"file": self._name, "done": self._done})


if __name__ == "__main__":
    main()
