"""The grammar: from a scene to what a person would type, in English or Thai.

A caption always names the objects; size, place and background are said only when `Mention` says so. English puts the
size before the noun ("a small cat on the left, blue background"), Thai after it ("แมวตัวเล็ก" needs a classifier, so
"แมวขนาดเล็ก ด้านซ้าย พื้นหลังสีน้ำเงิน").
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from models.recipes.concepts import LANGUAGES, Concept
from models.recipes.scenes import BACKGROUNDS, Placed, Scene

EN_SIZES = {"small": ("small", "little", "tiny"), "big": ("big", "large", "huge")}
TH_SIZES = {"small": ("ขนาดเล็ก", "เล็ก"), "big": ("ขนาดใหญ่", "ใหญ่")}
EN_PLACES = {
    "center": ("in the middle", "in the center"),
    "left": ("on the left",),
    "right": ("on the right",),
    "top": ("at the top", "on top"),
    "bottom": ("at the bottom",),
}
TH_PLACES = {
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


def describe(
    scene: Scene,
    concepts: Sequence[Concept],
    language: str,
    mention: Mention = EVERYTHING,
    rng: np.random.Generator | None = None,
) -> str:
    """One caption of the scene. Without `rng`: the usual names and the first wording of everything."""
    write = {"en": _describe_en, "th": _describe_th}[language]
    return write(scene, concepts, mention, _Chooser(rng))


class _Chooser:
    """Picks one of several wordings: the first, or a random one when there is a generator."""

    def __init__(self, rng: np.random.Generator | None) -> None:
        self._rng = rng

    def __call__(self, options: Sequence[str]) -> str:
        return options[0] if self._rng is None else options[self._rng.integers(len(options))]

    def name(self, names: Sequence[str]) -> str:
        """Half of the time the usual name, otherwise any."""
        return names[0] if self._rng is None or self._rng.random() < 0.5 else self(names)


def _describe_en(scene: Scene, concepts: Sequence[Concept], mention: Mention, choose: _Chooser) -> str:
    if mention.bare:
        return " and ".join(choose.name(concepts[placed.concept].names["en"]) for placed in scene.objects)
    phrases = [_phrase_en(placed, concepts[placed.concept], mention, scene, choose) for placed in scene.objects]
    text = f" {choose(('and', 'and', 'next to'))} ".join(phrases)
    if scene.is_pair and mention.place:
        text = " and ".join(
            f"{phrase} {EN_PLACES[p.place][0]}" for phrase, p in zip(phrases, scene.objects, strict=True)
        )
    if mention.background:
        colour = BACKGROUNDS[scene.background].en
        article = "an" if colour[0] in "aeiou" else "a"
        text += choose((f" on {article} {colour} background", f", {colour} background"))
    return choose(("", "", "", "", "", "", "", "a picture of ")) + text


def _phrase_en(placed: Placed, concept: Concept, mention: Mention, scene: Scene, choose: _Chooser) -> str:
    name = choose.name(concept.names["en"])
    if scene.is_pair:
        return concept.english_phrase(name)
    adjective = choose(EN_SIZES[placed.size]) if mention.size and placed.size in EN_SIZES else ""
    words = f"{adjective} {name}".strip()
    phrase = f"{concept.article_of(adjective or name)} {words}".strip()
    return f"{phrase} {choose(EN_PLACES[placed.place])}" if mention.place else phrase


def _describe_th(scene: Scene, concepts: Sequence[Concept], mention: Mention, choose: _Chooser) -> str:
    names = [choose.name(concepts[placed.concept].names["th"]) for placed in scene.objects]
    if scene.is_pair:
        text = choose(("กับ", " กับ ", "และ", " และ ")).join(names)
        if mention.place and not mention.bare:
            text = " ".join((names[0], TH_PLACES["left"][0], names[1], TH_PLACES["right"][0]))
    else:
        placed = scene.objects[0]
        text = names[0]
        if mention.size and placed.size in TH_SIZES:
            text += choose(("", " ")) + choose(TH_SIZES[placed.size])
        if mention.place:
            text += " " + choose(TH_PLACES[placed.place])
    if mention.background:
        text += choose((" พื้นหลังสี", " บนพื้นหลังสี", " พื้นสี")) + BACKGROUNDS[scene.background].th
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
