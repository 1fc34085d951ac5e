"""Below the matrix: sorting without training, the concepts nearest to a text, and the tutorial's calculator."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

import gradio as gr
from gradio.blocks import Block

from webui.clip.calculator import TUTORIAL_PICTURE, TUTORIAL_TEXTS, NamedVector, calculate
from webui.clip.concepts import concept_labels, read_concepts
from webui.clip.request import NearestRequest, ZeroShotRequest, read_texts
from webui.errors import UserError
from webui.i18n import Translator
from webui.pages.clip_run import JobStep, RunBar, build_run_bar, follow_job, stop_job
from webui.pages.localize import QUIET, Localizer, Updates
from webui.pages.reader import Readers, owner_of, session_of
from webui.pages.score_desk import Desk, Desks, Nearest, Sorted
from webui.pages.score_form import ScoreForm
from webui.runtime.entries import CLIP
from webui.runtime.jobs import JobContext
from webui.studio import Studio
from webui.tasks.clip import classify_pictures, find_nearest
from webui.views.calculation import render_calculation
from webui.views.markup import element, text
from webui.views.zero_shot import render_nearest, render_zero_shot

_NEAREST: Final = 5
_VECTOR_NAMES: Final = ("score.calculator.picture", "score.example.cat", "score.example.dog", "score.example.car")
_TUTORIAL: Final = tuple(" ".join(map(str, v.components)) for v in (TUTORIAL_PICTURE, *TUTORIAL_TEXTS))
_ZEROES: Final = ("0.2 0.7 0.1 0.9", "0.2 0.7 0.1 0.9", "0.3 0.6 0.2 0.8", "0 0 0 0")


@dataclass(frozen=True, slots=True)
class ScoreTools:
    """The three tools' components and handlers."""

    studio: Studio
    readers: Readers
    desks: Desks
    form: ScoreForm
    labels: gr.Textbox
    templates: gr.Textbox
    top: gr.Slider
    answers: gr.Radio
    table: gr.Textbox
    sort: RunBar
    sorted: gr.HTML
    find: RunBar
    nearest: gr.HTML
    vectors: tuple[gr.Textbox, ...]
    tutorial: gr.Button
    zero: gr.Button
    calculation: gr.HTML

    @classmethod
    def build(cls, studio: Studio, readers: Readers, desks: Desks, page: Localizer, form: ScoreForm) -> ScoreTools:
        """Lay the tools out, each folded away but the calculator."""
        with page.make(gr.Accordion, {"label": "score.zero_shot"}, open=False, elem_id="zero-shot"):
            labels = page.make(
                gr.Textbox, {"label": "score.zero_shot.labels", "info": "score.zero_shot.labels.info"}, lines=2,
                max_lines=8, elem_id="zero-shot-labels",
            )  # fmt: skip
            templates = page.make(
                gr.Textbox, {"label": "score.zero_shot.templates", "info": "score.zero_shot.templates.info"},
                value="{}", lines=1, max_lines=6, elem_id="zero-shot-templates",
            )  # fmt: skip
            top = page.make(
                gr.Slider, {"label": "score.zero_shot.top"}, minimum=1, maximum=10, step=1, value=5, buttons=[]
            )
            answers = page.make(
                gr.Radio, {"label": "score.zero_shot.answers", "choices": _answer_choices}, value="none",
                elem_id="zero-shot-answers",
            )  # fmt: skip
            table = page.make(
                gr.Textbox, {"label": "score.zero_shot.table", "placeholder": "score.zero_shot.table.placeholder"},
                lines=2, max_lines=8, visible=False, elem_id="zero-shot-table",
            )  # fmt: skip
            sort = build_run_bar(page, "zero-shot", "score.zero_shot.run")
            found = gr.HTML(apply_default_css=False, elem_id="zero-shot-found")
        with page.make(gr.Accordion, {"label": "score.nearest.heading"}, open=False, elem_id="nearest"):
            find = build_run_bar(page, "nearest", "score.nearest.run")
            nearest = gr.HTML(apply_default_css=False, elem_id="nearest-found")
        with page.make(gr.Accordion, {"label": "score.calculator"}, open=False, elem_id="calculator"):
            with gr.Row(elem_classes="pair"):
                tutorial = page.make(gr.Button, {"value": "score.calculator.tutorial"}, size="sm")
                zero = page.make(gr.Button, {"value": "score.calculator.zero_preset"}, size="sm")
            vectors = tuple(
                page.make(gr.Textbox, {"label": name}, value=value, lines=1, elem_id=f"vector-{place}")
                for place, (name, value) in enumerate(zip(_VECTOR_NAMES, _TUTORIAL, strict=True))
            )
            calculation = page.make(
                gr.HTML, {"value": lambda say: _calculated(_TUTORIAL, say)}, apply_default_css=False,
                elem_id="calculation",
            )  # fmt: skip
        return cls(
            studio, readers, desks, form, labels, templates, top, answers, table, sort, found, find, nearest, vectors,
            tutorial, zero, calculation,
        )  # fmt: skip

    def wire(self, followed: Mapping[str, Any]) -> None:
        """Connect the events; `followed` is how those are wired that follow a job."""
        self.sort.start.click(
            self._sort,
            inputs=[self.form.model, self.labels, self.templates, self.top, self.answers, self.table],
            outputs=[*self.sort.outputs(), self.sorted],
            **followed,
        )
        self.answers.change(
            lambda answers: gr.update(visible=answers == "csv"), inputs=[self.answers], outputs=[self.table], **QUIET
        )
        self.sort.stop.click(self._stop_sorting, **QUIET)
        self.find.start.click(
            self._find,
            inputs=[self.form.texts, self.form.model],
            outputs=[*self.find.outputs(), self.nearest],
            **followed,
        )
        self.find.stop.click(self._stop_finding, **QUIET)
        vectors = list(self.vectors)
        for vector in vectors:
            vector.change(
                self._calculate, inputs=vectors, outputs=[self.calculation], trigger_mode="always_last", **QUIET
            )
        for button, preset in ((self.tutorial, _TUTORIAL), (self.zero, _ZEROES)):
            button.click(lambda preset=preset: list(preset), outputs=vectors, **QUIET)

    def said_again(self, desk: Desk, say: Translator) -> Updates:
        """What was found and calculated, in another language."""
        calculation = {self.calculation: _calculated(desk.vectors or _TUTORIAL, say)}
        return self._sorted(desk, say) | self._nearest(desk, say) | calculation

    def said_again_outputs(self) -> list[Block]:
        """Everything that `said_again` changes."""
        return [*self.sort.outputs(), self.sorted, *self.find.outputs(), self.nearest, self.calculation]

    def _sort(
        self, model: str | None, labels: str, templates: str, top: int, answers: str, table: str, request: gr.Request
    ) -> Iterator[Updates]:
        """Sort the pictures on the desk under labels."""
        session, language = session_of(request), self.readers.translator(request).language
        pictures = self.desks.of(session).pictures

        def work(context: JobContext) -> Sorted:
            from webui.clip.zeroshot import accuracy, answers_from_csv, answers_from_names

            chosen = read_texts(labels or "").texts or self._concepts(model or "", language)
            shapes = tuple(line for line in (templates or "").splitlines() if line.strip()) or ("{}",)
            found = classify_pictures(self.studio, ZeroShotRequest(pictures, chosen, shapes, model or ""), context)
            names, known = found.answers.names, found.answers.labels
            right = None
            if answers == "names":
                right = answers_from_names(names, known)
            elif answers == "csv":
                right = answers_from_csv(table or "", names, known)
            count = int(top or 1)
            counted = accuracy(found.answers, right, count) if right is not None else None
            refused = tuple(picture.error for picture in found.refused)
            return Sorted(found.answers, refused, count, right, counted)

        for step in follow_job(self.studio, work, owner_of(request)):
            yield self._sorted(self.desks.change(session, sorting=step), self.readers.translator(request))

    def _find(self, texts: str, model: str | None, request: gr.Request) -> Iterator[Updates]:
        """The concepts nearest to each text."""
        session, language = session_of(request), self.readers.translator(request).language

        def work(context: JobContext) -> Nearest:
            listed = read_texts(texts or "").texts
            if not listed:
                raise UserError("error.nothing_to_score")
            asked = NearestRequest(listed, self._concepts(model or "", language), _NEAREST, model or "")
            return Nearest(listed, find_nearest(self.studio, asked, context))

        for step in follow_job(self.studio, work, owner_of(request)):
            yield self._nearest(self.desks.change(session, finding=step), self.readers.translator(request))

    def _concepts(self, model: str, language: str) -> tuple[str, ...]:
        """The names of what the model's suite knows. Raises UserError for a model that brings no list."""
        found = concept_labels(read_concepts(self.studio.catalog.find(model, CLIP).source), language)
        if not found:
            raise UserError("error.no_concepts", model=model)
        return found

    def _stop_sorting(self, request: gr.Request) -> None:
        stop_job(self.studio, self.desks.of(session_of(request)).sorting, owner_of(request))

    def _stop_finding(self, request: gr.Request) -> None:
        stop_job(self.studio, self.desks.of(session_of(request)).finding, owner_of(request))

    def _sorted(self, desk: Desk, say: Translator) -> Updates:
        step: JobStep[Sorted] = desk.sorting
        shown = ""
        if (found := step.value) is not None:
            refused = [element("li", text(say.error(error))) for error in found.refused]
            shown = render_zero_shot(found.answers, say, found.top, found.right, found.accuracy)
            shown += element("ul", *refused, class_="remarks") if refused else ""
        return self.sort.show(step.view, say) | {self.sorted: shown}

    def _nearest(self, desk: Desk, say: Translator) -> Updates:
        found = desk.finding.value
        shown = render_nearest(found.texts, found.labels, say) if found is not None else ""
        return self.find.show(desk.finding.view, say) | {self.nearest: shown}

    def _calculate(self, picture: str, first: str, second: str, third: str, request: gr.Request) -> str:
        written = (picture, first, second, third)
        self.desks.change(session_of(request), vectors=written)
        return _calculated(written, self.readers.translator(request))


def _calculated(written: tuple[str, ...], say: Translator) -> str:
    """Every number of the calculation, or the one sentence why there is none."""
    try:
        picture, *texts = (
            NamedVector(say.text(name), _components(say.text(name), line))
            for name, line in zip(_VECTOR_NAMES, written, strict=True)
        )
        return render_calculation(calculate(picture, texts), say)
    except UserError as error:
        return element("div", text(say.error(error)), class_="status-failed", role="alert")


def _components(name: str, line: str) -> tuple[float, ...]:
    """Numbers with blanks or commas between them."""
    try:
        return tuple(float(part) for part in re.split(r"[\s,;]+", (line or "").strip()) if part)
    except ValueError as error:
        raise UserError("error.vector_not_numbers", name=name) from error


def _answer_choices(say: Translator) -> list[tuple[str, str]]:
    return [
        (say.text("score.zero_shot.answers.none"), "none"),
        (say.text("score.zero_shot.answers.names"), "names"),
        (say.text("score.zero_shot.answers.csv"), "csv"),
    ]
