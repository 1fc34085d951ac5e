from __future__ import annotations

import pytest

from webui.errors import UserError
from webui.i18n import LANGUAGES, Language, load_messages
from webui.runtime.jobs import Progress
from webui.views.run import RunPhase, RunView, render_preview, render_problem, render_status

MESSAGES = load_messages()
ENGLISH = MESSAGES.translator("en")


@pytest.mark.parametrize("language", LANGUAGES)
@pytest.mark.parametrize("phase", list(RunPhase))
def test_every_phase_can_be_said_in_every_language(phase: RunPhase, language: Language) -> None:
    view = RunView(phase, progress=Progress(1, 4, "phase.denoising", 3.0), wanted=2, finished=1)
    status = render_status(view, MESSAGES.translator(language))
    assert bool(status) is (phase not in (RunPhase.IDLE, RunPhase.FAILED))
    assert bool(render_problem(view, MESSAGES.translator(language))) is (phase is RunPhase.FAILED)
    assert ("progressbar" in status) is phase.busy
    assert render_preview(view, MESSAGES.translator(language))


def test_progress_says_step_and_time_left() -> None:
    view = RunView(RunPhase.RUNNING, progress=Progress(5, 20, "phase.denoising", 65.4), wanted=1)
    status = render_status(view, ENGLISH)
    assert "5/20 · 1:05 left" in status
    assert 'aria-valuenow="25"' in status


def test_loading_is_told_in_percent() -> None:
    view = RunView(RunPhase.RUNNING, progress=Progress(500, 1000, "phase.loading_weights"), wanted=1)
    assert "50 %" in render_status(view, ENGLISH)


def test_a_failure_is_an_alert_and_its_values_are_escaped() -> None:
    error = UserError("error.unknown_sampler", name="<script>alert(1)</script>", known="Euler")
    problem = render_problem(RunView(RunPhase.FAILED, error=error), ENGLISH)
    assert 'role="alert"' in problem
    assert "<script>" not in problem
    assert "&lt;script&gt;" in problem


def test_a_defect_is_one_general_sentence() -> None:
    assert MESSAGES.text("en", "create.unexpected") in render_problem(RunView(RunPhase.FAILED), ENGLISH)


def test_previews_are_data_urls_labelled_as_approximate() -> None:
    markup = render_preview(RunView(RunPhase.RUNNING, previews=(b"\xff\xd8a", b"\xff\xd8b")), ENGLISH)
    assert markup.count('src="data:image/jpeg;base64,') == 2
    assert "repeat(2,1fr)" in markup
    assert "Approximate preview" in markup
