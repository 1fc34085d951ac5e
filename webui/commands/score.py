"""`diffuscope score`: how well pictures and texts match, by CLIP."""

from __future__ import annotations

from pathlib import Path

import typer

from webui.commands.command import EXIT_USER_ERROR, command
from webui.i18n import Translator
from webui.settings import Settings


def add_score(app: typer.Typer, say: Translator) -> None:
    """Add the command."""

    @command(app, say, "cli.score")
    def score(
        settings: Settings,
        pictures: list[Path] = typer.Argument(metavar="PIC...", help=say.text("cli.score.pictures")),
        texts: list[str] = typer.Option(..., "--text", help=say.text("cli.score.text")),
        model: str = typer.Option("emoji", "--model", help=say.text("cli.generate.model")),
        as_json: bool = typer.Option(False, "--json", help=say.text("cli.json")),
    ) -> int:
        from webui.clip.request import ScoreRequest
        from webui.terminal import describe_scores, score_as_json, score_in_terminal
        from webui.views.rankings import remarks
        from webui.vision.pictures import PictureFile

        files = tuple(PictureFile(str(path), path) for path in pictures)
        result = score_in_terminal(settings, ScoreRequest(files, tuple(texts), model), say)
        for remark in remarks(result, say):
            typer.echo(remark, err=True)
        typer.echo(score_as_json(result) if as_json else describe_scores(result, say))
        return 0 if result.pictures else EXIT_USER_ERROR
