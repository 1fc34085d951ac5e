"""The Prompt page: a text, what T5 and BART make of it, and the way of a candidate to txt2img."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Final

import gradio as gr
from gradio.blocks import Block

from webui.errors import UserError
from webui.i18n import Translator
from webui.pages.clip_run import follow_job
from webui.pages.localize import FOLLOWED, QUIET, Localizer, Updates, merged, never_silent
from webui.pages.page import LanguageChange, Page
from webui.pages.prompt_form import BUTTONS, FamilyPanel, PromptForm, PromptStage, build_prompt_form, build_prompt_stage
from webui.pages.reader import Readers, owner_of
from webui.pages.sending import Sender, SentPicture, TabId, lend
from webui.prompts.abilities import Abilities, abilities_of, refusal
from webui.prompts.request import PromptTask, prompt_request_from_values
from webui.runtime.entries import T5, TXT2IMG, CatalogEntry
from webui.store.infotext import read_infotext, request_from_infotext
from webui.studio import Studio
from webui.tasks.prompt import AttentionRequest, PromptAnswer, TextSoFar, attend, check_prompt, rewrite_prompt
from webui.tasks.prompt_preview import CandidatePreview, PreviewRequest, preview_candidates
from webui.tasks.txt2img import count_prompt_tokens
from webui.views.cross_attention import render_cross_attention
from webui.views.job import render_job
from webui.views.markup import element, text
from webui.views.prompt import render_abilities, render_answer, render_writing
from webui.views.run import RunPhase, RunView
from webui.views.tokens import render_tokens

if TYPE_CHECKING:
    from webui.prompts.attention import CrossAttention

_ALL_LAYERS: Final = "all"


@dataclass(frozen=True, slots=True)
class PromptDesk:
    """What a session has before it: the job that runs or ran last, the candidates, and what belongs to them."""

    view: RunView = field(default_factory=RunView)
    writing: tuple[str, ...] = ()
    answer: PromptAnswer | None = None
    previews: Mapping[int, CandidatePreview] = field(default_factory=dict)
    chosen: int | None = None
    attention: CrossAttention | None = None


@dataclass(frozen=True, slots=True)
class PromptPage(Page):
    """The Prompt page of one program: its components, and the handlers behind them."""

    studio: Studio
    readers: Readers
    form: PromptForm
    stage: PromptStage
    desk: gr.State

    @classmethod
    def build(cls, studio: Studio, readers: Readers, page: Localizer) -> PromptPage:
        """Lay out the page inside the current `gr.Blocks` and wire its events."""
        with gr.Row(elem_id="prompt-page"):
            with gr.Column(elem_classes="card"):
                form = build_prompt_form(page, studio.catalog)
            with gr.Column():
                stage = build_prompt_stage(page)
        built = cls(studio, readers, form, stage, gr.State(PromptDesk()))
        built._wire()
        return built

    def opening(self, remembered: object, say: Translator) -> Updates:  # noqa: ARG002
        """What the models were trained for, in the reader's language."""
        models = {family: _first_id(self.studio.catalog.entries(family)) for family in self.form.panels}
        return merged(*(self._panel(family, model, say) for family, model in models.items()))

    def opening_outputs(self) -> list[Block]:
        """Everything that `opening` changes."""
        return self._panel_outputs()

    def kept(self) -> list[Block]:
        """The desk, the text and the models."""
        return [self.desk, self.form.text, *(panel.model for panel in self.form.panels.values())]

    def said_again(self, change: LanguageChange) -> Updates:
        """What Python made, in another language."""
        desk, words, *models = change.kept
        say = change.say
        panels = [self._panel(family, model, say) for family, model in zip(self.form.panels, models, strict=True)]
        return merged(self._shown(desk, say), {self.form.tokens: self._tokens(words, say)}, *panels)

    def said_again_outputs(self) -> list[Block]:
        """Everything that `said_again` changes."""
        return list(dict.fromkeys([*self._outputs(), self.form.tokens, *self._panel_outputs()]))

    def leave(self, request: gr.Request) -> None:
        """The page has closed."""
        self.studio.jobs.cancel_owner(_owner(request))

    def receive(self, words: str) -> Updates:
        """A prompt from txt2img."""
        return {self.form.text: words}

    def prepare(self, picture: SentPicture, _: gr.Request) -> None:
        """A picture is coming from another tab. Raises UserError for one without words."""
        words_of(picture)

    def receive_picture(self, picture: SentPicture, _: gr.Request) -> Iterator[Updates]:
        """The words of a picture from another tab."""
        yield self.receive(words_of(picture))

    def sender(self) -> Sender:
        """The way of a candidate's preview to the other tabs."""
        return Sender(TabId.PROMPT, self.stage.presses, previewed, [self.desk])

    def use(self, desk: PromptDesk, event: gr.EventData) -> tuple[str, str] | None:
        """The text of the candidate whose button was pressed, and what it is a translation of; None for another press.

        What is no translation, or is one of something too long for a picture's parameters, has "" there.
        """
        sent = _sent(event)
        place = sent.get("place")
        if sent.get("action") != "use" or desk.answer is None or not isinstance(place, int):
            return None
        candidates, asked = desk.answer.candidates, desk.answer.request
        if not 0 <= place < len(candidates):
            return None
        longest = self.studio.settings.limits.max_prompt_characters
        kept = asked.task is PromptTask.TRANSLATE and len(asked.text) <= longest
        return candidates[place].text, asked.text if kept else ""

    def _wire(self) -> None:
        form, stage = self.form, self.stage
        settings = dict(form.settings)
        for panel in form.panels.values():
            for task, button in panel.buttons.items():
                button.click(
                    self._rewriting(panel.family, task),
                    inputs=[self.desk],
                    inputs_kwargs={"text": form.text, "model": panel.model, "direction": form.direction, **settings},
                    outputs=[*self._outputs(), self.desk],
                    preprocess=False,  # `prompt_request_from_values` checks everything, in the reader's language
                    **FOLLOWED,
                )
            panel.model.select(
                self._choosing(panel.family), inputs=[panel.model], outputs=self._panel_outputs(), **QUIET
            )
        form.text.change(self._count, inputs=[form.text], outputs=[form.tokens], trigger_mode="always_last", **QUIET)
        form.stop.click(self._stop, outputs=[form.stop], **QUIET)
        stage.preview.click(
            self._preview, inputs=[self.desk], outputs=[*self._outputs(), self.desk], **FOLLOWED
        )  # fmt: skip
        stage.layer.select(
            self._choose_layer, inputs=[self.desk, stage.layer], outputs=[stage.table], **QUIET
        )  # fmt: skip

    def wire_attention(self) -> None:
        """Connect the buttons that show attention, after what else listens to the candidates' clicks.

        Gradio's page calls the listeners of one click one after the other, each when the one before has ended.
        """
        self.stage.candidates.click(
            self._attend, inputs=[self.desk], outputs=[*self._outputs(), self.desk], **FOLLOWED
        )  # fmt: skip

    def _rewriting(self, family: str, task: PromptTask) -> Callable[..., Iterator[Updates]]:
        """The handler of one button; a `partial` would hide from Gradio that it wants the request."""

        def handle(desk: PromptDesk, request: gr.Request, **values: object) -> Iterator[Updates]:
            yield from self._rewrite(family, task, desk, request, values)

        return handle

    def _choosing(self, family: str) -> Callable[[str | None, gr.Request], Updates]:
        def handle(model: str | None, request: gr.Request) -> Updates:
            return self._panel(family, model, self.readers.translator(request))

        return handle

    def _rewrite(
        self, family: str, task: PromptTask, desk: PromptDesk, request: gr.Request, values: dict[str, Any]
    ) -> Iterator[Updates]:
        """One of the tasks for the text of the form."""
        if task is not PromptTask.TRANSLATE or values.get("direction") is None:
            values.pop("direction", None)
        try:
            asked = prompt_request_from_values(task, {**values, "family": family, "model": values.get("model") or ""})
            check_prompt(self.studio, asked)
        except UserError as error:
            yield self._kept(replace(desk, view=RunView(RunPhase.FAILED, error=error)), request)
            return
        before = desk
        steps = follow_job(
            self.studio, lambda context: rewrite_prompt(self.studio, asked, context), _owner(request), "prompt"
        )
        for step in steps:
            writing = step.shown.texts if isinstance(step.shown, TextSoFar) else ()
            if step.value is not None:
                desk = PromptDesk(step.view, answer=step.value)
            elif step.view.phase.busy:
                desk = PromptDesk(step.view, writing)
            else:  # stopped or failed: what is written so far stays, and the candidates of before come back
                desk = replace(before, view=step.view, writing=writing)
            yield self._kept(desk, request)

    @never_silent
    def _preview(self, desk: PromptDesk, request: gr.Request) -> Iterator[Updates]:
        """A quick picture of every candidate."""
        answer = desk.answer
        if answer is None:
            return
        asked = PreviewRequest(tuple(candidate.text for candidate in answer.candidates), answer.request.text)
        for step in follow_job(
            self.studio, lambda context: preview_candidates(self.studio, asked, context), _owner(request), "prompt"
        ):
            desk = replace(desk, view=step.view)
            if step.value is not None:
                desk = replace(desk, previews=dict(enumerate(step.value)))
            yield self._kept(desk, request)

    @never_silent
    def _attend(self, desk: PromptDesk, event: gr.EventData, request: gr.Request) -> Iterator[Updates]:
        """Where the words of the candidate came from whose button was pressed."""
        sent, answer = _sent(event), desk.answer
        place = sent.get("place")
        if sent.get("action") != "attend" or answer is None or not isinstance(place, int):
            return
        if not 0 <= place < len(answer.candidates):
            return
        asked = AttentionRequest(answer.family, answer.model, answer.source, answer.candidates[place].text)
        for step in follow_job(
            self.studio, lambda context: attend(self.studio, asked, context), _owner(request), "prompt"
        ):
            desk = replace(desk, view=step.view, chosen=place, attention=step.value)
            yield self._kept(desk, request)

    def _choose_layer(self, desk: PromptDesk, layer: str, request: gr.Request) -> Updates:
        if desk.attention is None:
            return {self.stage.table: gr.skip()}
        known = {str(number): number for number in range(desk.attention.weights.shape[0])}
        say = self.readers.translator(request)
        return {self.stage.table: render_cross_attention(desk.attention, known.get(layer), say)}

    def _count(self, words: str, request: gr.Request) -> str:
        return self._tokens(words, self.readers.translator(request))

    def _stop(self, request: gr.Request) -> Any:
        self.studio.jobs.cancel_owner(_owner(request))
        return gr.update(interactive=False)

    def _kept(self, desk: PromptDesk, request: gr.Request) -> Updates:
        return self._shown(desk, self.readers.translator(request)) | {self.desk: desk}

    def _shown(self, desk: PromptDesk, say: Translator) -> Updates:
        """The whole desk."""
        stage, form, answer = self.stage, self.form, desk.answer
        busy = desk.view.phase.busy
        stopped = bool(desk.writing) and answer is None
        said = ""
        if answer is not None:
            said = say.text(
                "prompt.done", count=len(answer.candidates), model=answer.model, seconds=f"{answer.seconds:.1f}"
            )
        shown = render_answer(answer, say, desk.previews, desk.chosen) if answer is not None else ""
        return self._attention(desk, say) | {
            stage.empty: gr.update(visible=answer is None and not stopped and not busy),
            stage.writing: render_writing(desk.writing, say) if desk.writing and (busy or stopped) else "",
            stage.candidates: shown,
            stage.preview: gr.update(visible=answer is not None and not busy),
            form.stop: gr.update(visible=busy, interactive=True),
            form.status: render_job(desk.view, say, said),
        }

    def _attention(self, desk: PromptDesk, say: Translator) -> Updates:
        found = desk.attention
        if found is None:
            return {self.stage.attention: gr.update(visible=False), self.stage.layer: gr.update(), self.stage.table: ""}
        layers = [
            (say.text("prompt.attention.layer_number", number=number + 1), str(number))
            for number in range(found.weights.shape[0])
        ]
        choices = [(say.text("prompt.attention.mean"), _ALL_LAYERS), *layers]
        return {
            self.stage.attention: gr.update(visible=True),
            self.stage.layer: gr.update(choices=choices, value=_ALL_LAYERS),
            self.stage.table: render_cross_attention(found, None, say),
        }

    def _outputs(self) -> list[Block]:
        stage = self.stage
        return [
            stage.empty, stage.writing, stage.candidates, stage.preview, self.form.stop, self.form.status,
            stage.attention, stage.layer, stage.table,
        ]  # fmt: skip

    def _panel(self, family: str, model: str | None, say: Translator) -> Updates:
        """What the chosen model of a family can do: its buttons, and the reasons why some are off."""
        panel = self.form.panels[family]
        entry = next((entry for entry in self.studio.catalog.entries(family) if entry.id == model), None)
        try:
            abilities = _abilities(entry)
        except UserError as error:
            problem = element("div", text(say.error(error)), class_="status-failed")
            return self._switched(panel, None, family) | {panel.abilities: problem}
        if entry is None or abilities is None:
            hint = element("p", text(say.text("prompt.family.none")), class_="abilities")
            return self._switched(panel, None, family) | {panel.abilities: hint}
        off = [refusal(entry, task) for task in BUTTONS[family] if not abilities.can(task)]
        said = render_abilities(abilities.trained_for, abilities.directions, off, say)
        return self._switched(panel, abilities, family) | {panel.abilities: said}

    def _switched(self, panel: FamilyPanel, abilities: Abilities | None, family: str) -> Updates:
        updates: Updates = {
            button: gr.update(interactive=abilities is not None and abilities.can(task))
            for task, button in panel.buttons.items()
        }
        if family == T5:
            directions = abilities.directions if abilities is not None else ()
            choices = [(direction.replace("-", " → "), direction) for direction in directions]
            updates[self.form.direction] = gr.update(
                choices=choices, value=directions[0] if directions else None, visible=len(directions) > 1
            )
        return updates

    def _panel_outputs(self) -> list[Block]:
        panels = self.form.panels.values()
        buttons = [button for panel in panels for button in panel.buttons.values()]
        return [*(panel.abilities for panel in panels), *buttons, self.form.direction]

    def _tokens(self, words: str, say: Translator) -> str:
        """The token counter of the first model that draws; nothing without one."""
        if not words:
            return ""
        try:
            return render_tokens(count_prompt_tokens(self.studio, _first_id(self._drawers()) or "", words), say)
        except UserError:
            return ""

    def _drawers(self) -> tuple[CatalogEntry, ...]:
        return self.studio.catalog.entries(TXT2IMG)


def words_of(picture: SentPicture) -> str:
    """The words that came along with a picture, else its prompt. Raises UserError without either."""
    return picture.words or request_from_infotext(read_infotext(picture.path)).prompt


def previewed(event: gr.EventData, _: gr.Request, desk: PromptDesk) -> SentPicture | None:
    """The preview of the candidate whose button was pressed, and its text."""
    place = _sent(event).get("place")
    preview = desk.previews.get(place) if isinstance(place, int) else None
    return None if preview is None else lend(f"preview-{place}.png", preview.png, preview.text)


def _abilities(entry: CatalogEntry | None) -> Abilities | None:
    """What the model was trained for; raises the entry's own problem."""
    if entry is None:
        return None
    entry.key()
    return abilities_of(entry)


def _first_id(entries: tuple[CatalogEntry, ...]) -> str | None:
    usable = [entry.id for entry in entries if entry.problem is None]
    return usable[0] if usable else next((entry.id for entry in entries), None)


def _owner(request: gr.Request) -> str:
    """The session as the owner of this page's jobs alone, so that stopping them leaves a drawing alone."""
    return f"{owner_of(request)}/prompt"


def _sent(event: gr.EventData) -> Mapping[str, Any]:
    """What the browser sent with a press; empty for anything else it may have sent."""
    sent = event._data  # noqa: SLF001 - its own attribute access fails on what is missing
    return sent if isinstance(sent, Mapping) else {}
