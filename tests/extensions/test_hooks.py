"""Extensions that listen and change prompts, while real pictures are drawn."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from webui.diffusion.request import GenerateRequest
from webui.errors import UserError
from webui.extensions.loading import load_extensions
from webui.hooks import Hooks, ImageSaved, PromptDraft
from webui.studio import Studio
from webui.tasks.inside import TRACE, TraceRequest, record_run
from webui.tasks.txt2img import DrawnPictures, draw_pictures

Write = Callable[..., Path]
REQUEST = GenerateRequest("a cat", model="tiny", seed=5, steps=2, sampler="Euler")

LISTENER = """
import json
from webui.extensions.api import BeforeGenerate, ImageSaved, ModelLoaded, StepDone
def register(api):
    def note(event):
        with (api.folder / "heard").open("a") as file:
            more = list(event.read_predicted_x0().shape) if isinstance(event, StepDone) else []
            print(json.dumps([type(event).__name__, *more]), file=file)
    for event in (BeforeGenerate, StepDone, ImageSaved, ModelLoaded):
        api.listen(event, note)
"""
BROKEN = """
from webui.extensions.api import BeforeGenerate, ImageSaved, ModelLoaded, StepDone
def register(api):
    def fail(event):
        raise SystemExit("broken on " + type(event).__name__)
    for event in (BeforeGenerate, StepDone, ImageSaved, ModelLoaded):
        api.listen(event, fail)
    api.add_prompt_tool(lambda draft: draft.nothing)
"""
EXCLAIMS = """
from dataclasses import replace
def register(api):
    api.add_prompt_tool(lambda draft: replace(draft, prompt=draft.prompt + " !"))
"""


def draw(studio: Studio, request: GenerateRequest = REQUEST) -> DrawnPictures:
    job = studio.jobs.submit(lambda context: draw_pictures(studio, request, context), owner="me", kind="txt2img")
    return job.result(120)


def test_every_event_arrives(studio: Studio, write: Write) -> None:
    write("listener", LISTENER)
    studio, _ = load_extensions(studio)
    draw(studio)
    heard = (studio.settings.data_dir / "extension_data" / "listener" / "heard").read_text().splitlines()
    step = '["StepDone", 1, 4, 8, 8]'
    assert heard == ['["BeforeGenerate"]', '["ModelLoaded"]', step, step, '["ImageSaved"]']


def test_a_broken_hook_is_charged_by_name_and_the_picture_is_the_same(studio: Studio, write: Write) -> None:
    without = np.asarray(Image.open(draw(studio).pictures[0].path))
    studio.manager.unload_all_idle()
    write("broken", BROKEN)
    studio, _ = load_extensions(studio)
    (picture,) = draw(studio).pictures
    assert np.array_equal(np.asarray(Image.open(picture.path)), without)
    faults = {fault.where: fault for fault in studio.hooks.faults("broken")}
    assert faults.keys() == {"prompt tool", "BeforeGenerate", "StepDone", "ImageSaved", "ModelLoaded"}
    assert faults["StepDone"].count == 2
    assert "broken on StepDone" in faults["StepDone"].traceback
    assert not studio.hooks.faults("listener")


def test_a_prompt_tool_changes_what_is_drawn_once(studio: Studio, write: Write) -> None:
    write("tool", EXCLAIMS)
    studio, _ = load_extensions(studio)
    (picture,) = draw(studio).pictures
    assert picture.infotext.startswith("a cat !\n")


def test_a_prompt_tool_can_refuse_in_words(studio: Studio, write: Write) -> None:
    code = """
def register(api):
    api.add_translations({"en": {"no": "No {what}."}, "th": {"no": "ไม่มี {what}"}})
    def refuse(draft):
        raise api.error("no", what="cats")
    api.add_prompt_tool(refuse)
"""
    write("refuser", code)
    studio, _ = load_extensions(studio)
    with pytest.raises(UserError) as refused:
        draw(studio)
    assert studio.messages.error("en", refused.value) == "No cats."
    assert studio.messages.error("th", refused.value) == "ไม่มี cats"
    assert not studio.hooks.faults("refuser")


def test_a_recorded_run_is_drawn_from_what_the_tools_make_of_its_prompt(studio: Studio, write: Write) -> None:
    write("tool", EXCLAIMS)
    studio, _ = load_extensions(studio)
    work = partial(record_run, studio, TraceRequest(REQUEST))
    header = studio.jobs.submit(work, owner="me", kind=TRACE).result(120).trace.header
    assert header.request.prompt == "a cat !"


HANGS = """
import threading
from webui.extensions.api import ImageSaved, StepDone
def register(api):
    def hang(event):
        (api.folder / type(event).__name__).open("a").write("x")
        threading.Event().wait()
    for event in (ImageSaved, StepDone):
        api.listen(event, hang)
    api.add_prompt_tool(hang)
"""


def test_what_hangs_is_charged_once_and_holds_up_nothing(studio: Studio, write: Write) -> None:
    write("hangs", HANGS)
    write("listener", LISTENER)
    studio, _ = load_extensions(replace(studio, hooks=Hooks(patience=0.2)))
    for _ in range(2):
        assert len(draw(studio).pictures) == 1
    folder = studio.settings.data_dir / "extension_data"
    for place in ("PromptDraft", "StepDone", "ImageSaved"):
        assert (folder / "hangs" / place).read_text() == "x", "one that has hung is not called again"
    faults = {fault.where: fault for fault in studio.hooks.faults("hangs")}
    assert faults.keys() == {"prompt tool", "StepDone", "ImageSaved"}
    assert "no answer within 0.2 s" in faults["StepDone"].traceback
    assert "threading.Event().wait()" in faults["StepDone"].traceback
    heard = (folder / "listener" / "heard").read_text().splitlines()
    assert sum("ImageSaved" in line for line in heard) == 2, "those after it hear everything"


def test_no_more_faults_are_kept_than_can_be_looked_at() -> None:
    hooks = Hooks()
    for number in range(200):
        hooks.charge("a", "here", f"trace {number}")
    assert [fault.traceback for fault in hooks.faults("a")] == [f"trace {number}" for number in range(150, 200)]


def test_a_listener_raising_a_user_error_ends_nothing() -> None:
    hooks = Hooks()

    def refuse(_: ImageSaved) -> None:
        raise UserError("error.disk_full", folder="x")

    hooks.listen("a", ImageSaved, refuse)
    hooks.tell(ImageSaved(Path("a.png"), 1, ""))
    assert len(hooks.faults("a")) == 1


@pytest.mark.parametrize("made", [None, "text", PromptDraft("a", None, 1)])  # type: ignore[arg-type]
def test_a_tool_that_returns_something_else_changes_nothing(made: object) -> None:
    hooks = Hooks()
    hooks.add_prompt_tool("a", lambda _: made)  # type: ignore[arg-type, return-value]
    assert hooks.rewritten(REQUEST) == REQUEST
    assert "returns a PromptDraft" in hooks.faults("a")[0].traceback
