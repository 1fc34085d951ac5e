"""A tab that walks from prompt to prompt and from seed to seed."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import gradio as gr

from webui.extensions.api import (
    ANIMATION_FORMATS,
    ExtensionAPI,
    GenerateRequest,
    JobContext,
    Tab,
    UserError,
    element,
    text,
)

from .walk import MIN_FRAMES, Walk, plan, render_walk, take

PROMPTS = "a cat on a blue background\na dog on a yellow background"


def register(api: ExtensionAPI) -> None:
    """Add the tab."""
    api.add_translations(json.loads((api.source / "texts.json").read_text(encoding="utf-8")))
    api.add_tab("walk", {"en": "Walk", "th": "เดินใน latent"}, lambda tab: WalkTab(api, tab).build())


class WalkTab:
    """The tab of one page."""

    def __init__(self, api: ExtensionAPI, tab: Tab) -> None:
        self.api = api
        self.tab = tab

    def build(self) -> None:
        """Lay out the stops and the animation."""
        with gr.Row(elem_id="walk"):
            with gr.Column(elem_classes="card", min_width=280):
                inputs = self._build_form()
                self.bar = self.tab.run_bar("run", "run")
                self.problem = gr.HTML(apply_default_css=False, elem_id="walk-problem")
            with gr.Column(scale=2, min_width=280):
                self.shown = gr.HTML(apply_default_css=False, elem_id="walk-shown")
        self.walk, self.step = gr.State(None), gr.State(None)
        self.tab.shows(self.shown, self.walk, render_walk)
        outputs = [*self.bar.outputs(), self.problem, self.shown, self.walk, self.step]
        self.bar.start.click(self._run, inputs, outputs, show_progress="hidden")
        self.bar.stop.click(self._stop, [self.step], None, queue=False, show_progress="hidden")

    def _build_form(self) -> list[Any]:
        tab, models = self.tab, self.api.models()
        prompts = tab.make(
            gr.Textbox, {"label": "prompts", "info": "prompts_info"}, value=PROMPTS, lines=3, elem_id="walk-prompts"
        )
        seeds = tab.make(
            gr.Textbox, {"label": "seeds", "info": "seeds_info"}, value="1, 2", max_lines=1, elem_id="walk-seeds"
        )
        with gr.Row():
            model = tab.make(
                gr.Dropdown,
                {
                    "label": "model",
                    "choices": lambda words: [(entry.title_in(words.language), entry.id) for entry in models],
                },
                value=models[0].id if models else None,
                min_width=120,
            )
            sampler = tab.make(
                gr.Dropdown, {"label": "sampler"}, choices=self.api.samplers(), value="DDIM", min_width=120
            )
        with gr.Row():
            steps = tab.make(gr.Number, {"label": "steps"}, value=10, precision=0, min_width=90, elem_id="walk-steps")
            frames = tab.make(
                gr.Number, {"label": "frame_count"}, value=16, precision=0, minimum=MIN_FRAMES, min_width=90,
                elem_id="walk-frames",
            )  # fmt: skip
            ending = tab.make(
                gr.Dropdown, {"label": "ending"}, choices=list(ANIMATION_FORMATS), value="webp", min_width=90
            )
        return [prompts, seeds, model, sampler, steps, frames, ending]

    def _run(
        self, prompts: str, seeds: str, model: str | None, sampler: str, steps: float | None, frames: float | None,
        ending: str, request: gr.Request,
    ) -> Iterator[dict[Any, Any]]:  # fmt: skip
        try:
            base = GenerateRequest("", model=model or "", sampler=sampler, steps=int(steps or 0))
            walk = plan(self.api, prompts, seeds, base, int(frames or 0))
        except UserError as error:
            said = self.tab.words(request).error(error)
            yield {self.problem: element("div", text(said), class_="status-failed", role="alert")}
            return
        newest = [walk]

        def work(context: JobContext) -> Walk:
            return take(self.api, walk, ending, context, newest)

        for step in self.tab.follow(work, request):
            now = newest[0]
            yield self.tab.show_run(self.bar, step, request) | {
                self.problem: "",
                self.step: step,
                self.walk: now,
                self.shown: render_walk(now, self.tab.words(request)),
            }

    def _stop(self, step: Any, request: gr.Request) -> None:
        self.tab.stop(step, request)
