"""`diffuscope classify`: what a Vision Transformer sees in a picture."""

from __future__ import annotations

import json
from pathlib import Path

import typer

from webui.commands.command import command
from webui.i18n import Translator
from webui.settings import Settings


def add_classify(app: typer.Typer, say: Translator) -> None:
    """Add the command."""

    @command(app, say, "cli.classify")
    def classify(
        settings: Settings,
        picture: Path = typer.Argument(metavar="PIC", help=say.text("cli.classify.picture")),
        count: int = typer.Option(5, "--top", help=say.text("cli.classify.top")),
        model: str = typer.Option("emoji", "--model", help=say.text("cli.generate.model")),
        as_json: bool = typer.Option(False, "--json", help=say.text("cli.json")),
    ) -> None:
        from webui.terminal import classify_in_terminal
        from webui.views.figures import percent
        from webui.vision.pictures import PictureFile
        from webui.vision.request import ClassifyRequest

        request = ClassifyRequest((PictureFile(str(picture), picture),), count, model)
        found = classify_in_terminal(settings, request, say)
        from webui.vision.vit import labels_as_list

        (seen,) = found.pictures
        if as_json:
            labels = labels_as_list(found.labels, seen, count)
            answer = {"model": found.model, "picture": seen.name, "labels": labels}
            typer.echo(json.dumps(answer, ensure_ascii=False, indent=2))
            return
        for index, probability in seen.top(count):
            typer.echo(f"{percent(probability):>8}  {found.labels.name(index, say.language)}")
