"""What BART does with a prompt: it was pre-trained to restore damaged text (Lewis et al. 2020).

bart = RewriterParts(BartForConditionalGeneration.from_pretrained(d).eval(), AutoTokenizer.from_pretrained(d))
fill(bart, "a [mask] cat on a [mask] background").texts
"""

from __future__ import annotations

import re
from dataclasses import replace

from webui.clip.watch import UNWATCHED, Watch
from webui.prompts.request import MASK, WritingSettings, mark_masks
from webui.prompts.rewriting import OnText, Rewriter, Written, write
from webui.prompts.t5 import READS_TOKENS, Rewritten, check_length

_MORE_ROUNDS = 3


def repair(
    rewriter: Rewriter,
    text: str,
    settings: WritingSettings = WritingSettings(),  # noqa: B008 - frozen
    watch: Watch = UNWATCHED,
    on_text: OnText | None = None,
    *,
    reads_tokens: int = READS_TOKENS,
) -> Rewritten:
    """Clean texts that could stand behind `text`: words in order, spelled right, with what is missing.

    Raises UserError when it is longer than the model reads at once.
    """
    check_length(rewriter, text, reads_tokens)
    return Rewritten(write(rewriter, text, settings, watch, on_text))


def fill(
    rewriter: Rewriter,
    text: str,
    settings: WritingSettings = WritingSettings(),  # noqa: B008
    watch: Watch = UNWATCHED,
    on_text: OnText | None = None,
    *,
    reads_tokens: int = READS_TOKENS,
) -> Rewritten:
    """Different texts with something at every "[mask]"; those that leave the rest as it was come first.

    Beams often differ in nothing that is read, so that more of them are tried until there are `settings.candidates`
    different texts, at most three times as many. Raises UserError when the text is longer than the model reads.
    """
    check_length(rewriter, text, reads_tokens)
    marked = mark_masks(text)
    source = marked.replace(MASK, rewriter.tokenizer.mask_token)
    found: dict[str, Written] = {}
    for round_number in range(1, _MORE_ROUNDS + 1):
        wider = replace(settings, candidates=settings.candidates * round_number, seed=settings.seed + round_number - 1)
        for answer in write(rewriter, source, wider, watch, on_text):
            found.setdefault(answer.text.lower(), answer)
        if len(found) >= settings.candidates:
            break
    kept = sorted(found.values(), key=lambda answer: (not keeps_rest(marked, answer.text), -answer.log_probability))
    return Rewritten(tuple(kept[: settings.candidates]))


def keeps_rest(marked: str, filled: str) -> bool:
    """Whether `filled` is `marked` with words at each "[mask]" and nothing else changed but capitals and spaces."""
    pattern = r"\s*".join(
        r"(\S.*?)" if piece == MASK else re.escape(piece) for piece in re.findall(r"\[mask\]|[^\s\[]+|\[", marked)
    )
    return re.fullmatch(pattern, filled.strip(), re.IGNORECASE) is not None
