"""Downloads from the Hugging Face Hub into its cache: first what it would take, then the files, resumable at any byte.

    plan = downloader.plan(read_hub_id("google/vit-base-patch16-224"))
    downloader.fetch(plan, on_progress=show)

The network is left to a process of its own (`hub_worker`), which ends with the download: this program stays offline.
HF_HOME, HF_HUB_CACHE, HF_ENDPOINT and HF_TOKEN mean what they mean to every program that uses the Hub.
"""

from __future__ import annotations

import json
import logging
import os
import queue
import shutil
import subprocess
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from webui.errors import UserError
from webui.runtime.hub_cache import OFFLINE_BUT_FOR_DOWNLOADS, PARTIAL_SUFFIX, HubModel, storage_of
from webui.runtime.hub_files import HubFile, choose_files, task_in
from webui.runtime.jobs import JobCancelled
from webui.runtime.memory import format_bytes
from webui.settings import checkout_dir

_log = logging.getLogger(__name__)

_POLL_SECONDS: Final = 0.1
_RATE_SECONDS: Final = 8.0
_END_SECONDS: Final = 5.0
_SPARE_BYTES: Final = 64 * 2**20


@dataclass(frozen=True, slots=True)
class DownloadPlan:
    """What a download would bring: `files` in all, of which `missing_bytes` are not here yet.

    `task` is what the model will be for, `folder` where it will lie, `free_bytes` what the disk has left.
    """

    model: HubModel
    commit: str
    task: str
    files: tuple[HubFile, ...]
    missing_bytes: int
    folder: Path
    free_bytes: int

    @property
    def total_bytes(self) -> int:
        """The size of all files."""
        return sum(file.size for file in self.files)


@dataclass(frozen=True, slots=True)
class FileProgress:
    """How much of one file is here, in bytes."""

    name: str
    done: int
    total: int


@dataclass(frozen=True, slots=True)
class DownloadProgress:
    """How far a download is; `rate` is bytes a second over the last seconds, None until it is known."""

    files: tuple[FileProgress, ...]
    rate: float | None = None

    @property
    def done(self) -> int:
        """Bytes that are here."""
        return sum(file.done for file in self.files)

    @property
    def total(self) -> int:
        """Bytes in all."""
        return sum(file.total for file in self.files)

    @property
    def seconds_left(self) -> float | None:
        """How long it will still take at this rate."""
        return (self.total - self.done) / self.rate if self.rate else None


class Downloader:
    """Downloads into `cache`; safe from any thread.

    `environment` is that of the process that talks to the Hub; `pause` are the seconds before the first retry and
    `free_bytes` tells what a disk has left: both stand in for the real thing in tests.
    """

    def __init__(
        self,
        cache: Path,
        environment: Mapping[str, str] = os.environ,
        *,
        pause: float = 1.0,
        free_bytes: Callable[[Path], int] = lambda folder: shutil.disk_usage(folder).free,
    ) -> None:
        self.cache = cache
        self._environment = environment
        self._pause = pause
        self._free_bytes = free_bytes

    def plan(self, model: HubModel, *, half: bool = False, cancel: threading.Event | None = None) -> DownloadPlan:
        """Ask the Hub what `model` is and how large; `half` prefers fp16 files. Nothing large is downloaded.

        Raises UserError when the Hub cannot be reached or refuses, for a model that cannot be loaded here, and when
        the disk is too small; JobCancelled when `cancel` is set.
        """
        request = {"do": "look", "repo": model.repo, "revision": model.revision}
        found = next(answer for answer in self._ask(request, cancel) if "commit" in answer)
        task = task_in(model.repo, found["index"], found["config"])
        listed = [HubFile(str(name), int(size)) for name, size in found["files"].items()]
        files = choose_files(model.repo, listed, found["index"], half=half)
        storage = storage_of(self.cache, model.repo)
        folder = storage / "snapshots" / str(found["commit"])
        missing = sum(file.size for file in files if not (folder / file.name).exists())
        begun = sum(part.stat().st_size for part in (storage / "blobs").glob(f"*{PARTIAL_SUFFIX}"))
        missing = max(missing - begun, 0)
        there = next(place for place in (self.cache, *self.cache.parents) if place.exists())
        free = self._free_bytes(there)
        if missing and missing + _SPARE_BYTES > free:
            raise UserError(
                "error.hub_disk_full",
                needed=format_bytes(missing + _SPARE_BYTES), free=format_bytes(free), folder=str(there),
            )  # fmt: skip
        return DownloadPlan(model, str(found["commit"]), task, files, missing, folder, free)

    def fetch(
        self,
        plan: DownloadPlan,
        on_progress: Callable[[DownloadProgress], None] | None = None,
        cancel: threading.Event | None = None,
    ) -> Path:
        """Download what `plan` names and return its folder. What is here already is kept, also half a file.

        Raises UserError that says what to do, and JobCancelled when `cancel` is set; a later call goes on from there.
        """
        done = {file.name: file.size if (plan.folder / file.name).exists() else 0 for file in plan.files}
        meter = _Meter()
        files = [{"name": file.name, "size": file.size} for file in plan.files]
        request = {
            "do": "fetch", "repo": plan.model.repo, "revision": plan.model.revision, "commit": plan.commit,
            "files": files,
        }  # fmt: skip
        for answer in self._ask(request, cancel):
            if "folder" in answer:
                return Path(answer["folder"])
            done[str(answer["file"])] = int(answer["done"])
            progress = tuple(FileProgress(file.name, done[file.name], file.size) for file in plan.files)
            rate = meter.rate(sum(done.values()))
            if on_progress is not None:
                on_progress(DownloadProgress(progress, rate))
        raise AssertionError("the worker answers or fails")

    def _ask(self, request: Mapping[str, object], cancel: threading.Event | None) -> Iterator[dict[str, Any]]:
        """What a worker answers to `request`; raises what it could not do. It ends when this iterator is closed."""
        with self._worker() as worker:
            assert worker.stdin is not None  # noqa: S101 - it is a pipe
            question = {**request, "cache": str(self.cache), "pause": self._pause}
            worker.stdin.write(json.dumps(question) + "\n")
            worker.stdin.flush()
            for line in _lines(worker, cancel):
                answer = json.loads(line)
                if "error" in answer:
                    raise UserError(answer["error"], **answer["values"])
                if "crash" in answer:
                    _log.error("the download failed:\n%s", answer["crash"])
                    raise UserError("error.hub_failed", reason=str(answer["crash"]).strip().splitlines()[-1][:300])
                yield answer
        raise UserError("error.hub_failed", reason=f"exit code {worker.returncode}")

    @contextmanager
    def _worker(self) -> Iterator[subprocess.Popen[str]]:
        environment = dict(self._environment)
        if environment.get("HF_HUB_OFFLINE") == OFFLINE_BUT_FOR_DOWNLOADS:
            environment["HF_HUB_OFFLINE"] = "0"
        if checkout := checkout_dir():  # an installed package is found by itself
            found = (str(checkout), environment.get("PYTHONPATH"))
            environment["PYTHONPATH"] = os.pathsep.join(filter(None, found))
        worker = subprocess.Popen(
            [sys.executable, "-P", "-m", "webui.runtime.hub_worker"],  # -P: modules of the current folder are not ours
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
            text=True, encoding="utf-8", env=environment,
        )  # fmt: skip
        try:
            yield worker
        finally:
            worker.terminate()
            try:
                worker.wait(_END_SECONDS)
            except subprocess.TimeoutExpired:
                worker.kill()
                worker.wait()
            for pipe in (worker.stdin, worker.stdout):
                if pipe is not None:
                    pipe.close()


class _Meter:
    """Bytes a second over the last seconds."""

    def __init__(self) -> None:
        self._seen: deque[tuple[float, int]] = deque()

    def rate(self, done: int) -> float | None:
        now = time.monotonic()
        self._seen.append((now, done))
        while now - self._seen[0][0] > _RATE_SECONDS:
            self._seen.popleft()
        since, before = self._seen[0]
        return (done - before) / (now - since) if now - since > _POLL_SECONDS and done > before else None


def _lines(worker: subprocess.Popen[str], cancel: threading.Event | None) -> Iterator[str]:
    """What the worker writes, until it ends; raises JobCancelled soon after `cancel` is set."""
    lines: queue.SimpleQueue[str | None] = queue.SimpleQueue()

    def read() -> None:
        assert worker.stdout is not None  # noqa: S101 - it is a pipe
        try:
            for line in worker.stdout:
                lines.put(line)
        except ValueError:  # closed while it was read
            pass
        lines.put(None)

    threading.Thread(target=read, name="hub-worker", daemon=True).start()
    while True:
        if cancel is not None and cancel.is_set():
            raise JobCancelled
        try:
            line = lines.get(timeout=_POLL_SECONDS)
        except queue.Empty:
            continue
        if line is None:
            return
        yield line
