"""`diffuscope serve`: the page, until Ctrl-C."""

from __future__ import annotations

from contextlib import closing

import typer

from webui.commands.command import Flag, command
from webui.i18n import Translator
from webui.settings import Settings


def add_serve(app: typer.Typer, say: Translator) -> None:
    """Add the command, whose own flags are settings too."""
    flags = {
        "host": Flag(str | None, typer.Option(None, show_default="127.0.0.1", help=say.text("cli.serve.host"))),
        "port": Flag(int | None, typer.Option(None, show_default="7860", help=say.text("cli.serve.port"))),
        "share": Flag(bool | None, typer.Option(None, "--share", help=say.text("cli.serve.share"))),
        "safe_mode": Flag(bool | None, typer.Option(None, "--safe-mode", help=say.text("cli.serve.safe_mode"))),
    }

    @command(app, say, "cli.serve", flags)
    def serve(settings: Settings) -> None:
        from webui.server import serve as serve_page
        from webui.studio import open_studio

        with closing(open_studio(settings)) as studio:
            serve_page(studio)
