"""The switch "translate before generating": the emoji suite's T5 before a tiny Stable Diffusion."""

from __future__ import annotations

import json
import shutil
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from tests.tiny_rewriters import save_t5
from webui.cli import run
from webui.diffusion.request import GenerateRequest
from webui.diffusion.request_values import request_from_values
from webui.errors import UserError
from webui.runtime.jobs import JobContext, Published
from webui.settings import Settings
from webui.store.infotext import parse_infotext, read_infotext
from webui.studio import Studio, open_studio
from webui.tasks.inside import TraceRequest, record_run
from webui.tasks.translate import Translation, translate_first
from webui.tasks.txt2img import DrawnPictures, draw_pictures, prepare_request
from webui.views.translation import translation_remarks

THAI = "แมว พื้นหลังสีน้ำเงิน"
ENGLISH = "a cat on a blue background"
REQUEST = GenerateRequest(THAI, model="tiny", steps=2, seed=7, translate=True)

pytestmark = pytest.mark.usefixtures("emoji_suite")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory, tiny_pipeline_folder: Path) -> Path:
    folder = tmp_path_factory.mktemp("translate")
    shutil.copytree(tiny_pipeline_folder, folder / "models" / "tiny")
    return folder


@pytest.fixture(scope="module")
def studio(folder: Path) -> Iterator[Studio]:
    opened = open_studio(Settings(data_dir=folder))
    yield opened
    opened.close()


def test_a_thai_prompt_is_drawn_in_english_and_the_picture_keeps_both(studio: Studio) -> None:
    def draw(context: JobContext) -> DrawnPictures:
        return draw_pictures(studio, replace(REQUEST, negative_prompt="หมา", batch_count=2), context)

    job = studio.jobs.submit(draw, owner="ann", kind="txt2img")
    told = [event.value for event in job.events(120) if isinstance(event, Published)]
    drawn = job.result(120)
    assert told[0] == drawn.translation == Translation(THAI, ENGLISH, told[0].model, negative_left=True)
    for picture in drawn.pictures:
        infotext = read_infotext(picture.path)
        assert infotext.startswith(f"{ENGLISH}\n")
        found = parse_infotext(infotext)
        assert found.ignored == ()
        assert (found.values["prompt"], found.values["original_prompt"]) == (ENGLISH, THAI)


def test_the_same_words_in_english_draw_the_same_picture(studio: Studio, context: JobContext) -> None:
    translated = draw_pictures(studio, REQUEST, context)
    read = parse_infotext(translated.pictures[0].infotext).over(GenerateRequest("x"))
    again = draw_pictures(studio, read, context)
    assert again.translation is None
    assert again.pictures[0].infotext == translated.pictures[0].infotext
    english = draw_pictures(studio, replace(REQUEST, prompt=ENGLISH), context)
    assert english.translation is None, "what has no Thai is drawn as it is"
    assert english.request == replace(translated.request, original_prompt="")
    assert record_run(studio, TraceRequest(REQUEST), context).trace.header.request.prompt == ENGLISH


@pytest.mark.parametrize("prompt", ["แมว on a blue background", "cat พื้นหลังสีน้ำเงิน"])
def test_mixed_prompts_become_english(studio: Studio, context: JobContext, prompt: str) -> None:
    _, translation = translate_first(studio, replace(REQUEST, prompt=prompt), context)
    assert translation is not None
    assert translation.text.isascii()
    assert {"cat", "blue"} <= set(translation.text.split())


def test_weights_are_left_out_of_a_translation_and_that_is_said(studio: Studio, context: JobContext) -> None:
    written = "(แมว:1.3) พื้นหลังสีน้ำเงิน"
    asked, translation = translate_first(studio, replace(REQUEST, prompt=written), context)
    assert translation is not None
    assert (asked.prompt, asked.original_prompt) == (translation.text, translation.original) == (ENGLISH, written)
    assert translation.weights_left
    assert "weights" in "".join(translation_remarks(translation, studio.messages.translator("en")))


def test_a_long_prompt_is_read_in_parts_and_a_stop_draws_nothing(studio: Studio) -> None:
    many = replace(REQUEST, prompt=", ".join([THAI] * 60))
    context = JobContext("cpu", threading.Event(), lambda event, kept: None)
    asked, translation = translate_first(studio, many, context)
    assert translation is not None
    assert asked.prompt.count("cat") == translation.parts > 1
    said = "".join(translation_remarks(translation, studio.messages.translator("en")))
    assert f"in {translation.parts} parts" in said
    context.cancelled.set()
    stopped = draw_pictures(studio, many, context)
    assert (stopped.stopped, stopped.pictures) == (True, ())


def test_without_a_model_for_thai_it_is_refused_before_anything_is_loaded(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(folder / "models" / "tiny", tmp_path / "models" / "tiny")
    save_t5(tmp_path / "models" / "google-t5" / "t5-base")  # by its name it reads no Thai
    monkeypatch.setattr("webui.runtime.catalog.bundled_models_dir", lambda: tmp_path / "none")
    studio = open_studio(Settings(data_dir=tmp_path))
    with pytest.raises(UserError, match="no_model_for_prompt") as refused:
        prepare_request(studio, REQUEST)
    assert "madlad400" in studio.messages.error("th", refused.value)
    assert not prepare_request(studio, replace(REQUEST, prompt="a cat")).original_prompt
    assert studio.manager.status() == ()
    studio.close()


def test_loose_values_and_control_marks_are_checked(studio: Studio, context: JobContext) -> None:
    assert request_from_values({"prompt": "x", "translate": True}).translate
    for values, key in (
        ({"translate": 1}, "error.not_true_or_false"),
        ({"translate": "yes"}, "error.not_true_or_false"),
        ({"original_prompt": 3}, "error.not_text"),
    ):
        with pytest.raises(UserError) as refused:
            request_from_values({"prompt": "x", **values})
        assert refused.value.key == key
    with pytest.raises(UserError, match="special_token"):
        draw_pictures(studio, replace(REQUEST, prompt="แมว </s>"), context)
    with pytest.raises(UserError, match="control_character"):
        prepare_request(studio, replace(REQUEST, original_prompt="a\x00"))


def test_the_command_says_what_it_drew_from(
    folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DIFFUSCOPE_DATA_DIR", str(folder))
    assert run(["generate", THAI, "--translate", "--model", "tiny", "--steps", "1", "--json"]) == 0
    said = capsys.readouterr()
    assert ENGLISH in said.err
    parameters = json.loads(said.out)["parameters"]
    assert (parameters["prompt"], parameters["original_prompt"]) == (ENGLISH, THAI)
