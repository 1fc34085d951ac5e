"""Figures of extensions under "Check my picture"."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image

from tests.tiny import save_tiny_vit
from webui.extensions.loading import load_extensions
from webui.runtime.jobs import JobCancelled, JobContext
from webui.studio import Studio
from webui.tasks.vision import check_pictures
from webui.views.picture_check import render_picture_check
from webui.vision.check import PictureCheck, check_as_dict
from webui.vision.pictures import picture_from_image
from webui.vision.request import CheckRequest

CODE = """
def register(api):
    api.add_score({"en": "Redness", "th": "ความแดง"}, lambda picture: picture.image.getpixel((0, 0))[0] / 255)
    api.add_score({"en": "Broken", "th": "เสีย"}, lambda picture: 1 / 0)
    api.add_score({"en": "Endless", "th": "ไม่สิ้นสุด"}, lambda picture: float("inf"))
    def stop(picture):
        if picture.prompt == "stop":
            from webui.extensions.api import JobCancelled
            raise JobCancelled
        return 0
    api.add_score({"en": "<b>Nothing</b>", "th": "<b>ศูนย์</b>"}, stop)
"""


def check(studio: Studio, prompt: str) -> PictureCheck:
    pictures = tuple(picture_from_image(name, Image.new("RGB", (32, 32), name)) for name in ("red", "blue"))
    context = JobContext("cpu", threading.Event(), lambda event, kept: None)
    return check_pictures(studio, CheckRequest(pictures, prompt, "tiny-vit"), context)


def test_they_are_shown_and_a_broken_one_is_left_out(studio: Studio, write: Callable[..., Path]) -> None:
    save_tiny_vit(studio.settings.models_dir / "tiny-vit")
    write("scorer", CODE)
    studio, _ = load_extensions(studio)
    checked = check(studio, "a dog")
    values = [[(one.title["en"], one.value) for one in picture.extra] for picture in checked.pictures]
    assert values == [[("Redness", 1.0), ("<b>Nothing</b>", 0.0)], [("Redness", 0.0), ("<b>Nothing</b>", 0.0)]]
    faults = studio.hooks.faults("scorer")
    assert [fault.count for fault in faults] == [2, 2]
    page = render_picture_check(checked, studio.messages.translator("th"))
    assert "ความแดง: 1 (จากส่วนขยาย)" in page
    assert "<b>ศูนย์" not in page
    first = next(picture for picture in check_as_dict(checked)["pictures"] if picture["picture"] == "red")
    assert first["extra_scores"][0] == {"title": "Redness", "value": 1.0}
    with pytest.raises(JobCancelled):
        check(studio, "stop")
