"""Styles as buttons under the prompt, and wildcards that are filled in before every picture is drawn."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import gradio as gr

from webui.extensions.api import CommandLine, ExtensionAPI, Panel, PromptDraft, UserError, Words, element, text

from .styles import Style, UnreadableError, read_styles, styled
from .wildcards import EndlessWildcardError, UnknownWildcardError, expanded, find_wildcards, lines_of

SAMPLES = 3


def register(api: ExtensionAPI) -> None:
    """Add the panel, and the tool that fills in wildcards."""
    files = Files(api)
    api.add_translations(json.loads((api.source / "texts.json").read_text(encoding="utf-8")))
    api.add_prompt_tool(files.filled_in)
    api.add_command(
        {
            "en": "PROMPT [SEED]...: the prompt with its wildcards filled in",
            "th": "PROMPT [SEED]...: prompt ที่เติม wildcard แล้ว",
        },
        lambda line: show_filled_in(line, files),
    )
    api.add_panel("styles", {"en": "Styles and wildcards", "th": "สไตล์และ wildcard"}, lambda panel: build(panel, files))


def show_filled_in(line: CommandLine, files: Files) -> None:
    """One line a seed: what would be drawn. Raises UserError."""
    prompt, *seeds = line.arguments or ("",)
    if not all(seed.isdecimal() for seed in seeds):
        raise files.api.error("bad_seeds", seeds=" ".join(seeds)[:100])
    for seed in seeds or ["0"]:
        line.write(files.filled_in(PromptDraft(prompt, "", int(seed))).prompt)


class Files:
    """The styles and wildcards that come along, and the owner's own, which count where both have a name."""

    def __init__(self, api: ExtensionAPI) -> None:
        self.api = api

    def styles(self) -> tuple[dict[str, Style], str]:
        """All styles, and why the owner's file could not be read ("": it could)."""
        styles = read_styles(self.api.source / "styles.csv")
        try:
            return styles | read_styles(self.api.folder / "styles.csv"), ""
        except UnreadableError as error:
            return styles, str(error)

    def wildcards(self) -> dict[str, Path]:
        """All wildcards by name."""
        return find_wildcards(self.api.source / "wildcards", self.api.folder / "wildcards")

    def filled_in(self, draft: PromptDraft) -> PromptDraft:
        """Both prompts without wildcards; raises UserError for one that there is not."""
        if "__" not in draft.prompt + draft.negative_prompt:
            return draft
        known = self.wildcards()
        try:
            return replace(
                draft,
                prompt=expanded(draft.prompt, known, draft.seed),
                negative_prompt=expanded(draft.negative_prompt, known, draft.seed, "negative"),
            )
        except UnknownWildcardError as error:
            raise self.api.error("unknown_wildcard", name=error.args[0], known=", ".join(known)) from error
        except EndlessWildcardError as error:
            raise self.api.error("endless_wildcard", name=error.args[0]) from error


def build(panel: Panel, files: Files) -> None:
    """Lay out the panel under the prompt."""
    styles, _ = files.styles()
    chosen = panel.make(
        gr.Dropdown, {"label": "styles", "info": "styles_info"}, choices=list(styles), value=[], multiselect=True,
        elem_id="styles-chosen",
    )  # fmt: skip
    with gr.Row():
        use = panel.make(gr.Button, {"value": "use"}, size="md", elem_id="styles-use")
        sample = panel.make(gr.Button, {"value": "sample"}, size="md", elem_id="styles-sample")
        again = panel.make(gr.Button, {"value": "read_again"}, size="md", elem_id="styles-read-again")
    samples = gr.HTML(apply_default_css=False, elem_id="styles-samples")
    found = gr.HTML(apply_default_css=False, elem_id="styles-found")
    state = gr.State(0)
    panel.shows(found, state, lambda _, words: render_files(files, words))

    def put(names: list[str], prompt: str, negative_prompt: str) -> tuple[str, str, list[str]]:
        both = styled(prompt, negative_prompt, names, files.styles()[0])
        return (*both, [])

    def show_samples(prompt: str, request: gr.Request) -> str:
        words = panel.words(request)
        try:
            lines = [files.filled_in(PromptDraft(prompt, "", seed)).prompt for seed in range(SAMPLES)]
        except UserError as error:
            return element("div", text(words.error(error)), class_="status-failed", role="alert")
        items = [element("li", text(line), dir="auto") for line in lines]
        return element(
            "div",
            text(words.text("samples")),
            element("ol", *items, class_="extension-samples"),
            class_="notice",
            role="status",
        )

    def read_again(request: gr.Request) -> tuple[object, str]:
        return gr.update(choices=list(files.styles()[0])), render_files(files, panel.words(request))

    quiet: dict[str, Any] = {"queue": False, "show_progress": "hidden"}
    prompts = [panel.prompt, panel.negative_prompt]
    use.click(put, [chosen, *prompts], [*prompts, chosen], **quiet)
    sample.click(show_samples, [panel.prompt], [samples], **quiet)
    again.click(read_again, None, [chosen, found], **quiet)


def render_files(files: Files, words: Words) -> str:
    """The wildcards with the number of their lines, where to put one's own, and what could not be read."""
    _, problem = files.styles()
    rows: Mapping[str, int] = {name: len(lines_of(path)) for name, path in files.wildcards().items()}
    items = [element("li", element("code", text(f"__{name}__")), text(f" {count}")) for name, count in rows.items()]
    where = "" if files.api.remote else element("p", text(words.text("where", folder=files.api.folder)))
    return element(
        "div",
        element("p", text(words.text("wildcards"))),
        element("ul", *items, class_="wildcards"),
        where,
        element("p", text(words.text("bad_styles", reason=problem)), class_="status-failed") if problem else "",
        class_="check-note",
    )
