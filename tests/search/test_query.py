from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from webui.errors import UserError
from webui.search.query import SearchRequest, Term, check_request, read_query, time_of_day_start


@pytest.mark.parametrize(
    ("words", "terms"),
    [
        ("a cat", [(1, "a cat")]),
        ("a cat + 0.5 at night - 0.3 people", [(1, "a cat"), (0.5, "at night"), (-0.3, "people")]),
        ('a cat + 0.5 "at night" - 0.3 "people"', [(1, "a cat"), (0.5, "at night"), (-0.3, "people")]),
        ("a t-shirt and a semi-trailer", [(1, "a t-shirt and a semi-trailer")]),
        ("2 cats", [(1, "2 cats")]),
        ("a dog + 2 cats", [(1, "a dog"), (1, "2 cats")]),
        ("2 * cats", [(2, "cats")]),
        ('3 "red cars"', [(3, "red cars")]),
        ('"black - white"', [(1, "black - white")]),
        ("- people + beach", [(-1, "people"), (1, "beach")]),
        ("แมว + 0.5 สีน้ำเงิน − หมา", [(1, "แมว"), (0.5, "สีน้ำเงิน"), (-1, "หมา")]),
        ("  + ", []),
        ("", []),
        ("0.5", [(1, "0.5")]),
    ],
)
def test_a_line_is_read(words: str, terms: list[tuple[float, str]]) -> None:
    assert [(term.weight, term.text) for term in read_query(words)] == terms


@given(st.text(max_size=60))
def test_any_text_is_read_and_every_weight_is_a_number(words: str) -> None:
    for term in read_query(words):
        assert term.text
        assert math.isfinite(term.weight)


@pytest.mark.parametrize(
    ("request_", "key"),
    [
        (SearchRequest(()), "error.search_empty"),
        (SearchRequest((Term(text="a"),) * 9), "error.search_too_many_terms"),
        (SearchRequest((Term(0.0, "a"),)), "error.search_weight"),
        (SearchRequest((Term(math.nan, "a"),)), "error.search_weight"),
        (SearchRequest((Term(text="a"),), limit=0), "error.search_limit"),
        (SearchRequest((Term(text="a"),), limit=5000), "error.search_limit"),
    ],
)
def test_what_cannot_be_answered_is_refused(request_: SearchRequest, key: str) -> None:
    with pytest.raises(UserError) as refused:
        check_request(request_)
    assert refused.value.key == key


def test_days_are_local_and_the_last_one_counts_whole() -> None:
    start, end = time_of_day_start("2026-03-01"), time_of_day_start("2026-03-01", after=True)
    assert start is not None
    assert end is not None
    assert end - start == 86_400 * 10**9
    assert time_of_day_start("") is None
    with pytest.raises(UserError, match="search_date"):
        time_of_day_start("yesterday")
