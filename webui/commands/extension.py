"""`diffuscope extension`: the commands that extensions add, and which extensions there are."""

from __future__ import annotations

from contextlib import closing
from typing import TYPE_CHECKING

import typer

from webui.commands.command import EXIT_FAILURE, EXIT_INTERRUPTED, EXIT_USER_ERROR, command
from webui.errors import UserError
from webui.i18n import Translator
from webui.runtime.jobs import JobCancelled
from webui.settings import Settings

if TYPE_CHECKING:
    from webui.extensions.loading import Extensions
    from webui.studio import Studio


def add_extension(app: typer.Typer, say: Translator) -> None:
    """Add the command."""

    @command(app, say, "cli.extension")
    def extension(
        settings: Settings,
        name: str = typer.Argument("", help=say.text("cli.extension.name")),
        arguments: list[str] = typer.Argument(None, help=say.text("cli.extension.arguments")),
    ) -> int:
        from webui.extensions.loading import load_extensions
        from webui.studio import open_studio
        from webui.views.extensions import extension_lines

        with closing(open_studio(settings)) as opened:
            studio, extensions = load_extensions(opened)
            own = studio.messages.translator(say.language)
            if not name:
                for line in extension_lines(extensions, own):
                    typer.echo(line)
                for api in extensions.loaded:
                    if api.contributions.command is not None:
                        typer.echo(
                            f"diffuscope extension {api.id}: {api.contributions.command.about.text(say.language)}"
                        )
                return 0
            try:
                return _run(studio, extensions, name, tuple(arguments or ()), own)
            except UserError as error:  # may speak in the extension's words, which only `own` knows
                typer.echo(" ".join(own.error(error).split()), err=True)
                return EXIT_USER_ERROR


def _run(studio: Studio, extensions: Extensions, name: str, arguments: tuple[str, ...], say: Translator) -> int:
    from webui.extensions.api import CommandLine, Words
    from webui.terminal import OWNER, wait_for

    api = next((api for api in extensions.loaded if api.id == name), None)
    refused = next((state for state in extensions.states if state.id == name and state.problem is not None), None)
    if api is None and refused is not None and refused.problem is not None:
        raise refused.problem
    if api is None or api.contributions.command is None:
        known = ", ".join(one.id for one in extensions.loaded if one.contributions.command is not None)
        raise UserError("error.no_extension_command", id=name[:100], known=known)
    line = CommandLine(
        arguments,
        Words(say, api.key("")),
        typer.echo,
        lambda work: wait_for(studio, studio.jobs.submit(work, owner=OWNER, kind=f"extension {name}"), say),
    )
    run = api.contributions.command.run
    try:
        code = studio.hooks.guarded(
            name, "command", lambda: run(line) or 0, EXIT_FAILURE, but=(UserError, JobCancelled)
        )
    except JobCancelled:
        return EXIT_INTERRUPTED
    for fault in studio.hooks.faults(name):
        typer.echo(fault.traceback, err=True)
    return code
