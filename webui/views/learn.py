"""The guided tour: what each chapter says, its figures from one prompt, the question before them, and the quiz."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING, Final

import numpy as np

from webui.i18n import Translator
from webui.i18n.glossary import Term
from webui.views.attention import render_worked_attention
from webui.views.heatmap import render_heatmap
from webui.views.latents import render_channels
from webui.views.markup import element, text
from webui.views.picture_check import render_picture_check
from webui.views.pixels import colour_png, size_png
from webui.views.token_strip import render_token_strip
from webui.views.vision_stations import render_grid
from webui.views.worked_cosine import render_check, render_division, render_text_tower

if TYPE_CHECKING:
    from webui.tasks.tour import Tour

_LITTLE: Final = 0.02
_MUCH_OUTSIDE: Final = 0.25
_PAPERS: Final = (
    ("Radford et al. 2021, CLIP", "2103.00020"),
    ("Vaswani et al. 2017, Attention", "1706.03762"),
    ("Dosovitskiy et al. 2020, ViT", "2010.11929"),
    ("Rombach et al. 2021, Latent Diffusion", "2112.10752"),
    ("Tang et al. 2022, DAAM", "2210.04885"),
    ("Raffel et al. 2019, T5", "1910.10683"),
    ("Lewis et al. 2019, BART", "1910.13461"),
)


@dataclass(frozen=True, slots=True)
class Question:
    """What is asked before the figures are looked at; `right` counts the options from 0."""

    ask: str
    options: tuple[str, ...]
    right: int
    reveal: str


@dataclass(frozen=True, slots=True)
class Chapter:
    """`id` names it in the page; `figures` gives what it shows, paragraph by paragraph, and `question` what it asks."""

    id: str
    title: str
    figures: Callable[[Tour, Translator], Sequence[str]]
    says: tuple[str, ...]
    question: Callable[[Tour, Translator], Question | None]


def render_chapter(chapter: Chapter, tour: Tour | None, say: Translator) -> str:
    """A chapter with the reader's own figures; without a tour its words, and what to do for the figures.

    Its paragraphs and figures take turns; what is asked stands before the figure that answers it.
    """
    heading = element("h3", text(say.text(chapter.title)), id=f"learn-{chapter.id}-title")
    if tour is None:
        words = (element("p", text(say.text(key, word="…"))) for key in chapter.says)
        hint = element("p", text(say.text("learn.not_run")), class_="score-hint")
        return element("section", heading, *words, hint, aria_labelledby=f"learn-{chapter.id}-title")
    figures = [*chapter.figures(tour, say), ""]
    values = {"word": tour.trace.header.words[tour.word] if tour.word is not None else "–"}
    parts = [element("p", text(say.text(chapter.says[0], **values)))]
    question = chapter.question(tour, say)
    if question is not None:
        parts.append(_question(chapter.id, question, say))
    parts.append(figures[0])
    for key, figure in zip(chapter.says[1:], figures[1:], strict=False):
        parts += [element("p", text(say.text(key, **values))), figure]
    return element("section", heading, *parts, aria_labelledby=f"learn-{chapter.id}-title")


def render_quiz(when: str, say: Translator) -> str:
    """Six questions, asked `when`: "before" the tour or "after" it. The browser counts and keeps the answers."""
    title = say.text("learn.quiz.before" if when == "before" else "learn.quiz.after")
    asked = []
    for number, (ask, options, right, why) in enumerate(_QUIZ):
        said = [say.text(each) if each.startswith("learn.") else each for each in options]
        reason = element("p", text(say.text(why)), class_="why", hidden=True)
        asked.append(_choices(f"quiz-{when}-{number}", say.text(ask), said, right, reason))
    count = element(
        "button", text(say.text("learn.quiz.check")), type="button", class_="copy-button", data_count=when,
        data_score=say.text("learn.quiz.score", right="{right}", count="{count}"),
        data_was=say.text("learn.quiz.was", before="{before}"),
    )  # fmt: skip
    score = element("p", class_="quiz-score", role="status")
    kept = element("p", text(say.text("learn.quiz.kept")), class_="score-hint")
    body = element("div", *asked, count, score, kept, class_="quiz", data_quiz=when)
    return element("details", element("summary", text(title)), body, class_="card-plain")


def render_references(say: Translator) -> str:
    """The papers behind the chapters."""
    items = (
        element("li", text(f"{name}: "), element("a", text(f"arXiv:{number}"), href=f"https://arxiv.org/abs/{number}",
                                                 rel="noreferrer", target="_blank"))
        for name, number in _PAPERS
    )  # fmt: skip
    return element("details", element("summary", text(say.text("learn.references"))), element("ul", *items))


def render_glossary(terms: Sequence[Term], say: Translator) -> str:
    """The words of the field as this language writes them, the English beside a Thai one, and what they mean."""
    rows: list[str] = []
    for term in terms:
        name, english = term.name[say.language], term.name["en"]
        beside = "" if name == english else element("span", text(f" ({english})"), lang="en")
        rows += [element("dt", text(name), beside), element("dd", text(term.meaning[say.language]))]
    return element("details", element("summary", text(say.text("learn.glossary"))), element("dl", *rows))


def _question(name: str, question: Question, say: Translator) -> str:
    reveal = element(
        "p", element("b", "", class_="verdict"), " ", text(question.reveal), class_="reveal", hidden=True,
        data_right=say.text("learn.right"), data_wrong=say.text("learn.wrong"), role="status",
    )  # fmt: skip
    asked = f"{say.text('learn.predict')}: {question.ask}"
    return element("div", _choices(f"learn-{name}", asked, question.options, question.right, reveal), class_="predict")


def _choices(name: str, ask: str, options: Sequence[str], right: int, after: str) -> str:
    labels = [
        element("label", element("input", type="radio", name=name, value=str(number)).removesuffix("</input>"),
                element("span", text(option)))
        for number, option in enumerate(options)
    ]  # fmt: skip
    return element("fieldset", element("legend", text(ask)), *labels, after, data_answer=str(right))


def _picture(source: str, caption: str, *, cells: bool = False) -> str:
    image = element("img", src=source, alt=caption, class_="cells" if cells else False).removesuffix("</img>")
    return element("figure", image, element("figcaption", text(caption)))


def _tokens(tour: Tour, say: Translator) -> Sequence[str]:
    return [render_token_strip(tour.worked.tokens, say)]


def _ask_tokens(tour: Tour, say: Translator) -> Question:
    tokens = tour.worked.tokens
    reveal = say.text(
        "learn.prompt.reveal", letters=len(tokens.text), pieces=tokens.used - 2, used=min(tokens.used, tokens.limit),
        positions=tokens.limit,
    )  # fmt: skip
    options = ("learn.prompt.a", "learn.prompt.b", "learn.prompt.c")
    return Question(say.text("learn.prompt.ask"), tuple(map(say.text, options)), 1, reveal)


def _encoder(tour: Tour, say: Translator) -> Sequence[str]:
    return [render_text_tower(tour.worked, say)]


def _ask_encoder(tour: Tour, say: Translator) -> Question:
    positions, width = tour.worked.text_states.shape
    reveal = say.text("learn.text.reveal", positions=positions, width=width, pooled=tour.worked.pooled_position)
    options = ("learn.text.a", "learn.text.b", "learn.text.c")
    return Question(say.text("learn.text.ask"), tuple(map(say.text, options)), 1, reveal)


def _cosine(tour: Tour, say: Translator) -> Sequence[str]:
    heatmap = render_heatmap(tour.scored, "cosine", say)
    return [heatmap, render_division(tour.worked) + render_check(tour.worked, say)]


def _ask_cosine(tour: Tour, say: Translator) -> Question:
    cosines = tour.scored.similarity.cosine[0]
    best = int(np.argmax(cosines))
    reveal = say.text("learn.cosine.reveal", best=tour.scored.texts[best], cosine=f"{cosines[best]:.3f}")
    return Question(say.text("learn.cosine.ask"), tuple(tour.scored.texts), best, reveal)


def _patches(tour: Tour, say: Translator) -> Sequence[str]:
    if tour.eyes is None:
        return [element("p", text(say.text("learn.no_vit")), class_="score-hint")]
    seen, grid = tour.eyes.seen, tour.eyes.seen.grid
    counted = say.text(
        "vision.patch_count", side=grid.width, patch=grid.patch_size, columns=grid.columns, rows=grid.rows,
        count=grid.count,
    )  # fmt: skip
    return [render_grid(seen, counted), render_worked_attention(tour.eyes.row, say)]


def _ask_patches(tour: Tour, say: Translator) -> Question | None:
    if tour.eyes is None:
        return None
    grid = tour.eyes.seen.grid
    reveal = say.text(
        "learn.vit.reveal", side=grid.width, patch=grid.patch_size, columns=grid.columns, count=grid.count
    )
    return Question(say.text("learn.vit.ask"), ("16", "32", "256"), 2, reveal)


def _denoising(tour: Tour, say: Translator) -> Sequence[str]:
    count = len(tour.trace.header.steps)
    strip = []
    for call, frame in zip(tour.calls, tour.frames, strict=True):
        cosine = f"{tour.lock_in.scores[call, 0]:.3f}"
        caption = say.text("learn.unet.frame", call=call + 1, calls=count, cosine=cosine)
        strip.append(_picture(colour_png(frame), caption))
    return [element("div", *strip, class_="latent-row")]


def _ask_denoising(tour: Tour, say: Translator) -> Question:
    count, call = len(tour.trace.header.steps), tour.lock_in.call
    rivals = ", ".join(tour.lock_in.texts[1:])
    options = ("learn.unet.a", "learn.unet.b", "learn.unet.c")
    right = 2 if call is None else min(2, 3 * call // count)
    reveal = say.text("learn.unet.never", rivals=rivals)
    if call is not None:
        reveal = say.text("learn.unet.reveal", call=call + 1, calls=count, rivals=rivals)
    return Question(say.text("learn.unet.ask"), tuple(map(say.text, options)), right, reveal)


def _words(tour: Tour, say: Translator) -> Sequence[str]:
    if tour.ablation is None or tour.trace.picture is None:
        return [element("p", text(say.text("learn.words.none")), class_="score-hint")]
    word, change = tour.ablation.word, tour.ablation.change
    where = _picture(size_png(tour.ablation.attention, 1.0), say.text("learn.words.map", word=word), cells=True)
    pair = (
        _picture(colour_png(tour.trace.picture), say.text("learn.words.with")),
        _picture(colour_png(tour.ablation.picture), say.text("learn.words.without", word=word)),
        _picture(size_png(change, float(change.max())), say.text("learn.words.change"), cells=True),
    )
    return [element("div", where, class_="latent-row"), element("div", *pair, class_="latent-row")]


def _ask_words(tour: Tour, say: Translator) -> Question | None:
    if tour.ablation is None:
        return None
    changed, outside = tour.effect_of_word
    values = {"changed": f"{100 * changed:.0f}", "outside": f"{100 * outside:.0f}"}
    little = changed < _LITTLE
    reveal = say.text("learn.words.little" if little else "learn.words.reveal", **values)
    right = 2 if little else int(outside > _MUCH_OUTSIDE)
    options = ("learn.words.a", "learn.words.b", "learn.words.c")
    return Question(say.text("learn.words.ask"), tuple(map(say.text, options)), right, reveal)


def _latent(tour: Tour, say: Translator) -> Sequence[str]:
    latents = tour.trace.final_latents
    return [] if latents is None else [render_channels(latents, say)]


def _ask_latent(tour: Tour, say: Translator) -> Question:
    shapes = tour.trace.header.shapes
    pixels = shapes.width * shapes.height * 3
    latents = shapes.channels * shapes.latent_height * shapes.latent_width
    ratio, factor = round(pixels / latents), shapes.width // shapes.latent_width
    options = sorted({factor, ratio, factor**3})
    reveal = say.text(
        "learn.vae.reveal", width=shapes.width, height=shapes.height, pixels=f"{pixels:,}", latents=f"{latents:,}",
        channels=shapes.channels, latent_width=shapes.latent_width, latent_height=shapes.latent_height, ratio=ratio,
    )  # fmt: skip
    return Question(say.text("learn.vae.ask"), tuple(map(str, options)), options.index(ratio), reveal)


def _checked(tour: Tour, say: Translator) -> Sequence[str]:
    if tour.eyes is None:
        return [element("p", text(say.text("learn.no_vit")), class_="score-hint")]
    return [render_picture_check(tour.eyes.check, say)]


def _no_question(_: Tour, __: Translator) -> None:
    return None


CHAPTERS: Final[Mapping[str, Chapter]] = MappingProxyType(
    {
        chapter.id: chapter
        for chapter in (
            Chapter("prompt", "learn.prompt.title", _tokens, ("learn.prompt.1", "learn.prompt.2"), _ask_tokens),
            Chapter("text", "learn.text.title", _encoder, ("learn.text.1",), _ask_encoder),
            Chapter("cosine", "learn.cosine.title", _cosine, ("learn.cosine.1", "learn.cosine.2"), _ask_cosine),
            Chapter("vit", "learn.vit.title", _patches, ("learn.vit.1", "learn.vit.2"), _ask_patches),
            Chapter("unet", "learn.unet.title", _denoising, ("learn.unet.1",), _ask_denoising),
            Chapter("words", "learn.words.title", _words, ("learn.words.1", "learn.words.2"), _ask_words),
            Chapter("vae", "learn.vae.title", _latent, ("learn.vae.1",), _ask_latent),
            Chapter("check", "learn.check.title", _checked, ("learn.check.1",), _no_question),
        )
    }
)
"""In the order of the tour."""

_QUIZ: Final = (
    ("learn.quiz.patches", ("16", "32", "256"), 2, "learn.quiz.patches.why"),
    ("learn.quiz.encoder", ("learn.quiz.encoder.a", "learn.quiz.encoder.b", "learn.quiz.encoder.c"), 1,
     "learn.quiz.encoder.why"),
    ("learn.quiz.reads", ("learn.quiz.reads.a", "learn.quiz.reads.b", "learn.quiz.reads.c"), 1, "learn.quiz.reads.why"),
    ("learn.quiz.predicts", ("learn.quiz.predicts.a", "learn.quiz.predicts.b", "learn.quiz.predicts.c"), 1,
     "learn.quiz.predicts.why"),
    ("learn.quiz.attention", ("learn.quiz.attention.a", "learn.quiz.attention.b", "learn.quiz.attention.c"), 1,
     "learn.quiz.attention.why"),
    ("learn.quiz.cosine", ("learn.quiz.cosine.a", "learn.quiz.cosine.b", "learn.quiz.cosine.c"), 1,
     "learn.quiz.cosine.why"),
)  # fmt: skip
