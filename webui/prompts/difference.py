"""What a candidate changed in a prompt: words dropped, words added, the rest the same. Standard library alone."""

from __future__ import annotations

import re
from dataclasses import dataclass
from difflib import SequenceMatcher
from enum import StrEnum
from typing import Final

# Thai runs words together: its unit here is what a reader sees as one character, a consonant with the vowels and tone
# marks above and below it (the combining ones of U+0E31 to U+0E4E). Elsewhere a word, a number or a mark is one.
_PIECES: Final = re.compile(
    "[\u0e00-\u0e30\u0e32\u0e33\u0e3f-\u0e46\u0e4f-\u0e7f][\u0e31\u0e34-\u0e3a\u0e47-\u0e4e]*"
    r"|(?:(?![\u0e00-\u0e7f])\w)+(?:['’](?:(?![\u0e00-\u0e7f])\w)+)*|\s+|."
)
_POPULAR_WORDS_MATTER_BELOW: Final = 2000


class Kind(StrEnum):
    """What became of a stretch of text."""

    SAME = "same"
    DROPPED = "dropped"
    ADDED = "added"


@dataclass(frozen=True, slots=True)
class Stretch:
    """Neighbouring pieces with one fate. SAME and DROPPED together are the original, SAME and ADDED the candidate."""

    kind: Kind
    text: str


def pieces(text: str) -> list[str]:
    """The text cut into words, marks and spaces, Thai into the characters that a reader sees; nothing is lost."""
    return _PIECES.findall(text.replace("\n", " "))


def has_thai(text: str) -> bool:
    """Whether there is Thai in the text (U+0E00 to U+0E7F)."""
    return any("\u0e00" <= character <= "\u0e7f" for character in text)


def differences(original: str, candidate: str) -> tuple[Stretch, ...]:
    """The stretches in reading order; what was replaced comes as DROPPED, then ADDED. Capitals do not count."""
    before, after = pieces(original), pieces(candidate)
    matcher = SequenceMatcher(
        None,
        [piece.lower() for piece in before],
        [piece.lower() for piece in after],
        autojunk=len(before) + len(after) > _POPULAR_WORDS_MATTER_BELOW,
    )
    found: list[Stretch] = []
    for tag, i, j, k, m in matcher.get_opcodes():
        if tag == "equal":
            found.append(Stretch(Kind.SAME, "".join(after[k:m])))
            continue
        if i < j:
            found.append(Stretch(Kind.DROPPED, "".join(before[i:j])))
        if k < m:
            found.append(Stretch(Kind.ADDED, "".join(after[k:m])))
    return tuple(found)


def dropped(original: str, candidate: str) -> tuple[str, ...]:
    """The stretches of the original that the candidate left out, without the spaces and marks around them."""
    texts = (stretch.text.strip(" ,.;") for stretch in differences(original, candidate) if stretch.kind is Kind.DROPPED)
    return tuple(text for text in texts if text)
