"""The tour shows what the models computed for this prompt: its numbers agree with each other and with the picture."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from webui.errors import UserError
from webui.settings import Settings
from webui.store.infotext import read_infotext
from webui.studio import Studio, open_studio
from webui.tasks.tour import FRAMES, Tour, TourRequest, check_tour, frame_calls, rivals_of, take_tour
from webui.views.learn import CHAPTERS, render_chapter


@pytest.fixture(scope="module")
def studio(emoji_suite: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Studio]:
    data = tmp_path_factory.mktemp("tour")
    studio = open_studio(Settings(data_dir=data, models_dir=emoji_suite.parent))
    yield studio
    studio.close()


@pytest.fixture(scope="module")
def tour(studio: Studio) -> Tour:
    request = TourRequest("แมว พื้นหลังสีน้ำเงิน", "emoji", seed=3)
    return studio.jobs.submit(lambda context: take_tour(studio, request, context), owner="me", kind="tour").result()


def test_every_station_is_about_the_same_picture(tour: Tour) -> None:
    assert tour.trace.picture is not None
    with Image.open(tour.picture.path) as saved:
        assert np.array_equal(np.asarray(saved.convert("RGB")), tour.trace.picture)
    last = tour.lock_in.frames[-1].astype(int)
    assert np.abs(last - tour.trace.picture).max() <= 2, "the last x0, kept in half precision, is the picture"
    assert tour.worked.check.passed
    assert tour.worked.cosine == pytest.approx(float(tour.scored.similarity.cosine[0, 0]), abs=1e-5)
    assert tour.frames.shape[0] == len(tour.calls) == FRAMES
    assert read_infotext(tour.picture.path).startswith("แมว พื้นหลังสีน้ำเงิน")
    assert tour.eyes is not None
    assert tour.eyes.row.weights.sum() == pytest.approx(1)


def test_the_thing_is_left_out_and_the_effect_is_measured(tour: Tour) -> None:
    assert tour.word is not None
    assert tour.trace.header.words[tour.word] == "แมว"
    changed, outside = tour.effect_of_word
    assert 0 <= changed <= 1
    assert 0 <= outside <= 1
    assert tour.ablation is not None
    assert (changed == 0) <= (np.abs(tour.ablation.picture.astype(int) - tour.trace.picture).mean() < 25.5)


@pytest.mark.parametrize("language", ["en", "th"])
def test_each_chapter_asks_one_question_that_has_one_right_answer(tour: Tour, studio: Studio, language: str) -> None:
    say = studio.messages.translator(language)
    for chapter in CHAPTERS.values():
        page = render_chapter(chapter, tour, say)
        question = chapter.question(tour, say)
        if question is None:
            assert chapter.id == "check"
            continue
        assert 0 <= question.right < len(question.options)
        assert len(set(question.options)) == len(question.options)
        assert f'data-answer="{question.right}"' in page
        assert "{" not in question.reveal
    assert render_chapter(CHAPTERS["vae"], tour, say).count("48") >= 2


def test_rivals_speak_the_prompts_language_and_are_not_in_it() -> None:
    assert rivals_of("a cat and a dog") == ("a car", "a dog")
    assert rivals_of("an owl") == ("a dog", "a car")
    assert rivals_of("แมวกับรถ") == ("หมา", "รถยนต์")


def test_the_first_and_the_last_call_are_shown_and_none_twice() -> None:
    assert frame_calls(20) == (0, 4, 8, 11, 15, 19)
    assert frame_calls(3) == (0, 1, 2)
    assert frame_calls(1) == (0,)


def test_an_empty_prompt_and_an_unknown_model_are_refused_before_anything_is_loaded(studio: Studio) -> None:
    with pytest.raises(UserError):
        check_tour(studio, TourRequest("a cat", "no-such-model"))
    assert check_tour(studio, TourRequest("", "emoji")) is None, "an empty prompt draws too"
