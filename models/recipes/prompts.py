"""What people type, and what should become of it: the pairs of texts that T5 learns.

* "translate Thai to English: แมว พื้นหลังสีน้ำเงิน" -> "a cat on a blue background": the usual English name of each
  thing, whichever Thai name was used, in the usual wording. English words among the Thai stay what they are.
* "shorten: a beautiful small cat on the left, blue background, highly detailed" -> "cat": only the objects stay.
  Dropped are what the grammar makes optional (article, size, place, background) and praise (`PRAISE`, `TAILS`).
* "expand: cat blue" -> "a cat on a blue background": the grammar's usual wording for exactly the keywords that are
  there; nothing is invented.
* "a <extra_id_0> on a blue background" -> "<extra_id_0> cat": T5's own span filling, without a task's name.
"""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from models.recipes.captions import (
    EVERYTHING,
    Mention,
    Words,
    choose_words,
    random_mention,
    vocabulary_corpus,
    write,
)
from models.recipes.concepts import Concept
from models.recipes.rewriting import Rewriting
from models.recipes.scenes import Scene, random_scene
from models.recipes.text_tokenizer import SENTINELS

TRANSLATE, SHORTEN, EXPAND = "translate Thai to English: ", "shorten: ", "expand: "
TASKS = ("translate", "shorten", "expand", "spans")
SHARES = (0.5, 0.15, 0.25, 0.1)

PRAISE = ("cute", "beautiful", "pretty", "lovely", "shiny", "very cute", "funny", "realistic", "amazing")
TAILS = (
    "highly detailed",
    "best quality",
    "masterpiece",
    "digital art",
    "studio lighting",
    "soft light",
    "very sharp",
    "4k",
    "trending",
    "in the style of a painting",
    "emoji",
    "simple",
    "with a lot of detail",
)
TH_SPOKEN_SIZES = {"ขนาดเล็ก": ("ตัวเล็ก", "อันเล็ก"), "ขนาดใหญ่": ("ตัวใหญ่", "อันใหญ่")}
TH_SPOKEN_BACKGROUNDS = ("พื้นหลังสี", "ฉากหลังสี", "บนพื้นสี", "พื้นหลัง", "บนพื้นหลัง")
TH_INTRODUCTIONS = ("ภาพ", "รูป", "รูปภาพ", "ภาพวาด", "วาด", "ขอรูป")


class PromptWriter:
    """Makes rewritings of random scenes, from the training side of the split or from the held-out side."""

    def __init__(self, concepts: Sequence[Concept], rng: np.random.Generator, held_out: bool = False) -> None:
        self._concepts = concepts
        self._rng = rng
        self._held_out = held_out
        self._names = {name.lower() for concept in concepts for name in concept.names["en"]}

    def any(self) -> Rewriting:
        """One of the tasks, by `SHARES`."""
        return self.of(TASKS[self._rng.choice(len(TASKS), p=SHARES)])

    def of(self, task: str) -> Rewriting:
        """One rewriting of the task, one of `TASKS`."""
        scene, mention = self._composition()
        return getattr(self, f"_{task}")(scene, mention)

    def _composition(self) -> tuple[Scene, Mention]:
        """A held-out single object counts only with its place and its background said: that is what was never seen."""
        scene = random_scene(self._rng, len(self._concepts), pair_share=0.4, held_out=self._held_out)
        if self._held_out and not scene.is_pair:
            return scene, replace(EVERYTHING, size=bool(self._rng.random() < 0.5))
        return scene, replace(random_mention(self._rng), bare=False)

    def _flip(self, chance: float) -> bool:
        return bool(self._rng.random() < chance)

    def _pick(self, options: Sequence[str]) -> str:
        return options[self._rng.integers(len(options))]

    def _translate(self, scene: Scene, mention: Mention) -> Rewriting:
        usual = choose_words(scene, self._concepts, "en", mention)
        if self._flip(0.06):  # English already
            words = choose_words(scene, self._concepts, "en", mention, self._rng)
            return Rewriting(TRANSLATE + write(words, self._rng), write(words))
        thai = choose_words(scene, self._concepts, "th", mention, self._rng)
        if self._flip(0.12):  # English nouns in a Thai sentence
            english = choose_words(scene, self._concepts, "en", mention, self._rng)
            thai = replace(thai, nouns=tuple(f" {noun} " for noun in english.nouns))
            usual = replace(usual, nouns=english.nouns, articles=english.articles if not usual.size else usual.articles)
        return Rewriting(TRANSLATE + self._spoken(thai), write(usual))

    def _spoken(self, words: Words) -> str:
        """A Thai caption as people type it: spoken sizes, other words for the background, fewer spaces."""
        if self._flip(0.3):
            words = replace(words, size=self._pick(TH_SPOKEN_SIZES.get(words.size, (words.size,))))
            words = replace(words, places=tuple(f"{'อยู่' if self._flip(0.5) else ''}{p}" for p in words.places))
        background = ""
        if words.colour and self._flip(0.4):
            background = f" {self._pick(TH_SPOKEN_BACKGROUNDS)}{words.colour}"
            words = replace(words, colour="")
        text = write(words, self._rng) + background
        if self._flip(0.1):
            text = self._pick(TH_INTRODUCTIONS) + text
        if self._flip(0.3):
            text = "".join(c for c in text if c != " " or self._flip(0.4))
        return " ".join(text.split())

    def _shorten(self, scene: Scene, mention: Mention) -> Rewriting:
        words = choose_words(scene, self._concepts, "en", mention, self._rng)
        target = " and ".join(words.nouns)
        if words.articles and self._flip(0.4):
            praise = self._pick(PRAISE)
            article = {"": "", "a": "a", "an": "a"}[words.articles[0]] if praise[0] not in "aeiou" else "an"
            article = article if words.articles[0] else ""
            words = replace(words, articles=(f"{article} {praise}".strip(), *words.articles[1:]))
        text = write(words, self._rng)
        if self._flip(0.5):
            tails = self._rng.integers(1, 20 if self._flip(0.06) else 5)
            text = ", ".join([text, *(self._pick(TAILS) for _ in range(tails))])
        return Rewriting(SHORTEN + text, target)

    def _expand(self, scene: Scene, mention: Mention) -> Rewriting:
        words = choose_words(scene, self._concepts, "en", mention, self._rng)
        words = replace(words, places=choose_words(scene, self._concepts, "en", mention).places)
        while True:
            keywords = self._keywords(words)
            if not misread(keywords, words.nouns, self._names):
                return Rewriting(EXPAND + keywords, write(words))

    def _keywords(self, words: Words) -> str:
        """The content words alone, the nouns in their order, the others anywhere."""
        places = [place.split()[-1] for place in words.places]
        if words.is_pair and places:
            objects = [f"{noun} {place}" for noun, place in zip(words.nouns, places, strict=True)]
            others: list[str] = []
        else:
            objects, others = list(words.nouns), places
        others += [word for word in (words.size, words.colour) if word]
        joiner = self._pick((" ", " ", ", ", " and "))
        for word in self._rng.permutation(others).tolist():
            objects.insert(int(self._rng.integers(len(objects) + 1)), word)
        return joiner.join(objects) if joiner != " and " or not others else " ".join(objects)

    def _spans(self, scene: Scene, mention: Mention) -> Rewriting:
        words = choose_words(scene, self._concepts, "en", mention, self._rng)
        hidden = [word for word in (words.size, *words.nouns, *words.places, words.colour) if word]
        keep = max(1, min(len(hidden), int(self._rng.integers(1, 3))))
        chosen = {hidden[i] for i in self._rng.permutation(len(hidden))[:keep]}
        source = f" {write(words)} "
        spans = sorted((source.find(f" {word} "), word) for word in chosen)
        target = []
        for sentinel, (_, word) in zip(SENTINELS, spans, strict=False):
            source = source.replace(f" {word} ", f" {sentinel} ", 1)
            target.append(f"{sentinel} {word}")
        return Rewriting(source.strip(), " ".join(target))


def misread(text: str, nouns: Sequence[str], names: set[str]) -> bool:
    """Whether words that only happen to stand together name something else: "red" and "apple", "top" and "hat"."""
    spaced = f" {text.lower().replace(',', '')} "
    ours = {noun.lower() for noun in nouns}
    return any(
        f" {name} " in spaced
        for name in names
        if " " in name and name not in ours and not any(name in noun for noun in ours)
    )


def prompt_corpus(concepts: Sequence[Concept]) -> list[str]:
    """What the tokenizers of T5 and BART are trained on: the grammar's words and those of this file."""
    spoken = [phrase for phrases in TH_SPOKEN_SIZES.values() for phrase in phrases]
    extra = [*PRAISE, *TAILS, *spoken, *TH_SPOKEN_BACKGROUNDS, *TH_INTRODUCTIONS, "อยู่", TRANSLATE, SHORTEN, EXPAND]
    extra += ["next to", "a cat, a dog", "in the middle of the top"]
    return vocabulary_corpus(concepts) + extra * 50
