"""`diffuscope models`: what is on this machine."""

from __future__ import annotations

import json

import typer

from webui.commands.command import command
from webui.i18n import Translator
from webui.settings import Settings


def add_models(app: typer.Typer, say: Translator) -> None:
    """Add the command."""

    @command(app, say, "cli.models")
    def models(
        settings: Settings,
        as_json: bool = typer.Option(False, "--json", help=say.text("cli.json")),
    ) -> None:
        from webui.runtime.catalog import Catalog
        from webui.settings import bundled_models_dir
        from webui.terminal import describe_model, model_as_json

        entries = Catalog(settings.models_dir, bundled_models_dir()).entries()
        if as_json:
            typer.echo(json.dumps([model_as_json(entry, say) for entry in entries], ensure_ascii=False, indent=2))
            return
        if not entries:
            typer.echo(say.text("cli.models.none", folder=settings.models_dir))
        for entry in entries:
            typer.echo(describe_model(entry, say))
