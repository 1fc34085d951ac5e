"""A sentence taken apart: letters, the bytes they become, the pieces and their ids, in reading order."""

from __future__ import annotations

import unicodedata

from webui.clip.tokens import Piece, TokenizedText, joined_pieces
from webui.i18n import Translator
from webui.views.markup import element, text

_DOTTED_CIRCLE = "\u25cc"  # carries a vowel sign or tone mark that would otherwise have nothing to stand on


def render_token_strip(tokenized: TokenizedText, say: Translator) -> str:
    """One box a piece; pieces that share a letter stand joined in one. What was cut stands behind the strip."""
    groups = joined_pieces(tokenized)
    boxes = [_box(group, tokenized, say) for group in groups]
    joined = element("p", text(say.text("score.tokens.joined")), class_="score-hint")
    count = element(
        "p", text(say.text("score.tokens.count", used=tokenized.used, limit=tokenized.limit)), class_="score-hint"
    )
    cut = element("p", text(say.text("score.tokens.cut")), " ", element("del", text(tokenized.cut_text)), dir="auto")
    strip = element("ol", *boxes, class_="token-strip")
    return element(
        "div", strip, joined if any(len(group) > 1 for group in groups) else "", count, cut if tokenized.is_cut else ""
    )


def _box(group: tuple[int, ...], tokenized: TokenizedText, say: Translator) -> str:
    pieces = [tokenized.pieces[i] for i in group]
    if pieces[0].is_special:
        chip = element(
            "span", element("code", text(pieces[0].spelling)), element("small", text(str(pieces[0].token_id)))
        )
        return element(
            "li", element("span", text(_role(group[0], tokenized, say)), class_="letters"), chip, class_="special"
        )
    letters = tokenized.letters[pieces[0].start : max(piece.end for piece in pieces)]
    shown = _visible("".join(letter.character for letter in letters))
    raw = " ".join(f"{byte:02X}" for byte in b"".join(letter.raw for letter in letters))
    chips = [
        element("span", element("code", text(_spelled(piece))), element("small", text(str(piece.token_id))))
        for piece in pieces
    ]
    joined = len(pieces) > 1
    return element(
        "li",
        element("span", text(shown), class_="letters", dir="auto"),
        element("span", text(raw), class_="bytes"),
        element("span", *chips, class_="pieces"),
        class_="joined" if joined else "",
    )


def _role(index: int, tokenized: TokenizedText, say: Translator) -> str:
    """What a token that stands for no letter is for."""
    if index == len(tokenized.pieces) - 1:
        return say.text("score.tokens.end")
    return say.text("score.tokens.start" if index == 0 else "score.tokens.unknown")


def _spelled(piece: Piece) -> str:
    """The piece as text when its bytes are whole letters, else as hexadecimal bytes; `</w>` ends a word."""
    try:
        body = _visible(piece.raw.decode("utf-8"))
    except UnicodeDecodeError:
        body = " ".join(f"{byte:02X}" for byte in piece.raw)
    return body + ("</w>" if piece.ends_word else "")


def _visible(words: str) -> str:
    return _DOTTED_CIRCLE + words if words and unicodedata.category(words[0]).startswith("M") else words
