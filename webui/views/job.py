"""One line on a job other than drawing: where it is, how it ended."""

from __future__ import annotations

from webui.i18n import Translator
from webui.views.run import RunPhase, RunView, render_outcome, render_problem, render_status


def render_job(view: RunView, say: Translator, done: str = "") -> str:
    """A progress bar while it runs, the reason when it failed, and `done` when it ended well."""
    if view.phase is RunPhase.FAILED:
        return render_problem(view, say)
    if view.phase.busy:
        return render_status(view, say)
    return render_outcome(view, say.text("score.stopped") if view.phase is RunPhase.STOPPED else done, say)
