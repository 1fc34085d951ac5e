"""Candidates for a better prompt: short enough for the picture's model, compared with what they came from.

Nothing here imports torch before it is called, so that pages can import the dataclasses.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from webui.clip.watch import UNWATCHED, Watch
from webui.diffusion.prompt import TokenCount
from webui.prompts.difference import Stretch, differences, dropped
from webui.prompts.request import WritingSettings

if TYPE_CHECKING:
    from webui.clip.embed import Encoder
    from webui.prompts.rewriting import OnText, Rewriter, Written

MAX_ROUNDS: Final = 4

CountTokens = Callable[[str], TokenCount]
"""How much of CLIP's window a prompt takes, by the tokenizer of the model that draws."""


@dataclass(frozen=True, slots=True)
class Candidate:
    """One text to choose, beside the original.

    `log_probability` is the mean over its tokens (natural log); `similarity` the cosine of its CLIP text vector and the
    original's, None when it was not asked for; `cut` says that it was cut off at the end to fit rather than reworded.
    """

    text: str
    log_probability: float
    tokens: TokenCount
    changes: tuple[Stretch, ...] = ()
    dropped: tuple[str, ...] = ()
    similarity: float | None = None
    cut: bool = False

    @property
    def fits(self) -> bool:
        """Whether the picture's model sees all of it."""
        return not self.tokens.cut_text


@dataclass(frozen=True, slots=True)
class Shortened:
    """`texts`, the likeliest first; `cut` is one that was cut off after `texts[0]` stayed too long."""

    texts: tuple[Written, ...]
    parts: int = 1
    rounds: int = 1
    cut: Written | None = None
    steps: tuple[int, ...] = field(default=())
    """Tokens of the best text after each round."""


def shorten_to_fit(
    rewriter: Rewriter,
    text: str,
    count: CountTokens,
    settings: WritingSettings = WritingSettings(),  # noqa: B008 - frozen
    watch: Watch = UNWATCHED,
    on_text: OnText | None = None,
    *,
    prefix: str = "shorten: ",
    reads_tokens: int = 96,
) -> Shortened:
    """Shorten again and again until the text fits, gets no shorter, or MAX_ROUNDS are over.

    A long text is shortened in parts; phrases that come twice are said once. When it still does not fit, `cut` is what
    is left after leaving out phrases from the end.
    """
    from webui.prompts.rewriting import Written
    from webui.prompts.t5 import shorten

    first = shorten(rewriter, text, settings, watch, on_text, prefix=prefix, reads_tokens=reads_tokens)
    texts, parts = tuple(Written(_said_once(t.text), t.log_probability) for t in first.texts), first.parts
    if not texts:
        return Shortened((), parts)
    steps = [count(texts[0].text).used]
    while count(texts[0].text).cut_text and len(steps) < MAX_ROUNDS:
        again = shorten(rewriter, texts[0].text, settings, watch, on_text, prefix=prefix, reads_tokens=reads_tokens)
        shorter = tuple(Written(_said_once(t.text), t.log_probability) for t in again.texts)
        if not shorter or count(shorter[0].text).used >= steps[-1]:
            break
        texts = shorter
        steps.append(count(texts[0].text).used)
    cut = None
    if count(texts[0].text).cut_text:
        cut = Written(_leading_phrases(texts[0].text, count), texts[0].log_probability)
    return Shortened(texts, parts, len(steps), cut, tuple(steps))


def as_candidates(
    original: str, texts: Sequence[Written], count: CountTokens, *, compare: bool, cut: Written | None = None
) -> tuple[Candidate, ...]:
    """The texts with their tokens and, when they can be compared word by word, what they changed."""
    marked = [(text, False) for text in texts] + ([(cut, True)] if cut is not None else [])
    return tuple(
        Candidate(
            text.text,
            text.log_probability,
            count(text.text),
            changes=differences(original, text.text) if compare else (),
            dropped=dropped(original, text.text) if compare else (),
            cut=is_cut,
        )
        for text, is_cut in marked
    )


def similarities(encoder: Encoder, original: str, texts: Sequence[str], watch: Watch = UNWATCHED) -> tuple[float, ...]:
    """Cosine of each text's CLIP vector and the original's: how much of the meaning was kept, as CLIP sees it."""
    import numpy as np

    from webui.clip.embed import embed_texts

    vectors = embed_texts(encoder, [original, *texts], watch).vectors.astype(np.float64)
    unit = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    return tuple(float(value) for value in unit[1:] @ unit[0])


def _said_once(text: str) -> str:
    """The text without phrases, between commas, that were said before."""
    phrases = [phrase.strip() for phrase in text.split(",")]
    return ", ".join(dict.fromkeys(phrase for phrase in phrases if phrase))


def _leading_phrases(text: str, count: CountTokens) -> str:
    """As many phrases, or else words, from the beginning as fit."""
    phrases = text.split(", ")
    kept = ""
    for number in range(1, len(phrases) + 1):
        candidate = ", ".join(phrases[:number])
        if count(candidate).cut_text:
            break
        kept = candidate
    return kept or count(text).kept_text.rstrip(" ,")
