from __future__ import annotations

import pytest

from webui.clip.request import ScoreRequest
from webui.errors import UserError
from webui.i18n import load_messages
from webui.pages.clip_run import follow_job, stop_job
from webui.pages.score_desk import MAX_DESKS, Desks
from webui.pages.score_tools import _calculated
from webui.runtime.jobs import JobContext
from webui.settings import Settings
from webui.studio import Studio
from webui.views.run import RunPhase
from webui.vision.pictures import PictureFile


def test_a_desk_belongs_to_one_session_and_the_oldest_are_cleared() -> None:
    desks = Desks()
    for number in range(MAX_DESKS + 1):
        desks.change(str(number), pictures=(PictureFile(str(number), b""),))
    assert desks.of("0").pictures == ()
    assert desks.of(str(MAX_DESKS)).pictures[0].name == str(MAX_DESKS)
    desks.change("1", measure="logit")
    assert desks.of("1").pictures, "a change of one thing leaves the others"
    desks.forget("1")
    assert desks.of("1").pictures == ()
    assert desks.change("2", request=ScoreRequest((), ())).cell_request() is None


def test_a_job_is_followed_to_its_result(studio: Studio) -> None:
    steps = list(follow_job(studio, lambda context: 42, "me"))
    assert (steps[-1].view.phase, steps[-1].value) == (RunPhase.DONE, 42)


def test_a_mistake_ends_in_words(studio: Studio) -> None:
    def fail(context: JobContext) -> None:
        raise UserError("error.nothing_to_score")

    last = list(follow_job(studio, fail, "me"))[-1]
    assert last.view.phase is RunPhase.FAILED
    assert last.view.error is not None
    assert last.view.error.key == "error.nothing_to_score"


def patient(context: JobContext) -> None:
    while True:
        context.cancelled.wait(60)
        context.check()


def test_a_job_can_be_stopped_by_the_one_who_follows_it(studio: Studio) -> None:
    following = follow_job(studio, patient, "me")
    step = next(following)
    stop_job(studio, step, "someone else")
    assert not studio.jobs.get(step.job or "", "me").stopping
    stop_job(studio, step, "me")
    assert list(following)[-1].view.phase is RunPhase.STOPPED


def test_a_page_that_closes_stops_its_job(studio: Studio) -> None:
    following = follow_job(studio, patient, "me")
    step = next(following)
    following.close()
    assert studio.jobs.get(step.job or "", "me").state.ended


@pytest.mark.parametrize("language", ["en", "th"])
def test_the_calculator_explains_zeros_and_refuses_words(language: str) -> None:
    say = load_messages().translator(language)  # type: ignore[arg-type]
    three = ("0.2 0.7 0.1 0.9",) * 3
    assert "1.35" in _calculated((*three, "0.9, 0.1, 0.4, 0.2"), say)
    zeros = _calculated((*three, "0 0 0 0"), say)
    assert say.text("score.calculator.zero", name=say.text("score.example.car")).split(":")[0][:8] in zeros
    assert "nan" not in zeros
    for wrong in ("a b c d", "1 2", ""):
        assert 'role="alert"' in _calculated((*three, wrong), say)


def test_remote_mode_starts_from_lower_limits() -> None:
    here, remote = Settings().score_limits, Settings(host="0.0.0.0").score_limits
    assert remote.max_pictures < here.max_pictures
    assert remote.max_picture_pixels < here.max_picture_pixels
    assert Settings(score_limits={"max_texts": 7}).score_limits.max_pictures == here.max_pictures
