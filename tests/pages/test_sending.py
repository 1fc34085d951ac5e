from __future__ import annotations

import io
from pathlib import Path

import gradio as gr
import numpy as np
import pytest
from PIL import Image

from webui.diffusion.bundled import bundled_traces, find_bundled_trace
from webui.diffusion.request import GenerateRequest
from webui.diffusion.trace import open_trace
from webui.errors import UserError
from webui.pages.frame import build_page
from webui.pages.inside_desk import InsideDesk
from webui.pages.prompt import PromptDesk, previewed
from webui.pages.sending import SentPicture, lend
from webui.store.gallery import png_bytes
from webui.store.infotext import PNG_KEY, carries_infotext, format_infotext, prompt_in, read_infotext
from webui.store.infotext import request_from_infotext as request_of
from webui.studio import Studio
from webui.tasks.prompt_preview import CandidatePreview

ASKED = GenerateRequest("a cat, สีฟ้า", seed=5, steps=3, width=16, height=8, guidance_scale=2.0)
RED = Image.new("RGB", (16, 8), "red")
GOES_TO = {
    "send": {"score", "inside", "latents", "vision", "search"},
    "gallery": {"create", "score", "inside", "latents", "vision", "prompt", "search"},
    "score": {"create", "inside", "latents", "vision", "prompt", "search"},
    "inside": {"create", "score", "latents", "vision", "prompt", "search"},
    "latents-decoded": {"create", "score", "vision", "prompt", "search"},
    "latents-edited": {"create", "score", "vision", "prompt", "search"},
    "latents-resumed": {"create", "score", "vision", "prompt", "search"},
    "vision": {"create", "score", "inside", "latents", "prompt", "search"},
    "search": {"create", "score", "inside", "latents", "vision", "prompt"},
}
"""Create has a button for its prompt of its own; what the page on latents decodes was drawn by no run."""


@pytest.fixture(autouse=True)
def lending(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("GRADIO_TEMP_DIR", str(tmp_path / "lent"))
    return tmp_path / "lent"


def press(**sent: object) -> gr.EventData:
    return gr.EventData(None, sent)


def test_every_picture_has_a_wired_button_to_every_other_tab(studio: Studio) -> None:
    page = build_page(studio)
    ids = {block._id: block.elem_id for block in page.blocks.values() if block.elem_id}
    pressed = {ids.get(block) for function in page.fns.values() for block, _ in function.targets}
    wanted = {f"{name}-to-{tab}" for name, tabs in GOES_TO.items() for tab in tabs}
    assert wanted - pressed == set()
    events = {event for function in page.fns.values() for block, event in function.targets
              if ids.get(block) == "prompt-candidates"}  # fmt: skip
    assert {f"to_{tab}" for tab in GOES_TO["gallery"] - {"prompt"}} < events


def test_a_lent_picture_is_one_file_however_often_it_is_sent(lending: Path) -> None:
    png = png_bytes(RED, format_infotext(ASKED, 5, 16, 8))
    lent = [lend("run-5.png", png, "words") for _ in range(2)]
    assert lent[0] == lent[1]
    assert [path.read_bytes() for path in lending.rglob("*.*")] == [png]
    assert request_of(read_infotext(lent[0].path)) == ASKED
    assert (lent[0].words, prompt_in(lent[0].path)) == ("words", ASKED.prompt)


def test_pixels_alone_carry_nothing(tmp_path: Path) -> None:
    plain = lend("plain.png", png_bytes(RED)).path
    assert not carries_infotext(plain)
    assert prompt_in(plain) == prompt_in(tmp_path / "missing.png") == ""
    with Image.open(io.BytesIO(plain.read_bytes())) as image:
        assert PNG_KEY not in image.info


def test_a_folder_that_takes_nothing_is_said(lending: Path) -> None:
    lending.write_text("a file where the folder should be")
    with pytest.raises(UserError) as refused:
        lend("plain.png", png_bytes(RED))
    assert refused.value.key == "error.picture_not_saved"


@pytest.mark.usefixtures("emoji_suite")
def test_the_picture_of_a_run_goes_with_what_draws_it_again() -> None:
    trace = open_trace(find_bundled_trace(next(iter(bundled_traces()))))
    sent = InsideDesk(trace=trace).finished()
    assert sent is not None
    found = request_of(read_infotext(sent.path))
    assert (found.prompt, found.seed, found.sampler) == (sent.words, trace.header.seed, trace.header.request.sampler)
    with Image.open(sent.path) as image:
        assert np.array_equal(np.asarray(image), trace.picture)
    assert InsideDesk().finished() is None


def test_the_preview_that_was_pressed_is_the_one_that_goes() -> None:
    png = png_bytes(RED, format_infotext(ASKED, 5, 16, 8))
    desk = PromptDesk(previews={1: CandidatePreview("a dog", png)})
    request = gr.Request(session_hash="me")
    sent = previewed(press(place=1, action="to_score"), request, desk)
    assert sent is not None
    assert (sent.words, sent.path.read_bytes()) == ("a dog", png)
    assert previewed(press(place=0), request, desk) is previewed(press(place="1"), request, desk) is None


def test_a_prompt_comes_from_the_words_then_from_the_file_then_not_at_all(studio: Studio) -> None:
    from webui.pages.localize import Localizer
    from webui.pages.prompt import PromptPage
    from webui.pages.reader import Readers

    say = studio.messages.translator("en")
    with gr.Blocks():
        page = PromptPage.build(studio, Readers(studio.messages, "en"), Localizer(say))
    carrying = lend("a.png", png_bytes(RED, format_infotext(ASKED, 5, 16, 8)))
    request = gr.Request(session_hash="me")

    def received(picture: SentPicture) -> object:
        return next(page.receive_picture(picture, request))[page.form.text]

    assert received(SentPicture(carrying.file, "other words")) == "other words"
    assert received(carrying) == ASKED.prompt
    with pytest.raises(UserError) as refused:
        received(lend("b.png", png_bytes(RED)))
    assert refused.value.key == "error.infotext_missing"
