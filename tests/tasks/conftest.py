from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from webui.runtime.jobs import JobContext
from webui.settings import Settings
from webui.studio import Studio, open_studio


@pytest.fixture(scope="module")
def studio(models_dir: Path) -> Iterator[Studio]:
    """One for all tests of a module, over its `models_dir`: each leaves the model as it was, or the next one fails."""
    opened = open_studio(Settings(data_dir=models_dir.parent, models_dir=models_dir, index_outputs=False))
    yield opened
    opened.close()


@pytest.fixture
def context() -> JobContext:
    """Of a task that is called without a queue: it can be cancelled, and nobody hears of its progress."""
    return JobContext("cpu", threading.Event(), lambda event, kept: None)
