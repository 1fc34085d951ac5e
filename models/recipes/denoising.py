"""Captions that went wrong, and the clean captions: what BART learns.

A caption's words are shuffled, dropped, misspelled or masked (Lewis et al. 2020, https://arxiv.org/abs/1910.13461), and
BART writes the caption in the grammar's usual wording. A *closed* caption lost nothing that the rest does not tell:
only words of the grammar ("a", "on", "background") are dropped or masked, and no misspelled word is as near to another
word of the vocabulary. An *open* caption has a mask for a size, a noun, a place or a colour: it has many completions.
Two objects stand in the clean caption in the order in which the noisy one names them.
"""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from models.recipes.captions import (
    EVERYTHING,
    Words,
    article_before,
    choose_words,
    random_mention,
    vocabulary_corpus,
    write,
)
from models.recipes.concepts import LANGUAGES, Concept
from models.recipes.prompts import misread
from models.recipes.rewriting import Rewriting
from models.recipes.scenes import random_scene
from models.recipes.text_tokenizer import MASK

FUNCTION, CONTENT = "function", "content"
LETTERS = "abcdefghijklmnopqrstuvwxyz"
KINDS = ("shuffled", "dropped", "misspelled", "masked")
OPEN_SHARE = 0.25


@dataclass(frozen=True)
class Piece:
    """A word, or several that stay together (a noun). `noun` numbers the objects; other words have none."""

    text: str
    role: str
    noun: int | None = None


class Noise:
    """Makes noisy captions of random scenes, from the training side of the split or from the held-out side."""

    def __init__(self, concepts: Sequence[Concept], rng: np.random.Generator, held_out: bool = False) -> None:
        self._concepts = concepts
        self._rng = rng
        self._held_out = held_out
        self._names = {name.lower() for concept in concepts for name in concept.names["en"]}
        self._vocabulary = {word for text in vocabulary_corpus(concepts) for word in _words(text)}
        self._meant: dict[str, set[str]] = defaultdict(set)  # by typed word, for all English words and their slips
        for word in filter(str.isascii, self._vocabulary):
            for typed in one_slip_from(word) | {word}:
                self._meant[typed].add(word)

    def any(self) -> Rewriting:
        """In training every fourth caption is open; held-out ones are closed, so that exact match means something."""
        if not self._held_out and self._flip(OPEN_SHARE):
            return self.open()
        kinds = [kind for kind in KINDS if self._flip(0.45)] or [KINDS[self._rng.integers(len(KINDS))]]
        return self.closed(kinds)

    def closed(self, kinds: Sequence[str]) -> Rewriting:
        """A caption with these kinds of noise, of which nothing is lost."""
        while True:
            words = self._random_words()
            pieces, words = self._arranged(words, shuffled="shuffled" in kinds)
            if "dropped" in kinds:
                pieces = [p for p in pieces if p.role == CONTENT or self._flip(0.5)]
            if "misspelled" in kinds:
                pieces = self._misspelled(pieces)
            if "masked" in kinds:
                pieces = [replace(p, text=MASK) if p.role == FUNCTION and self._flip(0.4) else p for p in pieces]
            text = self._joined(pieces, words.language)
            understood = words.language == "th" or not misread(text, words.nouns, self._names)
            if understood and text != write(words):
                return Rewriting(text, write(words))

    def open(self) -> Rewriting:
        """A clean caption with one or two of its content words masked."""
        words = self._random_words()
        pieces = pieces_of(words)
        content = [i for i, piece in enumerate(pieces) if piece.role == CONTENT]
        hidden = set(self._rng.permutation(content)[: self._rng.integers(1, 3)].tolist())
        masked = [replace(piece, text=MASK) if i in hidden else piece for i, piece in enumerate(pieces)]
        return Rewriting(self._joined(masked, words.language), write(words))

    def _random_words(self) -> Words:
        scene = random_scene(self._rng, len(self._concepts), pair_share=0.4, held_out=self._held_out)
        language = LANGUAGES[0 if self._flip(0.7) else 1]
        mention = replace(random_mention(self._rng), bare=False)
        if self._held_out and not scene.is_pair:
            mention = replace(EVERYTHING, size=self._flip(0.5))
        words = choose_words(scene, self._concepts, language, mention, self._rng)
        return replace(words, places=choose_words(scene, self._concepts, language, mention).places)

    def _arranged(self, words: Words, *, shuffled: bool) -> tuple[list[Piece], Words]:
        """The pieces in the order that the noise gives them, and the words with the nouns in that order.

        Two objects with places are never shuffled: nothing would tell which is where.
        """
        pieces = pieces_of(words)
        if not shuffled or (words.is_pair and words.places):
            return pieces, words
        if self._flip(0.5):
            pieces = [pieces[i] for i in self._rng.permutation(len(pieces))]
        else:
            for i in range(len(pieces) - 1):
                if self._flip(0.4):
                    pieces[i], pieces[i + 1] = pieces[i + 1], pieces[i]
        order = [piece.noun for piece in pieces if piece.noun is not None]
        nouns = tuple(words.nouns[i] for i in order)
        return pieces, replace(words, nouns=nouns, articles=tuple(words.articles[i] for i in order if words.articles))

    def _misspelled(self, pieces: list[Piece]) -> list[Piece]:
        """At least one word that is long enough, others now and then."""
        long_enough = [i for i, piece in enumerate(pieces) if len(piece.text) >= 4]
        sure = int(self._rng.choice(long_enough)) if long_enough else None
        chosen = {i for i in long_enough if i == sure or self._flip(0.2)}
        return [replace(p, text=self._misspell(p.text)) if i in chosen else p for i, p in enumerate(pieces)]

    def _misspell(self, text: str) -> str:
        """The text with one slip of the finger after which no other word is as near; unchanged if five tries fail."""
        for _ in range(5):
            at = int(self._rng.integers(1, len(text)))
            slip = int(self._rng.integers(4))
            if slip == 0:
                typed = text[:at] + text[at + 1 :]
            elif slip == 1:
                typed = text[:at] + text[at - 1] + text[at:]
            elif slip == 2:
                typed = text[: at - 1] + text[at] + text[at - 1] + text[at + 1 :]
            else:
                typed = text[:at] + LETTERS[self._rng.integers(26)] + text[at + 1 :]
            if text.isascii() and typed != text and not self._means_another(typed, text):
                return typed
            if not text.isascii() and slip < 2 and typed not in self._vocabulary:
                return typed
        return text

    def _means_another(self, typed: str, text: str) -> bool:
        """Whether a word of the typed text is a word of the vocabulary, or one slip from one, that `text` has not."""
        ours = set(_words(text))
        return any(self._meant.get(word, set()) - ours for word in set(_words(typed)) - ours)

    def _joined(self, pieces: Sequence[Piece], language: str) -> str:
        """English with spaces, Thai with some."""
        text = ""
        for piece in pieces:
            glued = language == "th" and MASK not in (piece.text, text[-len(MASK) :]) and self._flip(0.5)
            text += piece.text if glued or not text else f" {piece.text}"
        return text

    def _flip(self, chance: float) -> bool:
        return bool(self._rng.random() < chance)


def pieces_of(words: Words) -> list[Piece]:
    """A caption in its usual wording as pieces, in order."""
    pieces: list[Piece] = []
    for number, noun in enumerate(words.nouns):
        article = words.articles[number] if words.articles else ""
        place = words.places[number].split() if words.places else []
        size = words.size if number == 0 else ""
        if number:
            joiner = "and" if words.language == "en" else "" if words.places else "กับ"
            pieces.append(Piece(joiner, FUNCTION))
        before = [Piece(article, FUNCTION), Piece(size, CONTENT)]
        after = [Piece(noun, CONTENT, noun=number)]
        pieces += [*before, *after] if words.language == "en" else [*after, *before]
        pieces += [Piece(word, FUNCTION) for word in place[:-1]] + [Piece(word, CONTENT) for word in place[-1:]]
    if words.colour:
        english = ("on", article_before(words.colour), words.colour, "background")
        background = english if words.language == "en" else ("พื้นหลังสี", words.colour)
        pieces += [Piece(word, CONTENT if word == words.colour else FUNCTION) for word in background]
    return [piece for piece in pieces if piece.text]


def one_slip_from(word: str) -> set[str]:
    """Every text that a dropped, doubled or other letter or two swapped letters make of the word."""
    splits = [(word[:i], word[i:]) for i in range(len(word) + 1)]
    return (
        {a + b[1:] for a, b in splits if b}
        | {a + b[1] + b[0] + b[2:] for a, b in splits if len(b) > 1}
        | {a + c + b[1:] for a, b in splits if b for c in LETTERS}
        | {a + c + b for a, b in splits for c in LETTERS}
    )


def _words(text: str) -> list[str]:
    return text.lower().split()
