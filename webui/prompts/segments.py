"""Cuts a long text where a reader would: at line ends, sentences, commas, then spaces, then anywhere."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from typing import Final

_CUTS: Final = (r"[^\n]*\n+|[^\n]+", r"[^.!?]*[.!?]+\s*|[^.!?]+", r"[^,;]*[,;]\s*|[^,;]+", r"\S*\s+|\S+")


def segments(text: str, count: Callable[[str], int], limit: int) -> tuple[str, ...]:
    """Stretches of at most `limit` tokens, as `count` counts them, that together are the text.

    Each is as long as it may be; a single word that is too long is cut in halves until it fits.
    """
    packed: list[str] = []
    size = 0
    for piece in _pieces(text, count, limit, 0):
        tokens = count(piece)
        if packed and size + tokens <= limit:
            packed[-1] += piece
            size += tokens
        else:
            packed.append(piece)
            size = tokens
    return tuple(packed)


def _pieces(text: str, count: Callable[[str], int], limit: int, cut: int) -> Iterator[str]:
    if count(text) <= limit or len(text) < 2:
        yield text
        return
    if cut < len(_CUTS):
        parts = re.findall(_CUTS[cut], text)
    else:
        parts = [text[: len(text) // 2], text[len(text) // 2 :]]
    for part in parts:
        yield from _pieces(part, count, limit, cut + 1)
