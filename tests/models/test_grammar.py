from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.recipes.captions import EVERYTHING, NOTHING, Mention, describe, random_mention
from models.recipes.concepts import CONCEPTS_FILE, LANGUAGES, load_concepts
from models.recipes.scenes import (
    BACKGROUNDS,
    PLACES,
    SIZES,
    Placed,
    Scene,
    is_held_out,
    pair,
    random_scene,
    single,
)

CONCEPTS = load_concepts()
INDEX = {concept.id: index for index, concept in enumerate(CONCEPTS)}
COLOUR = {background.en: index for index, background in enumerate(BACKGROUNDS)}

concept_numbers = st.integers(0, len(CONCEPTS) - 1)
scenes = st.builds(
    lambda background, concept, size, place: single(concept, background, size, place),
    st.integers(0, len(BACKGROUNDS) - 1),
    concept_numbers,
    st.sampled_from(SIZES),
    st.sampled_from(PLACES),
)


def test_there_are_enough_everyday_concepts() -> None:
    assert len(CONCEPTS) >= 200
    assert {"cat", "dog", "car"} <= set(INDEX)
    assert {concept.group for concept in CONCEPTS} >= {"animals", "food", "vehicles", "buildings", "objects", "faces"}


def test_a_name_belongs_to_one_concept(tmp_path: Path) -> None:
    file = tmp_path / "concepts.toml"
    file.write_text(CONCEPTS_FILE.read_text("utf-8").replace('"dog", "puppy"', '"dog", "kitten"'), "utf-8")
    with pytest.raises(ValueError, match="kitten"):
        load_concepts(file)


@pytest.mark.parametrize(
    ("scene", "language", "mention", "caption"),
    [
        (single(INDEX["cat"], COLOUR["blue"]), "en", NOTHING, "a cat"),
        (single(INDEX["cat"], COLOUR["blue"]), "en", Mention(bare=True), "cat"),
        (single(INDEX["cat"], COLOUR["blue"]), "en", Mention(background=True), "a cat on a blue background"),
        (single(INDEX["owl"], COLOUR["orange"]), "en", Mention(background=True), "an owl on an orange background"),
        (single(INDEX["owl"], 0, "small"), "en", Mention(size=True), "a small owl"),
        (single(INDEX["unicorn"], 0), "en", NOTHING, "a unicorn"),
        (single(INDEX["hourglass"], 0), "en", NOTHING, "an hourglass"),
        (single(INDEX["scissors"], 0, "big"), "en", Mention(size=True), "big scissors"),
        (
            single(INDEX["cat"], COLOUR["blue"], "small", "left"),
            "en",
            EVERYTHING,
            "a small cat on the left on a blue background",
        ),
        (
            pair(INDEX["cat"], INDEX["car"], COLOUR["blue"]),
            "en",
            Mention(background=True),
            "a cat and a car on a blue background",
        ),
        (single(INDEX["cat"], COLOUR["blue"]), "th", Mention(background=True), "แมว พื้นหลังสีน้ำเงิน"),
        (
            single(INDEX["cat"], COLOUR["blue"], "small", "left"),
            "th",
            EVERYTHING,
            "แมวขนาดเล็ก ด้านซ้าย พื้นหลังสีน้ำเงิน",
        ),
        (pair(INDEX["cat"], INDEX["car"], 0), "th", NOTHING, "แมวกับรถ"),
    ],
)
def test_captions_read_as_people_write(scene: Scene, language: str, mention: Mention, caption: str) -> None:
    assert describe(scene, CONCEPTS, language, mention) == caption


@given(scenes, st.sampled_from(LANGUAGES), st.integers(0, 2**32 - 1))
def test_a_caption_names_its_object_and_only_what_is_mentioned(scene: Scene, language: str, seed: int) -> None:
    rng = np.random.default_rng(seed)
    mention = random_mention(rng)
    caption = describe(scene, CONCEPTS, language, mention, rng)
    assert any(name in caption for name in CONCEPTS[scene.objects[0].concept].names[language])
    assert ("background" in caption or "พื้น" in caption.replace("กระถาง", "")) == mention.background
    assert caption == caption.strip()
    assert "  " not in caption


@given(concept_numbers, concept_numbers, st.integers(0, len(BACKGROUNDS) - 1))
def test_a_pair_is_held_out_whatever_its_order_and_background(left: int, right: int, background: int) -> None:
    assert is_held_out(pair(left, right, background)) == is_held_out(pair(right, left, 0))


@given(scenes)
def test_nothing_in_the_centre_is_held_out(scene: Scene) -> None:
    assert not (scene.objects[0].place == "center" and is_held_out(scene))


@given(st.booleans(), st.integers(0, 2**32 - 1))
def test_random_scenes_keep_to_their_side_of_the_split(held_out: bool, seed: int) -> None:
    scene = random_scene(np.random.default_rng(seed), len(CONCEPTS), pair_share=0.5, held_out=held_out)
    assert is_held_out(scene) == held_out


def test_the_split_is_fixed_and_about_as_large_as_it_says() -> None:
    placed = [
        Scene(background, (Placed(concept, "normal", place),))
        for background in range(len(BACKGROUNDS))
        for concept in range(len(CONCEPTS))
        for place in PLACES[1:]
    ]
    held_out = [is_held_out(scene) for scene in placed]
    assert 0.03 < np.mean(held_out) < 0.05
    assert is_held_out(pair(0, 1, 0)) is False
