"""What T5 does with a prompt: translate, shorten, expand, and fill spans.

T5 is told by a prefix what to do (Raffel et al. 2020); the prefixes here are those of the emoji suite, and
`abilities.py` has those of other models. From a notebook:

    t5 = RewriterParts(T5ForConditionalGeneration.from_pretrained(d).eval(), AutoTokenizer.from_pretrained(d))
    translate(t5, "แมว พื้นหลังสีน้ำเงิน")[0].text
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from typing import Final

from webui.clip.watch import UNWATCHED, Watch
from webui.errors import UserError
from webui.prompts.request import MASK, WritingSettings, mark_masks
from webui.prompts.rewriting import OnText, Rewriter, Written, count_tokens, write
from webui.prompts.segments import segments

READS_TOKENS: Final = 96
_SENTINEL: Final = re.compile(r"<extra_id_(\d+)>")
_FRAMED: Final = re.compile(r"<pad>|</s>")


@dataclass(frozen=True, slots=True)
class Rewritten:
    """Texts, the likeliest first; `parts` > 1 when the source was read in that many parts, since it is so long."""

    texts: tuple[Written, ...]
    parts: int = 1


def translate(
    rewriter: Rewriter,
    text: str,
    settings: WritingSettings = WritingSettings(),  # noqa: B008 - frozen
    watch: Watch = UNWATCHED,
    on_text: OnText | None = None,
    *,
    prefix: str = "translate Thai to English: ",
    reads_tokens: int = READS_TOKENS,
) -> Rewritten:
    """The text in the language that the prefix names; a text longer than `reads_tokens` is translated in parts."""
    return rewrite_in_parts(rewriter, text, settings, watch, on_text, prefix=prefix, reads_tokens=reads_tokens)


def shorten(
    rewriter: Rewriter,
    text: str,
    settings: WritingSettings = WritingSettings(),  # noqa: B008
    watch: Watch = UNWATCHED,
    on_text: OnText | None = None,
    *,
    prefix: str = "shorten: ",
    reads_tokens: int = READS_TOKENS,
) -> Rewritten:
    """The text in fewer words, once; `improve.shorten_to_fit` goes on until it fits."""
    return rewrite_in_parts(rewriter, text, settings, watch, on_text, prefix=prefix, reads_tokens=reads_tokens)


def expand(
    rewriter: Rewriter,
    text: str,
    settings: WritingSettings = WritingSettings(),  # noqa: B008
    watch: Watch = UNWATCHED,
    on_text: OnText | None = None,
    *,
    prefix: str = "expand: ",
    reads_tokens: int = READS_TOKENS,
) -> Rewritten:
    """Keywords as a full caption. Raises UserError when they are more than the model reads at once."""
    check_length(rewriter, text, reads_tokens)
    return Rewritten(write(rewriter, prefix + text, settings, watch, on_text))


def fill_spans(
    rewriter: Rewriter,
    text: str,
    settings: WritingSettings = WritingSettings(),  # noqa: B008
    watch: Watch = UNWATCHED,
    on_text: OnText | None = None,
    *,
    reads_tokens: int = READS_TOKENS,
) -> Rewritten:
    """The text with something for every "[mask]": T5 was pre-trained to say what stood at each sentinel.

    Answers that leave a mask empty are left out. Raises UserError for more masks than the model has sentinels, and when
    no answer fills all of them.
    """
    check_length(rewriter, text, reads_tokens)
    pieces = mark_masks(text).split(MASK)
    known = set(rewriter.tokenizer.get_vocab())
    sentinels = [f"<extra_id_{number}>" for number in range(len(pieces) - 1)]
    if not known.issuperset(sentinels):
        raise UserError("error.too_many_masks", count=len(sentinels))
    source = pieces[0] + "".join(s + piece for s, piece in zip(sentinels, pieces[1:], strict=True))

    def told(texts: tuple[str, ...]) -> None:
        if on_text is not None:
            on_text(texts)

    answers = write(rewriter, source, settings, watch, told, keep_special_tokens=True)
    filled: dict[str, Written] = {}
    for answer in answers:
        spans = read_spans(answer.text)
        if all(spans.get(number) for number in range(len(sentinels))):
            whole = pieces[0] + "".join(spans[number] + piece for number, piece in enumerate(pieces[1:]))
            filled.setdefault(whole, Written(whole, answer.log_probability))
    if not filled:
        raise UserError("error.masks_not_filled")
    return Rewritten(tuple(filled.values()))


def read_spans(answer: str) -> dict[int, str]:
    """What a T5 says for each sentinel: "<extra_id_0> small <extra_id_1> blue" -> {0: "small", 1: "blue"}."""
    found = _SENTINEL.split(_FRAMED.sub("", answer))
    spans: dict[int, str] = {}
    for number, words in zip(found[1::2], found[2::2], strict=True):
        spans.setdefault(int(number), " ".join(words.split()))
    return spans


def rewrite_in_parts(
    rewriter: Rewriter,
    text: str,
    settings: WritingSettings,
    watch: Watch,
    on_text: OnText | None,
    *,
    prefix: str,
    reads_tokens: int,
) -> Rewritten:
    """`write` for a text of any length: several candidates for a short one, one that is joined from parts else."""
    parts = segments(text, lambda piece: count_tokens(rewriter, piece), reads_tokens)
    if len(parts) == 1:
        return Rewritten(write(rewriter, prefix + text, settings, watch, on_text))
    one = replace(settings, candidates=1)
    written: list[Written] = []
    for number, part in enumerate(parts):
        watch.check()
        found = write(rewriter, prefix + part.strip(), one, watch) if part.strip() else ()
        written += found[:1]
        watch.progress(number + 1, len(parts), "phase.writing_parts")
        if on_text is not None:
            on_text((", ".join(answer.text for answer in written),))
    if not written:
        return Rewritten((), len(parts))
    mean = sum(answer.log_probability for answer in written) / len(written)
    return Rewritten((Written(", ".join(answer.text for answer in written), mean),), len(parts))


def check_length(rewriter: Rewriter, text: str, reads_tokens: int) -> None:
    """Raise UserError for a text that is longer than the model reads at once."""
    tokens = count_tokens(rewriter, text)
    if tokens > reads_tokens:
        raise UserError("error.prompt_too_long_for_model", tokens=tokens, limit=reads_tokens)
