from __future__ import annotations

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from webui.pages.saved_form import usable_values
from webui.studio import Studio

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)
FIELDS = ("prompt", "model", "sampler", "steps", "guidance_scale", "width", "seed", "batch_size", "unheard_of")


def test_what_is_still_possible_comes_back(studio: Studio) -> None:
    saved = {"prompt": "a cat", "steps": 7, "model": "tiny", "sampler": "Euler a", "width": 16, "seed": -1}
    assert usable_values(saved, studio) == saved


@pytest.mark.parametrize(
    ("name", "value"),
    [("steps", 10_000), ("model", "gone"), ("sampler", "Magic"), ("seed", "x"), ("prompt", 3), ("unheard_of", 1)],
)
def test_what_is_not_possible_any_more_is_left_out(studio: Studio, name: str, value: object) -> None:
    assert usable_values({"steps": 5, name: value} if name != "steps" else {name: value}, studio).get(name) is None


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=60)
@given(saved=JSON | st.dictionaries(st.sampled_from(FIELDS), JSON))
def test_a_browser_may_hold_anything(studio: Studio, saved: object) -> None:
    values = usable_values(saved, studio)
    assert usable_values(values, studio) == values
