"""Candidates beside the original: what was added and left out, their scores, and a preview where one was drawn."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Final

from webui.errors import UserError
from webui.i18n import Translator
from webui.prompts.difference import Kind, Stretch
from webui.prompts.improve import Candidate
from webui.views.figures import data_url, percent
from webui.views.markup import element, text

if TYPE_CHECKING:
    from webui.tasks.prompt import PromptAnswer
    from webui.tasks.prompt_preview import CandidatePreview, SeenByVit

SHOWN_CHARACTERS: Final = 600
"""How much of a stretch is shown; thousands of words must not push the candidates away."""

_TAGS: Final = {Kind.SAME: "span", Kind.ADDED: "ins", Kind.DROPPED: "del"}
PREVIEWS_GO_TO: Final = (
    ("create", "send.to_create"),
    ("score", "send.to_score"),
    ("inside", "send.to_inside"),
    ("latents", "send.to_latents"),
    ("vision", "send.to_vision"),
    ("search", "send.to_search"),
)
"""The tabs that a candidate's preview can be sent to, with the words of the button; its action is `to_create` and so
on."""


def render_empty_prompt(say: Translator) -> str:
    """What stands where candidates will be."""
    title = element("p", text(say.text("prompt.empty.title")), class_="stage-title")
    hint = element("p", text(say.text("prompt.empty.hint")), class_="stage-hint")
    return element("div", title, hint, class_="stage-empty prompt-empty")


def render_writing(texts: Sequence[str], say: Translator) -> str:
    """What is written so far, token by token."""
    lines = [element("p", text(_short(line)), dir="auto", class_="prompt-line") for line in texts]
    heading = element("h3", text(say.text("prompt.writing")))
    return element("section", heading, *lines, class_="prompt-writing", aria_live="off")


def render_answer(
    answer: PromptAnswer, say: Translator, previews: Mapping[int, CandidatePreview], chosen: int | None = None
) -> str:
    """All candidates; their buttons carry `data-action` and `data-place` for the page."""
    original = element(
        "section",
        element("h3", text(say.text("prompt.original"))),
        element("p", text(_short(answer.request.text)), dir="auto", class_="prompt-line"),
        element("p", text(_tokens(answer.tokens.used, answer.tokens.limit, say)), class_="prompt-figures"),
        class_="prompt-original",
    )
    notes = [element("li", text(say.error(note))) for note in answer.notes]
    compared = any(candidate.changes for candidate in answer.candidates)
    legend = say.text("prompt.legend") if compared else say.text("prompt.translation_original_beside")
    cards = [
        _card(place, candidate, say, previews.get(place), chosen == place)
        for place, candidate in enumerate(answer.candidates)
    ]
    return element(
        "div",
        original,
        element("ul", *notes, class_="notice prompt-notes") if notes else "",
        element("p", text(legend), class_="score-hint"),
        element("ol", *cards, class_="prompt-cards", aria_label=say.text("prompt.candidates")),
        class_="prompt-answer",
    )


def render_abilities(trained_for: str, directions: Sequence[str], off: Sequence[UserError], say: Translator) -> str:
    """What a model was trained for, and why its other buttons are off."""
    lines = [element("p", text(say.text(trained_for)))]
    if directions:
        listed = ", ".join(direction.replace("-", " → ") for direction in directions)
        lines.append(element("p", text(say.text("prompt.abilities.directions", directions=listed))))
    if off:
        reasons = element("ul", *(element("li", text(say.error(reason))) for reason in off))
        lines.append(element("details", element("summary", text(say.text("prompt.off"))), reasons))
    return element("div", *lines, class_="abilities")


def _card(place: int, candidate: Candidate, say: Translator, preview: CandidatePreview | None, chosen: bool) -> str:
    name = say.text("prompt.candidate", number=place + 1)
    heading = name + (f" ({say.text('prompt.cut')})" if candidate.cut else "")
    marked = _marked(candidate.changes) if candidate.changes else ""
    figures = [
        (say.text("prompt.tokens"), _tokens(candidate.tokens.used, candidate.tokens.limit, say)),
        (say.text("prompt.log_probability"), f"{candidate.log_probability:.3f}"),
    ]
    if candidate.similarity is not None:
        figures.insert(0, (say.text("prompt.similarity"), f"{candidate.similarity:.3f}"))
    if candidate.dropped:
        figures.append((say.text("prompt.dropped"), _short(" · ".join(candidate.dropped))))
    if preview is not None:
        figures += _preview_figures(preview, say)
    listed = [element("div", element("dt", text(label)), element("dd", text(value))) for label, value in figures]
    image = _image(preview, say) if preview is not None else ""
    return element(
        "li",
        element("h3", text(heading)),
        image,
        element("div", *_send_buttons(place, name, say), class_="prompt-sends") if preview is not None else "",
        element("p", text(_short(candidate.text)), dir="auto", class_="prompt-line prompt-candidate"),
        marked,
        element("dl", *listed, class_="prompt-scores"),
        element("div", *_buttons(place, name, say, chosen), class_="prompt-buttons"),
        class_="prompt-card",
    )


def _buttons(place: int, name: str, say: Translator, chosen: bool) -> list[str]:
    actions = (("use", "prompt.use"), ("attend", "prompt.show_attention"))
    return [
        element(
            "button",
            text(say.text(key)),
            type="button",
            data_action=action,
            data_place=str(place),
            aria_label=f"{say.text(key)}: {name}",
            **({"aria_pressed": "true" if chosen else "false"} if action == "attend" else {}),
        )
        for action, key in actions
    ]


def _send_buttons(place: int, name: str, say: Translator) -> list[str]:
    """The ways of a preview to the other tabs."""
    return [
        element(
            "button", text(say.text(key)), type="button", data_action=f"to_{tab}", data_place=str(place),
            aria_label=f"{say.text(key)}: {name}",
        )
        for tab, key in PREVIEWS_GO_TO
    ]  # fmt: skip


def _preview_figures(preview: CandidatePreview, say: Translator) -> list[tuple[str, str]]:
    figures = []
    if preview.own is not None:
        figures.append((say.text("prompt.preview.own"), f"{preview.own:.3f}"))
    if preview.original is not None:
        figures.append((say.text("prompt.preview.original"), f"{preview.original:.3f}"))
    return figures + (_seen_figures(preview.seen, say) if preview.seen is not None else [])


def _seen_figures(seen: SeenByVit, say: Translator) -> list[tuple[str, str]]:
    """Each thing that the text names, with its place among the labels; then what the ViT holds likeliest."""
    figures = [
        (
            say.text("prompt.preview.vit_noun", noun=_short(verdict.noun.written)),
            f"{'✓' if verdict.seen else '✗'} {percent(verdict.probability)} ({verdict.rank})",
        )
        for verdict in seen.verdicts
    ]
    ((label, probability),) = seen.picture.top(1)
    best = f"{seen.labels.name(label, say.language)} {percent(probability)}"
    return [*figures, (say.text("prompt.preview.vit_best"), best)]


def _image(preview: CandidatePreview, say: Translator) -> str:
    alt = text(say.text("prompt.preview.alt", text=_short(preview.text)))
    return f'<img class="prompt-preview" src="{data_url(preview.png, "png")}" alt="{alt}">'


def _marked(changes: Sequence[Stretch]) -> str:
    parts = [element(_TAGS[change.kind], text(_short(change.text))) for change in changes]
    return element("p", *parts, dir="auto", class_="prompt-marked")


def _tokens(used: int, limit: int, say: Translator) -> str:
    return say.text("create.tokens", used=used, limit=limit)


def _short(words: str) -> str:
    return words if len(words) <= SHOWN_CHARACTERS else words[:SHOWN_CHARACTERS] + "…"
