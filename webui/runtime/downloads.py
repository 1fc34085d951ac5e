"""The downloads of this program: one at a time, apart from the jobs that compute, and seen by every open page."""

from __future__ import annotations

import threading
from collections import OrderedDict
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Any, Final

from webui.errors import UserError
from webui.runtime.download import Downloader, DownloadPlan, DownloadProgress
from webui.runtime.jobs import JobCancelled, JobContext, JobQueue

_OWNER: Final = "downloads"
_MAX_WAITING: Final = 16


class DownloadPhase(StrEnum):
    """Where a download is; the values are message keys."""

    WAITING = "models.download.waiting"
    RUNNING = "models.download.running"
    DONE = "models.download.done"
    STOPPED = "models.download.stopped"
    FAILED = "models.download.failed"

    @property
    def busy(self) -> bool:
        """Whether there is something to stop."""
        return self in (DownloadPhase.WAITING, DownloadPhase.RUNNING)


@dataclass(frozen=True, slots=True)
class DownloadStatus:
    """One download: `progress` once it runs, `error` when it failed (None: a defect of ours)."""

    plan: DownloadPlan
    phase: DownloadPhase = DownloadPhase.WAITING
    progress: DownloadProgress | None = None
    error: UserError | None = None


class DownloadBoard:
    """Starts, stops and remembers downloads, by repository; safe from any thread."""

    def __init__(self, downloader: Downloader) -> None:
        self.downloader = downloader
        self._jobs = JobQueue(("network",), _MAX_WAITING, _MAX_WAITING)
        self._statuses: OrderedDict[str, DownloadStatus] = OrderedDict()
        self._running: dict[str, str] = {}
        self._lock = threading.Lock()

    def start(self, plan: DownloadPlan) -> None:
        """Queue a download. Raises UserError when this repository is being downloaded already."""
        repo = plan.model.repo
        with self._lock:
            status = self._statuses.pop(repo, None)
            if status is not None:
                self._statuses[repo] = status
                if status.phase.busy:
                    raise UserError("error.models_downloading", id=repo)
            self._statuses[repo] = DownloadStatus(plan)
            job = self._jobs.submit(lambda context: self._work(plan, context), owner=_OWNER, kind="download")
            self._running[repo] = job.id

    def stop(self, repo: str) -> None:
        """End the download of a repository; what is here stays, and a later start goes on."""
        with self._lock:
            job, status = self._running.get(repo), self._statuses.get(repo)
            if job is None or status is None or not status.phase.busy:
                return
            if status.phase is DownloadPhase.WAITING:
                self._statuses[repo] = replace(status, phase=DownloadPhase.STOPPED)
        self._jobs.cancel(job, _OWNER)

    def statuses(self) -> tuple[DownloadStatus, ...]:
        """All downloads since the program was started, the newest last."""
        with self._lock:
            return tuple(self._statuses.values())

    def close(self) -> None:
        """Stop everything and end the thread."""
        self._jobs.close()

    def _work(self, plan: DownloadPlan, context: JobContext) -> None:
        repo = plan.model.repo
        self._change(repo, phase=DownloadPhase.RUNNING)
        try:
            self.downloader.fetch(plan, lambda progress: self._change(repo, progress=progress), context.cancelled)
        except JobCancelled:
            self._change(repo, phase=DownloadPhase.STOPPED)
        except UserError as error:
            self._change(repo, phase=DownloadPhase.FAILED, error=error)
        except BaseException:
            self._change(repo, phase=DownloadPhase.FAILED)
            raise
        else:
            self._change(repo, phase=DownloadPhase.DONE)

    def _change(self, repo: str, **fields: Any) -> None:
        with self._lock:
            self._statuses[repo] = replace(self._statuses[repo], **fields)
