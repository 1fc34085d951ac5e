"""The Models page in HTML: other people's names are escaped, and every state says what can be done."""

from __future__ import annotations

from pathlib import Path

import pytest

from webui.errors import UserError
from webui.i18n import LANGUAGES, Language, load_messages
from webui.runtime.download import DownloadPlan, DownloadProgress, FileProgress
from webui.runtime.downloads import DownloadPhase, DownloadStatus
from webui.runtime.entries import CLIP, TXT2IMG, CatalogEntry, ModelKey
from webui.runtime.hub_cache import HubModel
from webui.runtime.hub_files import HubFile
from webui.runtime.known import known_models
from webui.runtime.placement import Mode
from webui.runtime.status import LoadedModelStatus, MemoryStatus
from webui.views.models import file_words
from webui.views.models_page import render_downloads, render_loaded, render_memory, render_models, render_plan

NASTY = '<img src=x onerror="alert(1)">'
PLAN = DownloadPlan(
    HubModel("a/b"),
    "0" * 40,
    CLIP,
    (HubFile("config.json", 742), HubFile(NASTY, 3 * 2**30)),
    3 * 2**30,
    Path("/c"),
    2**40,
)


def entry(title: str, problem: UserError | None = None, *, hub: bool = False) -> CatalogEntry:
    return CatalogEntry(
        id=title, task=TXT2IMG, title=title, source=Path("/m") / "x", revision="1", licence=title, size_bytes=2**20,
        bundled=False, problem=problem, hub=hub,
    )  # fmt: skip


def loaded(state: str = "idle", device: str = "cpu", pins: int = 0, done: int = 50) -> LoadedModelStatus:
    key = ModelKey(CLIP, f"/m/{NASTY}", "1", "float32")
    return LoadedModelStatus(key, state, device, Mode.WHOLE, 100, done, pins, 125.0, False, False)


@pytest.mark.parametrize("language", LANGUAGES)
def test_names_are_escaped_everywhere(language: Language) -> None:
    say = load_messages().translator(language)
    progress = DownloadProgress((FileProgress(NASTY, 1, 2),), 3.0)
    pages = [
        render_models([entry(NASTY), entry(NASTY, UserError("error.hub_begun", id=NASTY))], (), "", say),
        render_loaded([loaded(), loaded("loading")], say),
        render_downloads([DownloadStatus(PLAN, DownloadPhase.RUNNING, progress)], say),
        render_plan(PLAN, None, "", say),
        render_plan(None, None, NASTY, say),
        render_plan(None, UserError("error.hub_bad_id", id=NASTY), "", say),
    ]
    for html in pages:
        assert "<img" not in html
        assert "&lt;img" in html


def test_each_state_offers_what_can_be_done() -> None:
    say = load_messages().translator("en")
    broken = render_models([entry("x", UserError("error.hub_begun", id="x"))], (), TXT2IMG, say)
    assert "data-action" not in broken
    assert "goes on from here" in broken
    first, *rest = known_models()
    foreign = first.model_copy(update={"pipeline": "SomeOtherPipeline"})
    listed = render_models([entry("x", hub=True)], (foreign, *rest), TXT2IMG, say)
    assert 'data-action="load"' in listed
    assert "from the Hugging Face Hub" in listed
    assert "a SomeOtherPipeline, which this version cannot load yet" in listed
    assert "google/vit" not in listed
    for phase, action in (
        (DownloadPhase.WAITING, "stop"), (DownloadPhase.STOPPED, "look"), (DownloadPhase.FAILED, "look")
    ):  # fmt: skip
        assert f'data-action="{action}"' in render_downloads([DownloadStatus(PLAN, phase)], say)
    assert "data-action" not in render_downloads([DownloadStatus(PLAN, DownloadPhase.DONE)], say)
    assert 'data-action="ram"' in render_loaded([loaded(device="cuda:0")], say)
    assert 'data-action="ram"' not in render_loaded([loaded()], say)
    assert "disabled" in render_loaded([loaded("in_use", pins=1)], say)
    assert "unused for 2 min" in render_loaded([loaded()], say)


def test_memory_is_told_with_and_without_a_timeout() -> None:
    say = load_messages().translator("en")
    memory = MemoryStatus(2**30, 4 * 2**30, 8 * 2**30)
    said = render_memory(memory, 2**29, {"cuda:0": 10 * 2**30}, 30, say)
    for words in ("1.0 GiB / 4.0 GiB", "512 MiB", "8.0 GiB", "Free on cuda:0", "10.0 GiB", "after 30 minutes"):
        assert words in said
    assert 'aria-valuenow="25"' in said
    assert "stay in memory" in render_memory(memory, 0, {}, 0, say)


def test_sizes_of_files_are_exact_enough() -> None:
    assert [file_words(size) for size in (0, 742, 12_288, 2**20, 2**31)] == [
        "0 B",
        "742 B",
        "12 KiB",
        "1 MiB",
        "2.0 GiB",
    ]
