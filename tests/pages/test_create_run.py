from __future__ import annotations

import html
import threading
from typing import Any

import pytest
import torch

from webui.i18n import LANGUAGES
from webui.pages import create_run
from webui.pages.create_run import Run, follow_run
from webui.runtime.entries import TXT2IMG
from webui.runtime.jobs import JobContext
from webui.store.infotext import read_infotext
from webui.studio import Studio
from webui.tasks.txt2img import DrawnPictures
from webui.views.run import RunPhase, render_status

FORM: dict[str, object] = {"prompt": "a cat", "model": "tiny", "steps": 3, "seed": 5, "batch_count": 2}


def test_a_run_shows_its_steps_and_ends_with_saved_pictures(studio: Studio) -> None:
    runs = list(follow_run(studio, FORM, "me"))
    last = runs[-1]
    assert last.view.phase is RunPhase.DONE
    assert last.view.error is None
    assert [picture.seed for picture in last.pictures] == [5, 6]
    assert [read_infotext(picture.path) for picture in last.pictures] == [one.infotext for one in last.pictures]
    assert any(run.view.previews for run in runs)
    assert all(jpeg.startswith(b"\xff\xd8") for run in runs for jpeg in run.view.previews)
    progress = [run.view.progress for run in runs if run.view.progress is not None]
    steps = [one.step for one in progress if one.phase == "phase.denoising"]
    assert steps
    assert steps == sorted(steps)
    assert not last.view.previews


def test_what_was_done_for_want_of_memory_is_said(studio: Studio, monkeypatch: pytest.MonkeyPatch) -> None:
    with studio.manager.use(studio.catalog.find("tiny", TXT2IMG).key()) as pipe:
        decode, refusals = pipe.vae.decode, iter([torch.OutOfMemoryError("CUDA out of memory.")])

        def refuse_once(*arguments: Any, **options: Any) -> Any:
            for refusal in refusals:
                raise refusal
            return decode(*arguments, **options)

        monkeypatch.setattr(pipe.vae, "decode", refuse_once)
    last = list(follow_run(studio, FORM, "me"))[-1]
    assert last.view.phase is RunPhase.DONE
    for language in LANGUAGES:
        say = studio.messages.translator(language)
        assert html.escape(say.text("memory.sliced_and_tiled")) in render_status(last.view, say)


@pytest.mark.parametrize(
    ("values", "key"),
    [
        ({"steps": 0}, "error.steps_out_of_range"),
        ({"steps": 10_000}, "error.steps_out_of_range"),
        ({"steps": None}, "error.not_a_number"),
        ({"steps": 2.5}, "error.not_a_whole_number"),
        ({"width": 33}, "error.size_not_possible"),
        ({"sampler": "Magic"}, "error.unknown_sampler"),
        ({"model": "none"}, "error.unknown_model"),
        ({"model": None}, "error.not_text"),
        ({"seed": -2}, "error.seed_out_of_range"),
        ({"prompt": "word " * 10_000}, "error.prompt_too_long"),
        ({"prompt": "a\x00b"}, "error.control_character"),
    ],
)
def test_what_cannot_be_drawn_is_said_and_starts_nothing(studio: Studio, values: dict[str, Any], key: str) -> None:
    runs = list(follow_run(studio, FORM | values, "me"))
    assert [run.view.phase for run in runs] == [RunPhase.FAILED]
    assert runs[0].view.error is not None
    assert runs[0].view.error.key == key
    assert not studio.gallery.outputs_dir.exists()


def test_a_defect_of_ours_fails_the_run_without_an_explanation(studio: Studio, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object) -> DrawnPictures:
        raise ZeroDivisionError

    monkeypatch.setattr(create_run, "draw_pictures", broken)
    last = list(follow_run(studio, FORM, "me"))[-1]
    assert last.view.phase is RunPhase.FAILED
    assert last.view.error is None


def test_a_closed_page_cancels_its_job_and_waits_for_it(studio: Studio, monkeypatch: pytest.MonkeyPatch) -> None:
    ended = threading.Event()

    def endless(_studio: Studio, _request: object, context: JobContext) -> DrawnPictures:
        context.progress(1, 2, "phase.denoising")
        context.cancelled.wait()
        ended.set()
        context.check()
        raise AssertionError("the job was not cancelled")

    monkeypatch.setattr(create_run, "draw_pictures", endless)
    following = follow_run(studio, FORM, "me")
    seen = next(run for run in following if run.view.progress is not None)
    assert seen.view.phase is RunPhase.RUNNING
    following.close()  # type: ignore[attr-defined]
    assert ended.is_set()


def test_a_job_that_is_stopped_while_it_waits_ends_as_stopped(studio: Studio, monkeypatch: pytest.MonkeyPatch) -> None:
    release = threading.Event()

    def patient(_studio: Studio, _request: object, _context: JobContext) -> DrawnPictures:
        release.wait()
        raise AssertionError("nobody asks for the result")

    monkeypatch.setattr(create_run, "draw_pictures", patient)
    studio.jobs.submit(lambda context: patient(studio, None, context), owner="other", kind="txt2img")
    following = follow_run(studio, FORM, "me")
    waiting: Run = next(following)
    assert waiting.view.phase is RunPhase.WAITING
    assert waiting.view.position == 1
    studio.jobs.cancel_owner("me")
    assert list(following)[-1].view.phase is RunPhase.STOPPED
    release.set()
