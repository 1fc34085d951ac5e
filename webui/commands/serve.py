"""`diffuscope serve`: the page, until Ctrl-C; and `diffuscope password`, for the file of its logins."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path

import typer

from webui.commands.command import Flag, command
from webui.i18n import Translator
from webui.settings import Settings


def add_serve(app: typer.Typer, say: Translator) -> None:
    """Add the command, whose own flags are settings too."""
    flags = {
        "host": Flag(str | None, typer.Option(None, show_default="127.0.0.1", help=say.text("cli.serve.host"))),
        "port": Flag(int | None, typer.Option(None, show_default="7860", help=say.text("cli.serve.port"))),
        "auth_file": Flag(
            Path | None, typer.Option(None, "--auth-file", metavar="FILE", help=say.text("cli.serve.auth_file"))
        ),
        "share_server": Flag(
            str | None,
            typer.Option(None, "--share-server", metavar="HOST:PORT", help=say.text("cli.serve.share_server")),
        ),
        "share": Flag(bool | None, typer.Option(None, "--share", help=say.text("cli.serve.share"))),
        "safe_mode": Flag(bool | None, typer.Option(None, "--safe-mode", help=say.text("cli.serve.safe_mode"))),
    }

    @command(app, say, "cli.serve", flags)
    def serve(settings: Settings) -> None:
        from webui.server import serve as serve_page
        from webui.studio import open_studio

        with closing(open_studio(settings)) as studio:
            serve_page(studio)


def add_password(app: typer.Typer, say: Translator) -> None:
    """Add the command; the password is asked for, never a flag, which other users of the machine could see."""

    @command(app, say, "cli.password")
    def password(
        _settings: Settings,
        name: str = typer.Argument(..., help=say.text("cli.password.name")),
    ) -> None:
        from webui.security.logins import hash_password

        asked = typer.prompt(say.text("cli.password.ask"), hide_input=True, confirmation_prompt=True, err=True)
        typer.echo(f"{name}:{hash_password(asked)}")
