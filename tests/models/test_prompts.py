import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from models.recipes.captions import EVERYTHING, choose_words, write
from models.recipes.concepts import load_concepts
from models.recipes.prompts import EXPAND, SHORTEN, TASKS, TRANSLATE, PromptWriter, misread
from models.recipes.scenes import BACKGROUNDS, single

CONCEPTS = load_concepts()
ENGLISH = {name for concept in CONCEPTS for name in concept.names["en"]}
seeds = st.integers(0, 2**32 - 1)


def writer(seed: int, held_out: bool = False) -> PromptWriter:
    return PromptWriter(CONCEPTS, np.random.default_rng(seed), held_out)


@given(seeds)
def test_a_translation_has_no_thai_left_and_one_colour_for_one(seed: int) -> None:
    rewriting = writer(seed).of("translate")
    assert rewriting.source.startswith(TRANSLATE)
    assert not any("\u0e00" <= letter <= "\u0e7f" for letter in rewriting.target)
    if " background" in rewriting.target:
        colour = next(b for b in BACKGROUNDS if b.en == rewriting.target.split()[-2])
        assert colour.th in rewriting.source or colour.en in rewriting.source


@given(seeds)
def test_shortening_keeps_the_objects_and_nothing_else(seed: int) -> None:
    rewriting = writer(seed).of("shorten")
    assert rewriting.source.startswith(SHORTEN)
    nouns = rewriting.target.split(" and ")
    assert all(noun in ENGLISH and noun in rewriting.source for noun in nouns)
    assert len(rewriting.target) <= len(rewriting.source) - len(SHORTEN)


@given(seeds)
def test_expanding_says_every_keyword_and_invents_no_colour(seed: int) -> None:
    rewriting = writer(seed).of("expand")
    keywords = rewriting.source.removeprefix(EXPAND)
    content = set(keywords.replace(",", "").split())
    said = rewriting.target.split()
    assert content <= set(said)
    assert ("background" in said) == (said[-1] == "background")
    if said[-1] == "background":
        assert said[-2] in content


@given(seeds)
def test_spans_put_back_give_a_caption(seed: int) -> None:
    rewriting = writer(seed).of("spans")
    text = rewriting.source
    for part in rewriting.target.split("<extra_id_")[1:]:
        number, _, words = part.partition("> ")
        assert f"<extra_id_{number}>" in text
        text = text.replace(f"<extra_id_{number}>", words.strip())
    assert "<extra_id_" not in text


@settings(max_examples=3)
@given(seeds)
def test_what_is_held_out_is_never_trained_on(seed: int) -> None:
    """Captions as targets: a held-out one names a pair, or a thing, its colour and its place."""
    held_out = {writer(seed + i, held_out=True).of("translate").target for i in range(30)}
    training = writer(seed)
    trained = {training.any().target for _ in range(1000)}
    assert not held_out & trained


def test_the_wording_is_the_usual_one() -> None:
    words = choose_words(single(0, 4, "small", "left"), CONCEPTS, "en", EVERYTHING)
    assert (words.size, words.places, words.colour) == ("small", ("on the left",), "blue")
    assert write(words) == "a small cat on the left on a blue background"


@pytest.mark.parametrize(
    ("text", "nouns", "expected"),
    [
        ("red apple", ("apple",), True),
        ("apple red", ("apple",), False),
        ("red apple", ("red apple",), False),
        ("diamond ring", ("diamond", "ring"), True),
        ("top hat", ("hat",), True),
    ],
)
def test_keywords_that_name_something_else_are_noticed(text: str, nouns: tuple[str, ...], expected: bool) -> None:
    assert misread(text, nouns, {name.lower() for name in ENGLISH}) is expected


@pytest.mark.parametrize("task", TASKS)
def test_the_same_seed_gives_the_same_texts(task: str) -> None:
    assert [writer(5).of(task) for _ in range(3)] == [writer(5).of(task) for _ in range(3)]
