from __future__ import annotations

import numpy as np
import pytest

from webui.clip.projection import project
from webui.clip.similarity import unit

RNG = np.random.default_rng(0)


def test_the_plane_keeps_most_of_the_variance_and_says_how_much() -> None:
    pictures = RNG.normal(size=(8, 6)).astype(np.float32)
    texts = RNG.normal(size=(5, 6)).astype(np.float32)
    found = project(pictures, texts)
    units = unit(np.concatenate([pictures, texts]))
    values = np.sort(np.linalg.eigvalsh(np.cov(units.T)))[::-1]
    np.testing.assert_allclose(found.explained_variance, values[:2] / values.sum(), atol=1e-9)
    plane = np.concatenate([found.pictures, found.texts])
    np.testing.assert_allclose(plane.mean(axis=0), 0, atol=1e-9)
    np.testing.assert_allclose(np.var(plane, axis=0, ddof=1), values[:2], atol=1e-9)


def test_the_modality_gap_is_the_distance_of_the_means() -> None:
    pictures = np.array([[1, 0.1, 0], [1, -0.1, 0]], np.float32)
    texts = np.array([[0, 0.1, 1], [0, -0.1, 1]], np.float32)
    found = project(pictures, texts)
    assert found.modality_gap == pytest.approx(np.sqrt(2) * 1 / np.sqrt(1.01), rel=1e-6)
    assert found.gap_line is not None
    (left, _), (right, _) = found.gap_line
    assert abs(left - right) == pytest.approx(found.modality_gap, rel=1e-6)


def test_equal_vectors_give_an_equal_map() -> None:
    pictures = RNG.normal(size=(4, 6)).astype(np.float32)
    found, again = project(pictures, pictures), project(pictures, pictures)
    np.testing.assert_array_equal(found.pictures, again.pictures)
    np.testing.assert_allclose(found.pictures, found.texts, atol=1e-12)


@pytest.mark.parametrize(("pictures", "texts"), [(0, 0), (1, 0), (0, 1), (1, 1), (2, 0)])
def test_few_vectors_are_no_error(pictures: int, texts: int) -> None:
    found = project(np.eye(4, dtype=np.float32)[:pictures], np.eye(4, dtype=np.float32)[2 : 2 + texts])
    assert found.pictures.shape == (pictures, 2)
    assert found.texts.shape == (texts, 2)
    assert (found.modality_gap is None) == (not (pictures and texts))
    assert found.explained_variance[0] == pytest.approx(1.0 if pictures + texts == 2 else 0.0)


def test_identical_vectors_explain_nothing() -> None:
    assert project(np.ones((3, 4), np.float32), np.ones((1, 4), np.float32)).explained_variance == (0.0, 0.0)
