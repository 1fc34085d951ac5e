from __future__ import annotations

import contextlib
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from extensions.xyz_plot import axes, grid, view
from webui.errors import UserError
from webui.extensions.api import ExtensionAPI, GenerateRequest, Words
from webui.extensions.loading import load_extensions
from webui.studio import Studio


@pytest.mark.parametrize(
    ("written", "values"),
    [
        ("1, 2,5", (1, 2, 5)),
        ("1-3", (1, 2, 3)),
        ("3-1", (3, 2, 1)),
        ("1-9 (+4)", (1, 5, 9)),
        ("9-1 (-4)", (9, 5, 1)),
        ("0-1 [3]", (0, 0.5, 1)),
        ("0-0.3 (0.1)", (0, 0.1, 0.2, 0.3)),
        ("-2--1, 7", (-2, -1, 7)),
        ("", ()),
    ],
)
def test_numbers_and_ranges(written: str, values: tuple[float, ...]) -> None:
    assert axes.read_numbers(written) == values


@pytest.mark.parametrize("written", ["x", "nan", "1e300", "1-2 [1]", "1-2 (0)", "1-100000", "0-1 [99999]", "1,2,,x"])
def test_what_is_no_number_is_said(written: str) -> None:
    with pytest.raises(axes.AxisError):
        axes.read_numbers(written)


@given(st.text(alphabet='0123456789-.,()[]+ e"x', max_size=30))
def test_anything_is_a_bounded_list_or_refused(written: str) -> None:
    with contextlib.suppress(axes.AxisError):
        assert len(axes.read_whole_numbers(written)) <= axes.MAX_VALUES


def test_texts_may_hold_commas() -> None:
    assert axes.read_texts('a cat, "a cat, sitting", แมว') == ("a cat", "a cat, sitting", "แมว")


@pytest.fixture
def loaded(studio: Studio) -> tuple[Studio, ExtensionAPI]:
    studio, extensions = load_extensions(studio)
    return studio, next(api for api in extensions.loaded if api.id == "xyz_plot")


BASE = GenerateRequest("a cat", model="tiny", sampler="Euler", steps=2, seed=4)


def asked(*written: tuple[str, str]) -> grid.Grid:
    return grid.Grid(tuple(axes.read_axis(*axis) for axis in written))


def test_every_combination_is_drawn_and_labelled(loaded: tuple[Studio, ExtensionAPI]) -> None:
    studio, api = loaded
    wanted = asked(("prompt_words", "cat, <dog>"), ("steps", "1,2"), ("seed", "8-9"))
    requests = grid.plan(api, BASE, wanted)
    assert [(r.prompt, r.steps, r.seed) for r in requests[:3]] == [("a cat", 1, 8), ("a <dog>", 1, 8), ("a cat", 2, 8)]
    heard: list[int] = []
    job = studio.jobs.submit(
        lambda context: grid.draw(api, requests, wanted, context, lambda now: heard.append(len(now.cells))),
        owner="me",
        kind="x",
    )
    done = job.result(120)
    assert heard == list(range(1, 9))
    assert [cell.at for cell in done.cells] == wanted.places()
    assert "Seed: 9" in done.cells[-1].infotext
    for language in ("en", "th"):
        words = Words(studio.messages.translator(language), api.key(""))
        page = view.render_grid(done, words)
        assert page.count("<table") == 2
        assert page.count("data-cell=") == 8
        assert "<dog>" not in page + view.render_chosen(done.cells[1], words)
        assert "&lt;dog&gt;" in page
        assert 'download="xyz.html"' in view.render_file(done, words)
    done.cells[0].path.unlink()
    assert done.cells[0].path.name in view.render_chosen(done.cells[0], words)


def test_a_stopped_grid_keeps_what_is_drawn(loaded: tuple[Studio, ExtensionAPI]) -> None:
    studio, api = loaded
    wanted = asked(("seed", "1-9"), ("steps", "1,2"))
    requests = grid.plan(api, BASE, wanted)

    def stop_at_third(now: grid.Grid) -> None:
        if len(now.cells) == 3:
            studio.jobs.cancel_owner("me")

    job = studio.jobs.submit(
        lambda context: grid.draw(api, requests, wanted, context, stop_at_third), owner="me", kind="x"
    )
    done = job.result(120)
    assert len(done.cells) == 3
    assert all(cell.path.is_file() for cell in done.cells)


def test_what_cannot_be_drawn_is_said_before_anything_is(loaded: tuple[Studio, ExtensionAPI], tmp_path: Path) -> None:
    studio, api = loaded
    for written, key in (
        ((("seed", "1-200"), ("steps", "1,2")), "ext.xyz_plot.too_many_cells"),
        ((("prompt_words", "dog, cat"), ("steps", "1,2")), "ext.xyz_plot.not_in_prompt"),
        ((("seed", "1"), ("steps", "1, 9999")), "error.steps_out_of_range"),
        ((("seed", "1"), ("sampler", "Euler, Nobody")), "error.unknown_sampler"),
    ):
        with pytest.raises(UserError) as refused:
            grid.plan(api, BASE, asked(*written))
        assert refused.value.key == key
        for language in ("en", "th"):
            assert studio.messages.error(language, refused.value)
    assert not (tmp_path / "outputs").exists()
