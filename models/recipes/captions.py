"""The grammar: from a scene to what a person would type, in English or Thai.

A caption always names the objects; size, place and background are said only when `Mention` says so. English puts the
size before the noun ("a small cat on the left, blue background"), Thai after it ("แมวตัวเล็ก" needs a classifier, so
"แมวขนาดเล็ก ด้านซ้าย พื้นหลังสีน้ำเงิน").
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import zip_longest

import numpy as np

from models.recipes.concepts import LANGUAGES, Concept
from models.recipes.scenes import BACKGROUNDS, Scene

Wordings = Mapping[str, tuple[str, ...]]
"""What an attribute may be called, the usual words first."""

EN_SIZES: Wordings = {"small": ("small", "little", "tiny"), "big": ("big", "large", "huge")}
TH_SIZES: Wordings = {"small": ("ขนาดเล็ก", "เล็ก"), "big": ("ขนาดใหญ่", "ใหญ่")}
EN_PLACES: Wordings = {
    "center": ("in the middle", "in the center"),
    "left": ("on the left",),
    "right": ("on the right",),
    "top": ("at the top", "on top"),
    "bottom": ("at the bottom",),
}
TH_PLACES: Wordings = {
    "center": ("ตรงกลาง",),
    "left": ("ด้านซ้าย", "ทางซ้าย"),
    "right": ("ด้านขวา", "ทางขวา"),
    "top": ("ด้านบน", "ข้างบน"),
    "bottom": ("ด้านล่าง", "ข้างล่าง"),
}


@dataclass(frozen=True)
class Mention:
    """Which attributes a caption says; `bare` leaves even the article out ("cat")."""

    size: bool = False
    place: bool = False
    background: bool = False
    bare: bool = False


NOTHING = Mention()
EVERYTHING = Mention(size=True, place=True, background=True)


def random_mention(rng: np.random.Generator, share: float = 0.5) -> Mention:
    """Each attribute mentioned with probability `share`; a tenth of the captions are bare nouns."""
    if rng.random() < 0.1:
        return Mention(bare=True)
    size, place, background = rng.random(3) < share
    return Mention(bool(size), bool(place), bool(background))


@dataclass(frozen=True)
class Words:
    """The content words of one caption; what a caption leaves out is empty.

    `places` holds one phrase an object. Which background phrase, which "and" is not content: `write` decides that.
    """

    language: str
    nouns: tuple[str, ...]
    articles: tuple[str, ...] = ()
    size: str = ""
    places: tuple[str, ...] = ()
    colour: str = ""

    @property
    def is_pair(self) -> bool:
        """Whether there are two objects."""
        return len(self.nouns) == 2


def describe(
    scene: Scene,
    concepts: Sequence[Concept],
    language: str,
    mention: Mention = EVERYTHING,
    rng: np.random.Generator | None = None,
) -> str:
    """One caption of the scene. Without `rng`: the usual names and the first wording of everything."""
    return write(choose_words(scene, concepts, language, mention, rng), rng)


class _Chooser:
    """Picks one of several wordings: the first, or a random one when there is a generator."""

    def __init__(self, rng: np.random.Generator | None) -> None:
        self._rng = rng

    def __call__(self, options: Sequence[str]) -> str:
        return options[0] if self._rng is None else options[int(self._rng.integers(len(options)))]

    def name(self, names: Sequence[str]) -> str:
        """Half of the time the usual name, otherwise any."""
        return names[0] if self._rng is None or self._rng.random() < 0.5 else self(names)


def choose_words(
    scene: Scene,
    concepts: Sequence[Concept],
    language: str,
    mention: Mention = EVERYTHING,
    rng: np.random.Generator | None = None,
) -> Words:
    """The words for what `mention` says about the scene: synonyms by `rng`, or the usual ones without it."""
    choose = _Chooser(rng)
    sizes, places = {"en": (EN_SIZES, EN_PLACES), "th": (TH_SIZES, TH_PLACES)}[language]
    shown = [concepts[placed.concept] for placed in scene.objects]
    nouns = [choose.name(concept.names[language]) for concept in shown]
    size, said_places = "", []
    first = scene.objects[0]
    if mention.size and not scene.is_pair and first.size in sizes:
        size = choose(sizes[first.size])
    if mention.place and not mention.bare:
        said_places = [places[p.place][0] if scene.is_pair else choose(places[p.place]) for p in scene.objects]
    articles = [concept.article_of(size or noun) for concept, noun in zip(shown, nouns, strict=True)]
    colour = getattr(BACKGROUNDS[scene.background], language) if mention.background else ""
    return Words(
        language=language,
        nouns=tuple(nouns),
        articles=() if mention.bare or language == "th" else tuple(articles),
        size=size,
        places=tuple(said_places),
        colour=colour,
    )


def write(words: Words, rng: np.random.Generator | None = None) -> str:
    """The caption with these words. Without `rng`: with the usual words between them."""
    return {"en": _write_en, "th": _write_th}[words.language](words, _Chooser(rng))


def _write_en(words: Words, choose: _Chooser) -> str:
    phrases = [
        " ".join(filter(None, parts))
        for parts in zip_longest(words.articles, (words.size,), words.nouns, words.places, fillvalue="")
    ]
    joiner = "and" if words.places or not words.articles else choose(("and", "and", "next to"))
    text = f" {joiner} ".join(phrases)
    if words.colour:
        text += choose(
            (f" on {article_before(words.colour)} {words.colour} background", f", {words.colour} background")
        )
    return text if not words.articles else choose(("", "", "", "", "", "", "", "a picture of ")) + text


def article_before(word: str) -> str:
    """The article "a" or "an", by the first letter."""
    return "an" if word[0].lower() in "aeiou" else "a"


def _write_th(words: Words, choose: _Chooser) -> str:
    if words.is_pair and words.places:
        text = " ".join(word for both in zip(words.nouns, words.places, strict=True) for word in both)
    elif words.is_pair:
        text = choose(("กับ", " กับ ", "และ", " และ ")).join(words.nouns)
    else:
        text = words.nouns[0]
        if words.size:
            text += choose(("", " ")) + words.size
        if words.places:
            text += " " + words.places[0]
    if words.colour:
        text += choose((" พื้นหลังสี", " บนพื้นหลังสี", " พื้นสี")) + words.colour
    return text


def vocabulary_corpus(concepts: Sequence[Concept]) -> list[str]:
    """Every name and every word of the grammar, on its own: what the tokenizer is trained on.

    Thai is written without spaces, so whole captions would teach the tokenizer glued pieces ("แมวก" of "แมวกับรถ").
    The words of the grammar are repeated because they are in every caption.
    """
    names = [name for concept in concepts for language in LANGUAGES for name in concept.names[language]]
    wordings = [EN_SIZES, TH_SIZES, EN_PLACES, TH_PLACES]
    grammar = [phrase for wording in wordings for phrases in wording.values() for phrase in phrases]
    grammar += [colour for background in BACKGROUNDS for colour in (background.en, background.th)]
    grammar += ["a picture of a cat and an owl next to the dog", "on a blue background"]
    grammar += ["กับ", "และ", "บน", "พื้นหลังสี", "พื้นสี"]
    return names * 4 + grammar * 50
