from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from webui.clip.calculator import TUTORIAL_PICTURE, TUTORIAL_TEXTS, NamedVector, calculate
from webui.errors import UserError


def test_the_tutorials_numbers() -> None:
    steps = calculate(TUTORIAL_PICTURE, TUTORIAL_TEXTS).texts
    assert [round(s.dot, 2) for s in steps] == [1.35, 1.22, 0.47]
    assert [round(s.cosine or 0, 2) for s in steps] == [1.00, 0.99, 0.40]
    assert [s.rank for s in steps] == [1, 2, 3]
    assert steps[1].products == pytest.approx((0.06, 0.42, 0.02, 0.72))
    assert [round(s.norm, 4) for s in steps] == [1.1619, 1.063, 1.01]


def test_a_zero_vector_is_named_and_has_no_cosine() -> None:
    calculation = calculate(TUTORIAL_PICTURE, [NamedVector("nothing", (0.0,) * 4), TUTORIAL_TEXTS[0]])
    assert calculation.zero_vectors == ("nothing",)
    assert (calculation.texts[0].cosine, calculation.texts[0].rank) == (None, None)
    assert calculation.texts[1].rank == 1
    none = calculate(NamedVector("zero picture", (0.0, 0.0)), [NamedVector("x", (1.0, 0.0))])
    assert none.zero_vectors == ("zero picture",)
    assert none.texts[0].cosine is None


@pytest.mark.parametrize(
    ("texts", "key"),
    [
        ([NamedVector("short", (1.0,))], "error.vector_lengths_differ"),
        ([NamedVector("nan", (math.nan, 0, 0, 0))], "error.vector_not_finite"),
        ([NamedVector("huge", (1e300, 0, 0, 0))], "error.vector_not_finite"),
        ([TUTORIAL_TEXTS[0]] * 21, "error.too_many_vectors"),
    ],
)
def test_what_cannot_be_calculated_is_said(texts: list[NamedVector], key: str) -> None:
    with pytest.raises(UserError) as error:
        calculate(TUTORIAL_PICTURE, texts)
    assert error.value.key == key


VECTORS = st.tuples(*[st.floats(-1e6, 1e6)] * 4)


@given(VECTORS, VECTORS)
def test_every_cosine_is_a_cosine(a: tuple[float, ...], b: tuple[float, ...]) -> None:
    steps = calculate(NamedVector("a", a), [NamedVector("b", b)]).texts[0]
    assert steps.cosine is None or -1.0 <= steps.cosine <= 1.0
    assert (steps.cosine is None) == (math.hypot(*a) == 0 or math.hypot(*b) == 0)
