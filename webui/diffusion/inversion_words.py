"""Textual inversions in a prompt: a file's name stands for the vectors in it, as in A1111. Imports no torch."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final

_PRIVATE: Final = (range(0xE000, 0xF900), range(0xF0000, 0xFFFFE))
"""Characters that Unicode gives no meaning (private use)."""


@dataclass(frozen=True, slots=True)
class InversionWord:
    """A word that a file gives a meaning, and how many tokens it takes."""

    name: str
    vectors: int


@dataclass(frozen=True, slots=True)
class Span:
    """A stretch of a prompt; `word` is the inversion that stands there, None for ordinary text."""

    start: int
    end: int
    word: InversionWord | None


def spans(text: str, words: Sequence[InversionWord]) -> Iterator[Span]:
    """The text in order, cut before and after every inversion: whole words, in any case, the longest name first."""
    at = 0
    for match in _pattern(word.name for word in words).finditer(text) if words else ():
        if at < match.start():
            yield Span(at, match.start(), None)
        found = match[0].lower()
        yield Span(match.start(), match.end(), next(word for word in words if word.name.lower() == found))
        at = match.end()
    if at < len(text):
        yield Span(at, len(text), None)


def names_in(texts: Iterable[str], names: Sequence[str]) -> tuple[str, ...]:
    """Which of the names stand in the texts, each once, in lower case and in the order of appearance."""
    if not names:
        return ()
    pattern = _pattern(names)
    return tuple(dict.fromkeys(match[0].lower() for text in texts for match in pattern.finditer(text)))


class Expansion:
    """Texts in which each inversion is as many private characters as it has vectors: one token each.

    `letters` are those characters, the vectors of all words one behind the other.
    """

    def __init__(self, words: Sequence[InversionWord], texts: Iterable[str]) -> None:
        """`texts` are those that will be expanded: what they hold already stands for nothing else."""
        taken = set("".join(texts))
        free = (chr(code) for codes in _PRIVATE for code in codes if chr(code) not in taken)
        self._words = tuple(words)
        letters = {word.name: "".join(next(free) for _ in range(word.vectors)) for word in words}
        self._letters = MappingProxyType(letters)
        self.letters = "".join(letters.values())

    def expanded(self, text: str) -> str:
        """The text with private characters for its inversions."""
        return "".join(
            text[span.start : span.end] if span.word is None else self._letters[span.word.name]
            for span in spans(text, self._words)
        )

    def spread(self, text: str, values: Sequence[float]) -> list[float]:
        """Values of the characters of `text` as values of those of `expanded(text)`: a word has its first letter's."""
        found: list[float] = []
        for span in spans(text, self._words):
            own = values[span.start : span.end]
            found.extend(own if span.word is None else [own[0]] * span.word.vectors)
        return found

    def contracted(self, text: str) -> str:
        """The way back: the first character of a word is its name, the others are nothing."""
        for name, letters in self._letters.items():
            text = text.replace(letters, name)
            for number, letter in enumerate(letters):
                text = text.replace(letter, "" if number else name)
        return text

    def said(self, piece: str) -> str:
        """What a piece of an expanded text is called: "style" for its first vector, "style·2" for its second."""
        for name, letters in self._letters.items():
            if piece and piece in letters:
                number = letters.index(piece)
                return f"{name}·{number + 1}" if number else name
        return piece


def _pattern(names: Iterable[str]) -> re.Pattern[str]:
    longest_first = sorted(map(re.escape, names), key=len, reverse=True)
    return re.compile(rf"(?<!\w)(?:{'|'.join(longest_first)})(?!\w)", re.IGNORECASE)
