"""A classifier's labels: what they are called, and which of them a prompt names.

A suite's model has the concepts of `concepts.json` as labels, with synonyms in English and Thai. Any other model has
the English of its own configuration, such as ImageNet's "tabby, tabby cat": then a prompt's word is looked for among
the synonyms and their last words. Both are looked up greedily, the longest name first, from left to right.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Final

from webui.clip.concepts import Concept

# Words of the caption grammar and of everyday prompts that name no thing, so that nobody expects them among the labels.
_EN_FUNCTION_WORDS: Final = (
    " a an the of on in at by to with and or next near beside behind under over above below front into from is are it "
    "its his her their this that some very picture photo image drawing painting illustration background middle center "
    "centre left right top bottom small little tiny big large huge no not for one two three "
)
_TH_FUNCTION_WORDS: Final = (
    "พื้นหลัง", "พื้น", "ขนาดเล็ก", "ขนาดใหญ่", "ขนาด", "เล็ก", "ใหญ่", "ตรงกลาง",
    "ด้านซ้าย", "ด้านขวา", "ด้านบน", "ด้านล่าง", "ทางซ้าย", "ทางขวา", "ข้างบน", "ข้างล่าง", "ข้าง",
    "และ", "กับ", "บน", "ใน", "ที่", "ของ", "อยู่", "ตัว", "ภาพ", "รูป", "ใต้", "สี",
)  # fmt: skip
_THAI: Final = re.compile("[\u0e01-\u0e5b]")
_CONTINUES_SYLLABLE: Final = re.compile("[\u0e30-\u0e3a\u0e47-\u0e4e]")
_LEADING_VOWELS: Final = "\u0e40\u0e41\u0e42\u0e43\u0e44"


@dataclass(frozen=True, slots=True)
class Colour:
    """A colour that prompts name, with an sRGB value in the middle of what people call so."""

    en: str
    th: str
    rgb: tuple[int, int, int]

    def name(self, language: str) -> str:
        """What it is called."""
        return self.th if language == "th" else self.en


COLOURS: Final = (
    Colour("red", "แดง", (222, 52, 52)),
    Colour("orange", "ส้ม", (244, 144, 44)),
    Colour("yellow", "เหลือง", (250, 222, 72)),
    Colour("green", "เขียว", (58, 168, 84)),
    Colour("blue", "น้ำเงิน", (48, 98, 216)),
    Colour("purple", "ม่วง", (138, 70, 196)),
    Colour("pink", "ชมพู", (248, 164, 204)),
    Colour("brown", "น้ำตาล", (132, 84, 50)),
    Colour("black", "ดำ", (24, 24, 26)),
    Colour("white", "ขาว", (248, 248, 248)),
    Colour("gray", "เทา", (146, 148, 152)),
)
_OTHER_COLOUR_WORDS: Final = {"grey": "gray", "violet": "purple", "ฟ้า": "blue"}


@dataclass(frozen=True, slots=True)
class Noun:
    """A thing that the prompt names, as it is written there, and the labels that stand for it (any of them will do)."""

    written: str
    labels: frozenset[int]


@dataclass(frozen=True, slots=True)
class PromptNouns:
    """What of a prompt can be looked for: `found` nouns, and the rest of its words, `unknown` to the label set.

    `background` is the colour that the prompt wants behind everything, if it says one.
    """

    found: tuple[Noun, ...]
    unknown: tuple[str, ...]
    background: Colour | None = None


@dataclass(frozen=True)
class LabelSet:
    """`names` are the model's own, in the order of its logits; `concepts` what its suite knows, () for other models."""

    names: tuple[str, ...]
    concepts: tuple[Concept, ...] = ()

    @property
    def speaks_thai(self) -> bool:
        """Whether prompts in Thai can be checked."""
        return any(concept is not None for concept in self._by_label)

    def name(self, index: int, language: str) -> str:
        """What a label is called: a concept's usual name in the language, otherwise the label as the model has it."""
        concept = self._by_label[index]
        return concept.names[language][0] if concept is not None and concept.names[language] else self.names[index]

    def spoken_names(self, index: int) -> dict[str, str]:
        """The usual name of a concept in each language; {} for a label that is no concept."""
        concept = self._by_label[index]
        return {language: names[0] for language, names in concept.names.items() if names} if concept else {}

    def emoji(self, index: int) -> str:
        """The concept's emoji; "" for a label that is none."""
        concept = self._by_label[index]
        return concept.emoji if concept is not None else ""

    def find(self, prompt: str) -> PromptNouns:
        """The things that `prompt` names, each once, in order."""
        written = unicodedata.normalize("NFC", prompt)
        found: dict[frozenset[int], Noun] = {}
        unknown: list[str] = []
        for words in self._pieces(written):
            labels = self._lexicon.get(words.casefold())
            if labels:
                found.setdefault(labels, Noun(words, labels))
            elif labels is None:
                unknown.append(words)
        return PromptNouns(tuple(found.values()), tuple(dict.fromkeys(unknown)), background_in(written))

    def _pieces(self, written: str) -> Iterable[str]:
        """Names and left-over words; what no checker cares about (grammar, colours) is dropped."""
        place = 0
        pattern = self._pattern
        while place < len(written):
            match = pattern.match(written, place)
            if match is None:
                place += 1
                continue
            if match.lastgroup == "colour":
                place = match.end()
                continue
            words = match[0]
            place = match.end()
            if match.lastgroup == "name" or not _names_nothing(words):
                yield words

    @cached_property
    def _by_label(self) -> tuple[Concept | None, ...]:
        """The concept behind each label: by its id, or by any of its names."""
        known: dict[str, Concept] = {}
        for concept in self.concepts:
            for name in (*concept.names.get("th", ()), *concept.names.get("en", ()), concept.id):
                known[name.casefold()] = concept
        return tuple(known.get(name.casefold()) for name in self.names)

    @cached_property
    def _lexicon(self) -> Mapping[str, frozenset[int]]:
        """Every name of every label in small letters, with the labels it stands for."""
        lexicon: dict[str, set[int]] = {}
        for index, label in enumerate(self.names):
            concept = self._by_label[index]
            names = _synonyms(label) if concept is None else (*concept.names["en"], *concept.names["th"])
            for name in names:
                for form in _forms(name.casefold()):
                    lexicon.setdefault(form, set()).add(index)
        return {name: frozenset(labels) for name, labels in lexicon.items()}

    @cached_property
    def _pattern(self) -> re.Pattern[str]:
        """At one place of a prompt: a colour of something, else the longest name, else one word."""
        names = sorted(self._lexicon, key=len, reverse=True)
        latin = [re.escape(name) for name in names if not _THAI.search(name)]
        thai = [re.escape(name) for name in names if _THAI.search(name)]
        grammar = [re.escape(word) for word in sorted(_TH_FUNCTION_WORDS, key=len, reverse=True)]
        colours = "|".join(map(re.escape, _colour_words()))
        ends = rf"{_any(thai + grammar)}|[^\u0e01-\u0e5b]|$"
        parts = [
            rf"(?P<colour>(?:พื้นหลัง|พื้น)?สี\s?(?:{colours})|\b(?:{colours})\b(?=[\s,]+(?:background\b|{_any(latin)})))",
            rf"(?P<name>\b(?:{_any(latin)})\b|(?:{_any(thai)})(?!{_CONTINUES_SYLLABLE.pattern}))",
            rf"(?P<grammar>{'|'.join(grammar)})",
            rf"(?P<word>[^\W\d_{_THAI.pattern[1:-1]}][\w'-]*|[\u0e01-\u0e5b]+?(?={ends}))",
        ]
        return re.compile("|".join(parts), re.IGNORECASE)


def background_in(prompt: str) -> Colour | None:
    """The background's colour that a prompt asks for, in either language; None when it says none known here."""
    words = "|".join(map(re.escape, _colour_words()))
    match = re.search(rf"\b({words})\s+background\b|พื้น(?:หลัง)?\s?(?:สี)?\s?({words})", prompt.casefold())
    if match is None:
        return None
    word = match[1] or match[2]
    wanted = _OTHER_COLOUR_WORDS.get(word, word)
    return next(colour for colour in COLOURS if wanted in (colour.en, colour.th))


def _colour_words() -> list[str]:
    words = [word for colour in COLOURS for word in (colour.en, colour.th)] + list(_OTHER_COLOUR_WORDS)
    return sorted(words, key=len, reverse=True)


def _synonyms(label: str) -> tuple[str, ...]:
    """The synonyms of an ImageNet label and their last words: "tabby, tabby cat" gives tabby, tabby cat, cat."""
    names = [name.strip() for name in label.replace("_", " ").split(",") if name.strip()]
    heads = [name.split()[-1] for name in names]
    return tuple(dict.fromkeys([*names, *(head for head in heads if len(head) > 2)]))


def _forms(name: str) -> tuple[str, ...]:
    """An English name in singular and plural, roughly; anything else as it is."""
    if _THAI.search(name):
        return (name,)
    if name.endswith("ies"):
        return (name, name[:-3] + "y")
    if name.endswith("s") and not name.endswith("ss"):
        return (name, name[:-1])
    plural = name + "es" if name.endswith(("ss", "sh", "ch", "x")) else name + "s"
    return (name, plural, *((name[:-1] + "ies",) if re.search(r"[^aeiou]y$", name) else ()))


def _names_nothing(words: str) -> bool:
    return len(words) == 1 or f" {words.casefold()} " in _EN_FUNCTION_WORDS or words in _TH_FUNCTION_WORDS


def _any(options: list[str]) -> str:
    """One of the options; what can never match when there are none."""
    return "|".join(options) if options else r"(?!)"
