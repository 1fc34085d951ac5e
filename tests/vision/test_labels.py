from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from webui.clip.concepts import read_concepts
from webui.vision.background import rim_colour
from webui.vision.labels import COLOURS, LabelSet, background_in

IMAGENET = LabelSet(("tench, Tinca tinca", "tabby, tabby cat", "Persian cat", "hot dog, hotdog, red hot"))


@pytest.fixture(scope="module")
def suite(emoji_suite: Path) -> LabelSet:
    concepts = read_concepts(emoji_suite / "clip")
    return LabelSet(tuple(concept.id for concept in concepts), concepts)


@pytest.mark.parametrize(
    ("prompt", "found", "unknown", "background"),
    [
        ("a cat on a blue background", ["cat"], (), "blue"),
        ("แมว พื้นหลังสีน้ำเงิน", ["cat"], (), "blue"),  # "เงิน" in it is no money bag
        ("แมวกับหมาจิ้งจอกพื้นสีน้ำตาล", ["cat", "fox"], (), "brown"),  # nor is the fox a dog
        ("CATS and two cherries!", ["cat", "cherries"], (), None),
        ("a fire truck next to the statue of liberty", ["fire_engine", "statue"], (), None),
        ("an orange cat and a zebra", ["cat"], ("zebra",), None),
        ("มือถือบนโต๊ะ", ["phone"], ("โต๊ะ",), None),
        ("a kitten and a cat", ["cat"], (), None),
        ("", [], (), None),
    ],
)
def test_the_things_a_prompt_names(
    suite: LabelSet, prompt: str, found: list[str], unknown: tuple[str, ...], background: str | None
) -> None:
    nouns = suite.find(prompt)
    named = [suite.names[label] for noun in nouns.found for label in noun.labels]
    wanted = [next(n for n in suite.names if n == name or n.startswith(name)) for name in found]
    assert named == wanted
    assert nouns.unknown == unknown
    assert (nouns.background.en if nouns.background else None) == background


def test_every_name_of_every_concept_finds_it_alone_and_on_every_background(suite: LabelSet) -> None:
    wrong = []
    for index, concept in enumerate(suite.concepts):
        wrong += [n for names in concept.names.values() for n in names if not _names(suite, n, index)]
        for colour in COLOURS:
            for prompt in (
                f"a {concept.names['en'][0]} on a {colour.en} background",
                f"{concept.names['th'][0]} พื้นหลังสี{colour.th}",
            ):
                nouns = suite.find(prompt)
                alone = [noun.labels for noun in nouns.found] == [frozenset({index})]
                if not alone or nouns.unknown or nouns.background != colour:
                    wrong.append(prompt)
    assert not wrong


def _names(suite: LabelSet, prompt: str, index: int) -> bool:
    return any(index in noun.labels for noun in suite.find(prompt).found)


def test_imagenet_labels_are_found_by_synonym_and_by_last_word() -> None:
    nouns = IMAGENET.find("a cat with a hotdog on a table, แมว")
    assert [sorted(noun.labels) for noun in nouns.found] == [[1, 2], [3]]
    assert nouns.unknown == ("table", "แมว")
    assert not IMAGENET.speaks_thai
    assert IMAGENET.name(1, "th") == "tabby, tabby cat"


def test_names_are_said_in_both_languages(suite: LabelSet) -> None:
    cat = suite.names.index("cat")
    assert (suite.name(cat, "en"), suite.name(cat, "th"), suite.emoji(cat)) == ("cat", "แมว", "🐱")
    assert suite.spoken_names(cat) == {"en": "cat", "th": "แมว"}


def test_other_words_for_a_colour() -> None:
    found = [background_in(words) for words in ("grey background", "พื้นหลังฟ้า", "on a mauve background")]
    assert [colour.en if colour else None for colour in found] == ["gray", "blue", None]


@pytest.mark.parametrize("colour", COLOURS, ids=lambda colour: colour.en)
def test_the_rim_tells_the_background_whatever_is_in_the_middle(colour: object) -> None:
    pixels = np.empty((128, 128, 3), np.uint8)
    pixels[:] = np.clip(np.array(colour.rgb) + 8, 0, 255)  # type: ignore[attr-defined]
    pixels[30:100, 20:110] = (255, 255, 0)
    found = rim_colour(Image.fromarray(pixels))
    assert found.colour == colour
    assert found.share > 0.9
