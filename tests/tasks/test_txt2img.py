from __future__ import annotations

import errno
import io
import shutil
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from webui.diffusion.generate import generate
from webui.diffusion.request import GenerateRequest
from webui.errors import UserError
from webui.i18n import LANGUAGES
from webui.runtime.entries import TXT2IMG
from webui.runtime.jobs import Job, JobState, Progress, Published
from webui.settings import Settings
from webui.store.gallery import SavedPicture
from webui.store.infotext import parse_infotext, read_infotext
from webui.studio import Studio, open_studio
from webui.tasks.txt2img import DrawnPictures, PreviewFrame, count_prompt_tokens, draw_pictures, prepare_request

PATIENCE = 120.0
REQUEST = GenerateRequest("a cat", model="tiny", steps=3, seed=7)


def submit(studio: Studio, request: GenerateRequest, owner: str = "ann") -> Job[DrawnPictures]:
    return studio.jobs.submit(lambda context: draw_pictures(studio, request, context), owner=owner, kind=TXT2IMG)


def draw(studio: Studio, request: GenerateRequest) -> DrawnPictures:
    return submit(studio, request).result(PATIENCE)


def pixels(path: Path) -> Any:
    with Image.open(path) as image:
        return np.asarray(image)


def test_pictures_are_drawn_saved_and_handed_out(studio: Studio) -> None:
    job = submit(studio, replace(REQUEST, batch_size=2, batch_count=2))
    events = list(job.events(PATIENCE))
    drawn = job.result(PATIENCE)
    assert not drawn.stopped
    assert drawn.notices == ()
    assert [picture.seed for picture in drawn.pictures] == [7, 8, 9, 10]
    assert [picture.path.name for picture in drawn.pictures] == [f"0000{i}-{6 + i}.png" for i in (1, 2, 3, 4)]
    published = [event.value for event in events if isinstance(event, Published)]
    assert tuple(value for value in published if isinstance(value, SavedPicture)) == drawn.pictures
    frames = [value for value in published if isinstance(value, PreviewFrame)]
    assert frames
    for frame in frames:
        assert len(frame.jpegs) == 2
        for jpeg in frame.jpegs:
            assert Image.open(io.BytesIO(jpeg)).size == (16, 16)
    steps = [event for event in events if isinstance(event, Progress) and event.phase == "phase.denoising"]
    assert (steps[-1].step, steps[-1].total) == (6, 6)


def test_each_saved_picture_can_be_drawn_again_from_its_infotext(studio: Studio) -> None:
    first = draw(studio, replace(REQUEST, sampler="Euler a", prompt="a cat,\nแมว", batch_count=2, width=32, height=16))
    for picture in first.pictures:
        request = parse_infotext(read_infotext(picture.path)).over(GenerateRequest("x"))
        (again,) = draw(studio, request).pictures
        assert np.array_equal(pixels(picture.path), pixels(again.path))
        assert again.infotext == picture.infotext


def test_the_job_draws_what_generate_draws(studio: Studio) -> None:
    (picture,) = draw(studio, REQUEST).pictures
    with studio.manager.use(studio.catalog.find("tiny", TXT2IMG).key()) as pipe:
        assert np.array_equal(pixels(picture.path), np.asarray(generate(pipe, REQUEST).pictures[0].image))


def test_the_models_own_size_and_a_new_seed_are_fixed_once_and_told(studio: Studio) -> None:
    drawn = draw(studio, replace(REQUEST, seed=-1))
    assert (drawn.request.width, drawn.request.height) == (16, 16)
    assert drawn.request.seed == drawn.pictures[0].seed >= 0
    assert f"Seed: {drawn.request.seed}, Size: 16x16" in drawn.pictures[0].infotext


def test_stop_keeps_what_is_finished_and_frees_the_worker(studio: Studio) -> None:
    job = submit(studio, replace(REQUEST, steps=40, batch_count=16))
    for event in job.events(PATIENCE):
        if isinstance(event, Published) and isinstance(event.value, SavedPicture):
            studio.jobs.cancel(job.id, "ann")
            break
    drawn = job.result(PATIENCE)
    assert drawn.stopped
    assert 1 <= len(drawn.pictures) < 16
    assert all(picture.path.is_file() for picture in drawn.pictures)
    assert len(list(studio.settings.outputs_dir.rglob("*"))) == 1 + len(drawn.pictures), "one folder and the pictures"
    assert len(draw(studio, REQUEST).pictures) == 1


def test_two_users_draw_and_one_stops(studio: Studio) -> None:
    """Real steps: Ann's run is stopped in its middle, Bob's waits for it to end and is drawn whole."""
    hers = submit(studio, replace(REQUEST, steps=150, batch_count=16), "ann")
    his = submit(studio, REQUEST, "bob")
    for event in hers.events(PATIENCE):
        if isinstance(event, Progress) and event.step >= 2 and event.phase == "phase.denoising":
            break
    assert his.state is JobState.QUEUED
    with pytest.raises(UserError):
        studio.jobs.cancel(his.id, "ann")
    studio.jobs.cancel_owner("ann")
    assert hers.result(PATIENCE).stopped
    assert not his.result(PATIENCE).stopped


def test_a_cancel_while_the_model_loads_draws_nothing(studio: Studio) -> None:
    def work(context: Any) -> DrawnPictures:
        context.cancelled.set()
        return draw_pictures(studio, REQUEST, context)

    drawn = studio.jobs.submit(work, owner="ann", kind=TXT2IMG).result(PATIENCE)
    assert drawn.stopped
    assert drawn.pictures == ()


@pytest.mark.parametrize(
    ("changes", "key"),
    [
        ({"steps": 0}, "error.steps_out_of_range"),
        ({"steps": 10_000}, "error.steps_out_of_range"),
        ({"width": 17, "height": 16}, "error.size_not_possible"),
        ({"width": 4096, "height": 16}, "error.size_not_possible"),
        ({"width": 2048, "height": 2048}, "error.too_many_pixels"),
        ({"seed": 2**32}, "error.seed_out_of_range"),
        ({"sampler": "Euler b"}, "error.unknown_sampler"),
        ({"prompt": "word " * 10_000}, "error.prompt_too_long"),
        ({"prompt": "bell\a"}, "error.control_character"),
        ({"model": "none"}, "error.unknown_model"),
        ({"model": "../tiny"}, "error.unknown_model"),
        ({"guidance_scale": float("nan")}, "error.guidance_scale_out_of_range"),
    ],
)
def test_what_cannot_be_drawn_is_refused_before_a_model_is_loaded(
    changes: dict[str, Any], key: str, studio: Studio
) -> None:
    request = replace(REQUEST, **changes)
    with pytest.raises(UserError) as refusal:
        prepare_request(studio, request)
    assert refusal.value.key == key
    job = submit(studio, request)
    with pytest.raises(UserError, match=key):
        job.result(PATIENCE)
    assert job.state is JobState.FAILED
    for language in LANGUAGES:
        assert "\n" not in studio.messages.error(language, refusal.value)
    assert studio.manager.status() == ()
    assert not studio.settings.outputs_dir.exists()


def test_a_full_disk_is_told_and_the_worker_goes_on(studio: Studio, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(Image.Image, "save", full)
        patch.setattr("webui.diffusion.latents.LatentRGB.jpegs", lambda *_: ())
        with pytest.raises(UserError, match=r"error\.disk_full"):
            draw(studio, REQUEST)
    assert [path for path in studio.settings.outputs_dir.rglob("*") if path.is_file()] == []
    assert len(draw(studio, REQUEST).pictures) == 1


def test_out_of_memory_goes_on_with_the_batch_that_failed_and_says_so(
    studio: Studio, monkeypatch: pytest.MonkeyPatch
) -> None:
    key = studio.catalog.find("tiny", TXT2IMG).key()
    with studio.manager.use(key) as pipe:
        decode, calls = pipe.vae.decode, 0

        def refuse_the_second(*arguments: Any, **options: Any) -> Any:
            nonlocal calls
            calls += 1
            if calls == 2:
                raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB")
            return decode(*arguments, **options)

        monkeypatch.setattr(pipe.vae, "decode", refuse_the_second)
    drawn = draw(studio, replace(REQUEST, batch_count=3))
    assert calls == 4
    assert not drawn.stopped
    assert [picture.seed for picture in drawn.pictures] == [7, 8, 9]
    assert drawn.notices == ("memory.sliced_and_tiled",)
    for language in LANGUAGES:
        assert studio.messages.text(language, drawn.notices[0])


def test_a_failed_load_leaves_the_queue_and_the_folder_in_order(studio: Studio) -> None:
    weights = next((studio.settings.models_dir / "tiny" / "unet").glob("*.safetensors"))
    weights.write_bytes(weights.read_bytes()[:1000])
    with pytest.raises(UserError):
        draw(studio, REQUEST)
    assert studio.manager.status() == ()
    assert not studio.settings.outputs_dir.exists()


def test_tokens_are_counted_without_loading_the_model(studio: Studio) -> None:
    count = count_prompt_tokens(studio, "tiny", "a cat")
    assert (count.used, count.limit, count.cut_text) == (6, 77, "")
    assert studio.manager.status() == ()
    with pytest.raises(UserError):
        count_prompt_tokens(studio, "none", "a cat")


def test_close_stops_what_runs(tmp_path: Path, tiny_pipeline_folder: Path) -> None:
    shutil.copytree(tiny_pipeline_folder, tmp_path / "models" / "tiny")
    before = set(threading.enumerate())
    studio = open_studio(Settings(data_dir=tmp_path))
    job = submit(studio, replace(REQUEST, steps=150, batch_count=16))
    wait_for_a_step(job.events(PATIENCE))
    studio.close()
    assert job.result(timeout=0).stopped
    assert studio.manager.status() == ()
    left = [thread for thread in set(threading.enumerate()) - before if thread.name.startswith("jobs-")]
    assert left == []


def wait_for_a_step(events: Iterator[object]) -> None:
    is_step: Callable[[object], bool] = lambda event: isinstance(event, Progress) and event.step > 0  # noqa: E731
    assert any(is_step(event) for event in events)
