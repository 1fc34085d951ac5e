"""A tab that draws a grid: two or three parameters, each with the values that are written for it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import gradio as gr

from webui.extensions.api import (
    ExtensionAPI,
    GenerateRequest,
    JobContext,
    Tab,
    UserError,
    Words,
    element,
    text,
)

from .axes import PARAMETERS, AxisError, read_axis
from .grid import Grid, draw, plan
from .view import CLICK_JS, name_of, render_chosen, render_file, render_grid

NONE = "none"
START = (("steps", "2, 5, 20"), ("seed", "1-3"), (NONE, ""))


def register(api: ExtensionAPI) -> None:
    """Add the tab."""
    api.add_translations(json.loads((api.source / "texts.json").read_text(encoding="utf-8")))
    api.add_tab("plot", {"en": "X/Y/Z", "th": "X/Y/Z"}, lambda tab: XYZTab(api, tab).build())


class XYZTab:
    """The tab of one page."""

    def __init__(self, api: ExtensionAPI, tab: Tab) -> None:
        self.api = api
        self.tab = tab

    def build(self) -> None:
        """Lay out the form, the grid and the picture that is chosen from it."""
        tab = self.tab
        with gr.Row(elem_id="xyz"):
            with gr.Column(elem_classes="card", min_width=280):
                inputs = [*self._build_request(), *self._build_axes()]
                self.bar = tab.run_bar("run", "run")
                self.problem = gr.HTML(apply_default_css=False, elem_id="xyz-problem")
            with gr.Column(scale=2, min_width=280):
                self.shown = gr.HTML(apply_default_css=False, elem_id="xyz-grid", js_on_load=CLICK_JS)
                self.file = gr.HTML(apply_default_css=False, elem_id="xyz-file")
                self.chosen = gr.HTML(apply_default_css=False, elem_id="xyz-chosen")
        self.grid, self.cell, self.step = gr.State(None), gr.State(None), gr.State(None)
        tab.shows(self.shown, self.grid, render_grid)
        tab.shows(self.file, self.grid, render_file)
        tab.shows(self.chosen, self.cell, render_chosen)
        outputs = [
            *self.bar.outputs(), self.problem, self.shown, self.file, self.chosen, self.grid, self.cell, self.step,
        ]  # fmt: skip
        quiet: dict[str, Any] = {"queue": False, "show_progress": "hidden"}
        self.bar.start.click(self._run, inputs, outputs, show_progress="hidden")
        self.bar.stop.click(self._stop, [self.step], None, **quiet)
        self.shown.click(self._choose, [self.grid], [self.chosen, self.cell], **quiet)

    def _build_request(self) -> list[Any]:
        tab, models = self.tab, self.api.models()
        prompt = tab.make(gr.Textbox, {"label": "prompt"}, value="a cat on a blue background", lines=2)
        negative = tab.make(gr.Textbox, {"label": "axis.negative_prompt"}, lines=1)
        with gr.Row():
            model = tab.make(
                gr.Dropdown,
                {
                    "label": "axis.model",
                    "choices": lambda words: [(entry.title_in(words.language), entry.id) for entry in models],
                },
                value=models[0].id if models else None,
                min_width=120,
            )
            sampler = tab.make(
                gr.Dropdown,
                {"label": "axis.sampler"},
                choices=self.api.samplers(),
                value="DPM++ 2M Karras",
                min_width=120,
            )
        with gr.Row():
            steps = tab.make(gr.Number, {"label": "axis.steps"}, value=12, precision=0, min_width=90)
            seed = tab.make(gr.Number, {"label": "axis.seed"}, value=1, precision=0, min_width=90)
        return [prompt, negative, model, sampler, steps, seed]

    def _build_axes(self) -> list[Any]:
        tab, boxes = self.tab, []

        def choices(words: Words) -> list[tuple[str, str]]:
            none = (words.text("axis.none"), NONE)
            return [*((name_of(name, words), name) for name in PARAMETERS), none]

        for letter, (parameter, values) in zip("xyz", START, strict=True):
            with gr.Row():
                axis = tab.make(
                    gr.Dropdown, {"label": f"axis_{letter}", "choices": choices}, value=parameter, min_width=110,
                    elem_id=f"xyz-axis-{letter}",
                )  # fmt: skip
                written = tab.make(
                    gr.Textbox, {"label": f"values_{letter}"}, value=values, max_lines=3, min_width=110,
                    elem_id=f"xyz-values-{letter}",
                )  # fmt: skip
            boxes += [axis, written]
        tab.make(gr.HTML, {"value": lambda words: element("p", text(words.text("how")), class_="check-note")})
        return boxes

    def _run(
        self, prompt: str, negative: str, model: str | None, sampler: str, steps: float | None, seed: float | None,
        x: str, values_x: str, y: str, values_y: str, z: str, values_z: str, request: gr.Request,
    ) -> Iterator[dict[Any, Any]]:  # fmt: skip
        words = self.tab.words(request)
        try:
            base = GenerateRequest(
                prompt, negative, model=model or "", sampler=sampler, steps=int(steps or 0),
                seed=-1 if seed is None else int(seed),
            )  # fmt: skip
            grid = self._asked(((x, values_x), (y, values_y), (z, values_z)))
            requests = plan(self.api, base, grid)
        except UserError as error:
            yield {self.problem: element("div", text(words.error(error)), class_="status-failed", role="alert")}
            return
        newest = [grid]

        def work(context: JobContext) -> Grid:
            return draw(self.api, requests, grid, context, lambda now: newest.__setitem__(0, now))

        cleared = {self.problem: "", self.chosen: "", self.cell: None, self.file: ""}
        count = -1
        for step in self.tab.follow(work, request):
            now, words = newest[0], self.tab.words(request)
            updates = self.tab.show_run(self.bar, step, request) | cleared | {self.step: step, self.grid: now}
            if len(now.cells) != count:
                updates[self.shown] = render_grid(now, words)
            count, cleared = len(now.cells), {}
            if not step.view.phase.busy:
                updates[self.file] = render_file(now, words)
            yield updates

    def _asked(self, written: tuple[tuple[str, str], ...]) -> Grid:
        """The axes that were written; raises UserError."""
        axes = []
        try:
            for parameter, values in written:
                if parameter in PARAMETERS:
                    axes.append(read_axis(parameter, values))
        except AxisError as error:
            raise self.api.error(error.key, **error.values) from error
        if len(axes) < 2:
            raise self.api.error("two_axes")
        if len({axis.parameter for axis in axes}) < len(axes):
            raise self.api.error("twice")
        return Grid(tuple(axes))

    def _stop(self, step: Any, request: gr.Request) -> None:
        self.tab.stop(step, request)

    def _choose(self, grid: Grid | None, event: gr.EventData, request: gr.Request) -> dict[Any, Any]:
        number = getattr(event, "cell", None)
        if grid is None or not isinstance(number, int) or not 0 <= number < len(grid.cells):
            return dict(gr.skip())
        cell = grid.cells[number]
        return {self.chosen: render_chosen(cell, self.tab.words(request)), self.cell: cell}
