from __future__ import annotations

import threading

import pytest

from webui.runtime.jobs import JobContext


@pytest.fixture
def context() -> JobContext:
    """Of a task that is called without a queue: it can be cancelled, and nobody hears of its progress."""
    return JobContext("cpu", threading.Event(), lambda event, kept: None)
