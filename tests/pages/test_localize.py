from __future__ import annotations

import inspect
from collections import defaultdict
from collections.abc import Iterator

import gradio as gr

from webui.i18n import load_messages
from webui.pages.frame import build_page
from webui.pages.localize import Localizer, Updates, merged, never_silent
from webui.studio import Studio


def test_what_was_built_in_one_language_is_said_in_another() -> None:
    messages = load_messages()
    page = Localizer(messages.translator("en"))
    with gr.Blocks():
        button = page.make(gr.Button, {"value": "create.generate"})
        choice = page.make(gr.Dropdown, {"label": "create.model", "choices": lambda say: [(say.language, 1)]})
    assert button.value == "Generate"
    updates = page.updates(messages.translator("th"))
    assert updates[button]["value"] == messages.text("th", "create.generate")
    assert updates[choice]["choices"] == [("th", 1)]
    assert "value" not in updates[choice], "the reader's choice must stay"


def test_a_page_that_opens_as_it_was_served_says_only_what_may_have_changed() -> None:
    messages = load_messages()
    page = Localizer(messages.translator("en"))
    models = ["a"]
    with gr.Blocks():
        page.make(gr.Button, {"value": "create.generate"})
        choice = page.make(gr.Dropdown, {"label": "create.model", "choices": lambda say: list(models)})
    models.append("b")
    updates = page.updates_since_built(messages.translator("en"))
    assert list(updates) == [choice]
    assert updates[choice]["choices"] == ["a", "b"]
    thai = messages.translator("th")
    assert page.updates_since_built(thai) == page.updates(thai)


def test_updates_of_different_properties_both_hold() -> None:
    with gr.Blocks():
        box = gr.Textbox()
    result = merged({box: gr.update(label="a", value="old")}, {box: gr.update(value="new")})
    assert result[box]["label"] == "a"
    assert result[box]["value"] == "new"
    assert merged({box: gr.update(label="a")}, {box: "plain"})[box] == "plain"


def test_a_handler_without_a_word_changes_nothing() -> None:
    """Gradio empties all outputs of a generator that ends without a yield, and wants to see that it is one."""
    closed: list[int] = []

    @never_silent
    def count(numbers: int, request: gr.Request) -> Iterator[Updates]:
        try:
            for number in range(numbers):
                yield {"n": number}  # type: ignore[dict-item]
        finally:
            closed.append(numbers)

    nobody = gr.Request()
    assert inspect.isgeneratorfunction(count)
    assert list(inspect.signature(count).parameters) == ["numbers", "request"]
    assert list(count(0, nobody)) == [gr.skip()]
    assert list(count(2, nobody)) == [{"n": 0}, {"n": 1}]
    left = count(9, nobody)
    next(left)
    left.close()  # type: ignore[attr-defined]
    assert closed == [0, 2, 9], "a closed page closes the work behind the handler"


def test_no_word_of_the_page_is_outside_the_registry(studio: Studio) -> None:
    """Whatever text a component was built with changes when the language does."""
    blocks = build_page(studio)
    config = blocks.get_config_file()
    tables = studio.messages.tables
    names = {"Diffuscope", "English", "ไทย", "tiny"}
    for component in config["components"]:
        for name in ("label", "info", "placeholder"):
            words = component["props"].get(name)
            if words and component["props"].get("show_label", True) and words not in names:
                assert words in tables["en"].values(), f"{component['type']}.{name}: {words!r}"


def test_every_event_is_private_and_only_the_run_waits_in_the_queue(studio: Studio) -> None:
    functions = list(build_page(studio).fns.values())
    assert len(functions) > 10
    queued = [function for function in functions if function.queue and function.fn is not None]
    drawing = [function for function in queued if function.name == "_draw"]
    assert len(drawing) == 1
    assert drawing[0].concurrency_limit is None
    assert all(function.api_visibility == "private" for function in functions if function.targets[0][1] != "unload")


def test_no_event_makes_the_page_show_progress_on_its_outputs(studio: Studio) -> None:
    """Gradio's page tells all that ever showed progress of every step of every run: with hundreds it lags behind."""
    for function in build_page(studio).fns.values():
        if function.fn is not None and function.targets[0][1] != "unload":
            assert function.show_progress_on == [], f"{function.name} must be wired with QUIET or FOLLOWED"


def test_leaving_a_list_chooses_nothing(studio: Studio) -> None:
    """Gradio's lists say "input" whenever the focus leaves them; "select" is said for a choice alone."""
    page = build_page(studio)
    heard = {target for function in page.fns.values() for target in function.targets if target[0] in page.blocks}
    lists = [(page.blocks[number], event) for number, event in heard if isinstance(page.blocks[number], gr.Dropdown)]
    assert "select" in {event for _, event in lists}
    assert [component.elem_id for component, event in lists if event == "input"] == []


def test_no_listener_waits_behind_a_long_one(studio: Studio) -> None:
    """Gradio's page calls the listeners of one event in turn, each when the one before has ended: work comes last."""
    listeners = defaultdict(list)
    for function in build_page(studio).fns.values():
        for target in function.targets:
            if target[0] is not None:  # what follows another event has no component
                listeners[target].append(function)
    shared = [functions for functions in listeners.values() if len(functions) > 1]
    assert shared
    for functions in shared:
        late = [function.name for function in functions[:-1] if function.queue]
        assert not late, f"{late} must be wired after {functions[-1].name}"
