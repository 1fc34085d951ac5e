"""Which rows the attention maps have, and which of them make one word of the prompt."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, Final

from webui.clip.tokens import Piece, TokenizedText, tokenize
from webui.diffusion.inversion_words import Expansion
from webui.diffusion.trace_header import TraceToken

_THAI: Final = re.compile(r"[\u0e00-\u0e7f]")
# fmt: off
_THAI_WORDS: Final = (
    "และ", "กับ", "บน", "ใน", "ที่", "ของ", "มี", "สี", "พื้น", "พื้นหลัง", "ภาพ", "รูป", "ตัว", "เล็ก", "ใหญ่",
    "ขนาดเล็ก", "ขนาดใหญ่", "ตรงกลาง", "ด้านซ้าย", "ทางซ้าย", "ด้านขวา", "ทางขวา", "ด้านบน", "ข้างบน", "ด้านล่าง",
    "ข้างล่าง", "แดง", "ส้ม", "เหลือง", "เขียว", "น้ำเงิน", "ฟ้า", "ม่วง", "ชมพู", "น้ำตาล", "ดำ", "ขาว", "เทา",
)
# fmt: on


def prompt_rows(
    tokenizer: Any, prompt: str, positions: int, lexicon: Iterable[str] = ()
) -> tuple[tuple[TraceToken, ...], tuple[str, ...], str]:
    """The rows of a prompt's maps, its words, and the end of it that the model does not see.

    Rows: the start token, every piece of the prompt, the end token, and all padding as one. Words are runs without
    white space or punctuation; Thai, which is written without spaces, is split where words of `lexicon` and the
    commonest of picture prompts are found, the longest first. A textual inversion is one word of several pieces.
    """
    inversions = getattr(tokenizer, "expansion", None) or Expansion((), ())
    tokenized = tokenize(tokenizer, inversions.expanded(prompt), positions)
    text = "".join(letter.character for letter in tokenized.letters)
    known = {_normal(word) for word in (*_THAI_WORDS, *lexicon) if _THAI.search(word)}
    spans = tuple(_word_spans(text, known))
    owners = [_owner(piece, spans) for piece in tokenized.pieces]
    used = sorted({owner for owner in owners if owner is not None})
    number = {span: index for index, span in enumerate(used)}
    tokens = [
        TraceToken(
            inversions.said(_letters(piece, tokenized)),
            _kind(place, piece, tokenized.pieces),
            place,
            1,
            number.get(owner),  # type: ignore[arg-type]
        )
        for place, (piece, owner) in enumerate(zip(tokenized.pieces, owners, strict=True))
    ]
    if len(tokens) < positions:
        tokens.append(TraceToken("", "padding", len(tokens), positions - len(tokens), None))
    words = tuple(inversions.contracted(text[slice(*spans[span])]) for span in used)
    return tuple(tokens), words, inversions.contracted(tokenized.cut_text)


def _normal(text: str) -> str:
    return unicodedata.normalize("NFC", text).lower()


def _letters(piece: Piece, tokenized: TokenizedText) -> str:
    return "".join(letter.character for letter in tokenized.letters[piece.start : piece.end]).strip()


def _kind(place: int, piece: Piece, pieces: Sequence[Piece]) -> Any:
    if not piece.is_special:
        return "word"
    return "start" if place == 0 else "end" if place == len(pieces) - 1 else "word"


def _owner(piece: Piece, spans: Sequence[tuple[int, int]]) -> int | None:
    """The word that the piece shares most letters with, the first of equals; None for punctuation."""
    overlaps = [min(piece.end, end) - max(piece.start, start) for start, end in spans]
    best = max(overlaps, default=0)
    return overlaps.index(best) if best > 0 and not piece.is_special else None


def _word_spans(text: str, known: set[str]) -> Iterator[tuple[int, int]]:
    for match in re.finditer(r"\S+", text):
        start = match.start()
        for position in range(match.start(), match.end() + 1):
            if position == match.end() or unicodedata.category(text[position]).startswith("P"):
                yield from _split_thai(text, start, position, known)
                start = position + 1


def _split_thai(text: str, start: int, end: int, known: set[str]) -> Iterator[tuple[int, int]]:
    """The span cut before and after each known word; what lies between stays together."""
    longest = max(map(len, known), default=0)
    position = start
    while position < end:
        window = range(min(longest, end - position), 0, -1)
        size = next((size for size in window if text[position : position + size] in known), 0)
        if size and not unicodedata.combining(text[position]):
            if start < position:
                yield start, position
            yield position, position + size
            start = position = position + size
        else:
            position += 1
    if start < end:
        yield start, end
