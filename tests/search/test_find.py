"""What a query means as one vector, and whether anything stands out; with vectors made by hand."""

from __future__ import annotations

import numpy as np
import pytest

from tests.search.samples import row
from webui.errors import UserError
from webui.search.find import Hit, combined, spread_of, stands_out

RNG = np.random.default_rng(3)


def unit(vectors: np.ndarray) -> np.ndarray:
    return (vectors / np.linalg.norm(vectors, axis=-1, keepdims=True)).astype(np.float32)


@pytest.fixture(scope="module")
def library() -> np.ndarray:
    """500 pictures in a cone around the first axis; texts lie along the last axis, where no picture does."""
    vectors = RNG.normal(size=(500, 64))
    vectors[:, 0] += 8
    vectors[:, -1] = 0
    return unit(vectors)


def text(library: np.ndarray, meant: int) -> np.ndarray:
    """A text that describes one picture: mostly gap, some meaning."""
    vector = library[meant] - library.mean(axis=0)
    return unit(0.3 * unit(vector) + np.eye(64)[-1])


def test_a_weight_means_the_same_for_a_text_and_for_a_picture(library: np.ndarray) -> None:
    picture, words = library[7], text(library, 42)
    both = combined(np.stack([picture, words]), [1.0, 1.0], library)
    shares = [np.std(library @ vector) for vector in (picture, words)]
    parts = both @ np.stack([picture / shares[0], words / shares[1]]).T
    assert set(np.argsort(-(library @ both))[:2]) == {7, 42}, "neither drowns the other"
    assert parts.min() > 0
    less = combined(np.stack([picture, words]), [1.0, -1.0], library)
    assert np.argmax(library @ less) == 7
    assert library[42] @ less < np.median(library @ less)


def test_terms_that_cancel_are_refused(library: np.ndarray) -> None:
    with pytest.raises(UserError, match="cancels_out"):
        combined(np.stack([library[1], library[1]]), [1.0, -1.0], library)


def best(library: np.ndarray, query: np.ndarray) -> tuple[list[Hit], object]:
    scores = library @ query
    spread = spread_of(scores)
    score = float(scores.max())
    return [Hit(row(0), score, spread.sigmas(score), (score,))], spread


def test_a_match_stands_out_whatever_its_cosine_and_noise_does_not(library: np.ndarray) -> None:
    for meant in (3, 99, 400):
        hits, spread = best(library, text(library, meant))
        assert hits[0].score < 0.5
        assert stands_out(hits, spread) is True  # type: ignore[arg-type]
    for _ in range(20):
        noise = RNG.normal(size=64)
        noise[0] = 0
        assert stands_out(*best(library, unit(noise))) is False  # type: ignore[arg-type]
    assert stands_out(*best(library[:10], text(library, 3))) is None, "too few to tell"  # type: ignore[arg-type]
    assert stands_out([], spread_of(np.zeros(100, np.float32))) is None
