import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from models.recipes.captions import EVERYTHING, choose_words, write
from models.recipes.concepts import load_concepts
from models.recipes.denoising import KINDS, Noise, one_slip_from, pieces_of
from models.recipes.scenes import Scene, pair, single
from models.recipes.text_tokenizer import MASK

CONCEPTS = load_concepts()
TRAINING, HELD_OUT = (Noise(CONCEPTS, np.random.default_rng(1), held_out) for held_out in (False, True))


@pytest.mark.parametrize("scene", [single(0, 4, "small", "left"), pair(0, 1, 3)])
@pytest.mark.parametrize("language", ["en", "th"])
def test_the_pieces_are_the_caption(scene: Scene, language: str) -> None:
    words = choose_words(scene, CONCEPTS, language, EVERYTHING)
    joined = "".join(piece.text for piece in pieces_of(words))
    assert joined.replace(" ", "") == write(words).replace(" ", "")


@pytest.mark.parametrize("kind", KINDS)
def test_closed_noise_changes_the_caption_and_can_be_undone(kind: str) -> None:
    for _ in range(100):
        rewriting = TRAINING.closed([kind])
        assert rewriting.source != rewriting.target
        if kind == "shuffled" and not rewriting.source.isascii():
            assert sorted(rewriting.source.replace(" ", "")) == sorted(rewriting.target.replace(" ", ""))
        if kind == "masked" and rewriting.source.isascii():
            visible = [word for word in rewriting.source.split() if word != MASK]
            assert set(visible) <= set(rewriting.target.split())


def test_open_noise_hides_one_or_two_words_and_leaves_the_rest() -> None:
    for _ in range(100):
        rewriting = TRAINING.open()
        assert rewriting.source.count(MASK) in (1, 2)
        if rewriting.source.isascii():
            assert {word for word in rewriting.source.split() if word != MASK} <= set(rewriting.target.split())


def test_held_out_captions_are_closed_and_never_trained_on() -> None:
    held_out = [HELD_OUT.any() for _ in range(100)]
    trained = {TRAINING.any().target for _ in range(1000)}
    assert not {rewriting.target for rewriting in held_out} & trained


@settings(max_examples=15)
@given(st.text(alphabet="abcde", min_size=3, max_size=5))
def test_slips_are_one_edit_away_in_both_directions(word: str) -> None:
    assert all(word in one_slip_from(typed) for typed in one_slip_from(word) - {word})
