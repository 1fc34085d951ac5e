from __future__ import annotations

import base64
import io
import re

import numpy as np
import pytest
from PIL import Image

from extensions.latent_walk import walk as walking
from webui.errors import UserError
from webui.extensions.api import ExtensionAPI, GenerateRequest, Words
from webui.extensions.loading import load_extensions
from webui.studio import Studio
from webui.tasks.txt2img import draw_pictures

BASE = GenerateRequest("", model="tiny", sampler="Euler", steps=2)


@pytest.fixture
def loaded(studio: Studio) -> tuple[Studio, ExtensionAPI]:
    studio, extensions = load_extensions(studio)
    return studio, next(api for api in extensions.loaded if api.id == "latent_walk")


def take(studio: Studio, api: ExtensionAPI, walk: walking.Walk) -> walking.Walk:
    newest = [walk]
    job = studio.jobs.submit(lambda context: walking.take(api, walk, "png", context, newest), owner="me", kind="x")
    return job.result(120)


def test_the_ends_are_what_the_stops_draw_and_the_way_is_neither(loaded: tuple[Studio, ExtensionAPI]) -> None:
    studio, api = loaded
    walk = walking.plan(api, "a cat\na dog", "1 2", BASE, 3)
    done = take(studio, api, walk)
    assert len(done.frames) == 3
    for frame, stop in ((done.frames[0], walk.stops[0]), (done.frames[2], walk.stops[1])):
        job = studio.jobs.submit(lambda context, stop=stop: draw_pictures(studio, stop, context), owner="me", kind="x")
        assert np.array_equal(np.asarray(Image.open(job.result(120).pictures[0].path)), frame)
    assert not np.array_equal(done.frames[1], done.frames[0])
    assert not np.array_equal(done.frames[1], done.frames[2])


def test_many_stops_become_an_animation_there_and_back(loaded: tuple[Studio, ExtensionAPI]) -> None:
    studio, api = loaded
    walk = walking.plan(api, "a <cat>", "1, 2, 3", BASE, 5)
    assert [(stop.prompt, stop.seed) for stop in walk.stops] == [("a <cat>", 1), ("a <cat>", 2), ("a <cat>", 3)]
    done = take(studio, api, walk)
    for language in ("en", "th"):
        page = walking.render_walk(done, Words(studio.messages.translator(language), api.key("")))
        assert "<cat>" not in page
        match = re.search(r'href="data:image/png;base64,([^"]+)"', page)
        assert match is not None
        with Image.open(io.BytesIO(base64.b64decode(match[1]))) as animation:
            assert animation.n_frames == 8


def test_a_stopped_walk_keeps_its_frames(loaded: tuple[Studio, ExtensionAPI]) -> None:
    studio, api = loaded
    walk = walking.plan(api, "a cat", "1 2", BASE, 20)
    newest = [walk]

    class Stopping(list[walking.Walk]):
        def __setitem__(self, place: int, now: walking.Walk) -> None:  # type: ignore[override]
            super().__setitem__(place, now)
            if len(now.frames) == 2:
                studio.jobs.cancel_owner("me")

    newest = Stopping(newest)
    job = studio.jobs.submit(lambda context: walking.take(api, walk, "webp", context, newest), owner="me", kind="x")
    done = job.result(120)
    assert len(done.frames) == 2
    assert done.animation.startswith("data:image/webp")


@pytest.mark.parametrize(
    ("prompts", "seeds", "frames", "key"),
    [
        ("a cat", "1", 5, "two_stops"),
        ("", "1 2", 5, "two_stops"),
        ("a\nb", "", 5, "two_stops"),
        ("a\nb", "x", 5, "bad_seed"),
        ("a\nb", "1", 2, "frames"),
        ("a\nb", "1", 1000, "frames"),
        ("a\nb\nc\nd", "1", 3, "more_stops"),
    ],
)
def test_what_cannot_be_walked_is_said(
    loaded: tuple[Studio, ExtensionAPI], prompts: str, seeds: str, frames: int, key: str
) -> None:
    studio, api = loaded
    with pytest.raises(UserError) as refused:
        walking.plan(api, prompts, seeds, BASE, frames)
    assert refused.value.key == api.key(key)
    assert studio.messages.error("th", refused.value)
