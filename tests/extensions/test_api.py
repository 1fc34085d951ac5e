from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gradio as gr
import pytest
from gradio.blocks import Block

from webui.extensions.api import DrawnPictures, ExtensionAPI, GenerateRequest, Host, JobContext, Progress, UserError
from webui.extensions.loading import load_extensions
from webui.extensions.manifest import BothLanguages, Manifest
from webui.pages.extension_parts import build_tabs
from webui.pages.frame import build_page
from webui.pages.localize import Localizer
from webui.pages.reader import Readers
from webui.runtime.entries import TXT2IMG
from webui.runtime.jobs import Published
from webui.studio import Studio
from webui.views.models_page import render_models

Write = Callable[..., Path]


@pytest.fixture
def api(studio: Studio, tmp_path: Path) -> ExtensionAPI:
    manifest = Manifest(id="mine", title=BothLanguages(en="Mine", th="ของฉัน"), version="1", api=1)
    return ExtensionAPI(manifest, tmp_path, tmp_path, Host(studio))


def test_texts_need_both_languages_and_the_same_placeholders(api: ExtensionAPI) -> None:
    with pytest.raises(ValueError, match="only in one language: b"):
        api.add_translations({"en": {"a": "A"}, "th": {"a": "ก", "b": "ข"}})
    with pytest.raises(ValueError, match="a has other placeholders"):
        api.add_translations({"en": {"a": "A {n}"}, "th": {"a": "ก"}})


def test_settings_are_kept_and_a_broken_file_is_none(api: ExtensionAPI) -> None:
    assert api.read_settings() == {}
    api.write_settings({"a": "ก"})
    assert api.read_settings() == {"a": "ก"}
    assert [path.name for path in api.folder.iterdir()] == ["settings.json"]
    (api.folder / "settings.json").write_text("{")
    assert api.read_settings() == {}


def test_the_program_is_not_there_while_registering(tmp_path: Path, api: ExtensionAPI) -> None:
    early = ExtensionAPI(api.manifest, tmp_path, tmp_path, Host())
    with pytest.raises(RuntimeError, match="while register"):
        early.models()


def run(studio: Studio, work: Callable[[JobContext], Any]) -> Any:
    return studio.jobs.submit(work, owner="me", kind="x").result(120)


def test_a_job_draws_in_parts_and_borrows_a_model(studio: Studio, api: ExtensionAPI) -> None:
    assert [entry.id for entry in api.models() if entry.id == "tiny"] == ["tiny"]
    asked = api.check(GenerateRequest("a cat", model="tiny", steps=2, seed=1))
    assert asked.width
    assert not api.remote
    assert api.limits == studio.settings.limits

    def work(context: JobContext) -> list[DrawnPictures]:
        return [api.draw(asked, context, part, 3) for part in range(3)]

    job = studio.jobs.submit(work, owner="me", kind="x")
    events = list(job.events(120))
    drawn = job.result(120)
    assert [len(one.pictures) for one in drawn] == [1, 1, 1]
    assert not [event for event in events if isinstance(event, Published)]
    steps = [(event.step, event.total) for event in events if isinstance(event, Progress)]
    assert steps[-1] == (6, 6)

    def channels(context: JobContext) -> int:
        return api.with_model("tiny", "txt2img", lambda pipe: int(pipe.unet.config.in_channels), context)

    assert run(studio, channels) == 4
    with pytest.raises(UserError, match="unknown_model"):
        run(studio, lambda context: api.with_model("nothing", "txt2img", lambda pipe: pipe, context))


TAB = """
import gradio as gr
def register(api):
    api.add_tab("one", {"en": "Tab one", "th": "แท็บหนึ่ง"}, build)
    api.add_panel("two", {"en": "Panel two", "th": "แผงสอง"}, build_panel)
    api.add_panel("three", {"en": "Panel three", "th": "แผงสาม"}, lambda panel: gr.Markdown("three"), under="score")
def build(tab):
    box = gr.Textbox(label="Left by {id}")
    box.submit(lambda text: text, box, box)
    FAIL
def build_panel(panel):
    button = gr.Button("Panel button of {id}")
    button.click(lambda prompt: prompt + "!", panel.prompt, panel.prompt)
"""


def test_a_tab_and_a_panel_are_laid_out_and_open_no_door(studio: Studio, write: Write) -> None:
    write("good", TAB.replace("{id}", "good").replace("FAIL", ""))
    studio, extensions = load_extensions(studio)
    before = len(build_page(studio).fns)
    blocks = build_page(studio, extensions)
    config = blocks.get_config_file()
    labels = {component["props"].get("label") for component in config["components"]}
    assert {"Tab one", "Panel two", "Panel three", "Left by good"} <= labels
    assert tab_of(blocks, "ext-good-two") == "create"
    assert tab_of(blocks, "ext-good-three") == "score"
    assert len(blocks.fns) > before + 1
    assert all(fn.api_visibility == "private" for fn in blocks.fns.values() if fn.targets[0][1] != "unload")


def tab_of(blocks: gr.Blocks, elem_id: str) -> str:
    """The id of the tab that a component is laid out in."""

    def holds(block: Block) -> bool:
        return block.elem_id == elem_id or any(map(holds, getattr(block, "children", ())))

    (tab,) = [block for block in blocks.blocks.values() if isinstance(block, gr.Tab) and holds(block)]
    return str(tab.id)


def test_a_panel_under_a_page_that_is_none_is_refused(studio: Studio, write: Write) -> None:
    write("lost", "def register(api):\n    api.add_panel('x', {'en': 'X', 'th': 'เอ็กซ์'}, print, under='nowhere')")
    _, extensions = load_extensions(studio)
    (lost,) = [state for state in extensions.states if state.id == "lost"]
    assert lost.state == "refused"
    assert "under one of create, gallery" in lost.traceback


@pytest.mark.parametrize("mistake", ["raise RuntimeError('no tab')", "gr.Row().__enter__(); 1 / 0"])
def test_a_tab_that_cannot_be_built_leaves_the_rest_as_it_is(studio: Studio, write: Write, mistake: str) -> None:
    write("bad", TAB.replace("{id}", "bad").replace("FAIL", mistake))
    write("good", TAB.replace("{id}", "good").replace("FAIL", ""))
    studio, extensions = load_extensions(studio)
    blocks = build_page(studio, extensions)
    config = blocks.get_config_file()
    assert (
        "no tab" in studio.hooks.faults("bad")[0].traceback or "ZeroDivision" in studio.hooks.faults("bad")[0].traceback
    )
    assert not studio.hooks.faults("good")
    labels = [component["props"].get("label") for component in config["components"]]
    assert "Left by bad" not in labels
    assert "Left by good" in labels
    values = [component["props"].get("value") for component in config["components"]]
    assert {"Panel button of bad", "Panel button of good"} <= {value for value in values if isinstance(value, str)}
    laid_out = {int(found) for found in re.findall(r"'id': (\d+)", str(config["layout"]))}
    known = {component["id"] for component in config["components"]}
    assert laid_out - known == {blocks._id}


WORDS = """
import gradio as gr
def register(api):
    api.add_tab("one", {"en": "One", "th": "หนึ่ง"}, build)
def build(tab):
    def render(value, words):
        if words.language == "th":
            raise RuntimeError("no Thai")
        return f"value {value}"
    state = gr.State(3)
    tab.shows(gr.HTML(), state, render)
    tab.make(gr.Dropdown, {"choices": lambda words: [1 / (words.language == "en")]})
"""


def test_words_that_fail_in_one_language_stay_as_they_were(studio: Studio, write: Write) -> None:
    write("words", WORDS)
    studio, extensions = load_extensions(studio)
    page = Localizer(studio.messages.translator("en"))
    readers = Readers(studio.messages, "en")
    with gr.Blocks() as blocks, gr.Tabs():
        parts = build_tabs(blocks, studio, readers, page, extensions)
    assert not studio.hooks.faults("words")
    said = page.updates(studio.messages.translator("th"))
    html = next(part for part in parts if part.api.id == "words").shown[0].output
    assert said[html]["value"] == html.value == "value 3"
    assert {fault.where for fault in studio.hooks.faults("words")} == {"words"}


KNOWN = """
def register(api):
    for id, title in (("maker/mine", "Mine, drawn by hand"), ("stabilityai/sd-turbo", "not theirs to change")):
        api.add_known_model(
            id=id, task="txt2img", title=title, family="Stable Diffusion 1.x", pipeline="StableDiffusionPipeline",
            licence="mit", sources=["https://huggingface.co/" + id],
        )
"""


def test_a_model_that_an_extension_knows_is_on_the_models_page(studio: Studio, write: Write) -> None:
    write("knows", KNOWN)
    write(
        "wrong", "def register(api):\n    api.add_known_model(id='no/sources', task='txt2img', title='x', family='y')"
    )
    studio, extensions = load_extensions(studio)
    assert {state.id: state.state for state in extensions.states}["wrong"] == "refused"
    shown = render_models((), studio.known, TXT2IMG, studio.messages.translator("en"))
    assert "Mine, drawn by hand" in shown
    assert "SD-Turbo" in shown
    assert "not theirs to change" not in shown
