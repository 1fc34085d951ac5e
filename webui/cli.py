"""The command `diffuscope`: flags -> Settings -> the same requests and tasks as the page.

Neither torch nor gradio is imported before a command needs it. Texts come from `webui.i18n`, so the typer application
is built for one reader's language rather than at import.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any, Final

import typer

from webui import __version__
from webui.commands.command import (
    CONTEXT,
    EXIT_FAILURE,
    EXIT_INTERRUPTED,
    EXIT_USER_ERROR,
    Flag,
    declare,
    global_flags,
)
from webui.commands.doctor import add_doctor
from webui.commands.extension import add_extension
from webui.commands.generate import add_generate
from webui.commands.inside import add_inspect, add_trace
from webui.commands.models import add_models
from webui.commands.prompt import add_prompt
from webui.commands.rehearse import add_rehearse
from webui.commands.score import add_score
from webui.commands.search import add_index, add_search
from webui.commands.serve import add_password, add_serve
from webui.commands.vision import add_classify
from webui.errors import UserError
from webui.i18n import LANGUAGES, Language, Translator, load_messages
from webui.runtime.hub_cache import OFFLINE_BUT_FOR_DOWNLOADS
from webui.runtime.log import printable

_LIBRARIES_KEEP_QUIET: Final = {
    "DIFFUSERS_VERBOSITY": "error",
    "DO_NOT_TRACK": "1",
    "GRADIO_ANALYTICS_ENABLED": "False",
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "HF_HUB_OFFLINE": OFFLINE_BUT_FOR_DOWNLOADS,
    "TRANSFORMERS_VERBOSITY": "error",
}
"""Neither look-ups nor telemetry, and no advice on packages that this project does without."""


def main() -> None:
    """The console script: run the command line and end the process with its exit code."""
    sys.exit(run(sys.argv[1:]))


def run(arguments: Sequence[str]) -> int:
    """Run one command and return its exit code; what the user can put right becomes one line on stderr."""
    say = load_messages().translator(choose_language(arguments, os.environ))
    for name, value in _LIBRARIES_KEEP_QUIET.items():  # they read it when they are imported
        os.environ.setdefault(name, value)
    try:
        code = build_app(say)(list(arguments) or ["--help"], prog_name="diffuscope", standalone_mode=False)
    except UserError as error:
        return _complain(say.error(error), EXIT_USER_ERROR)
    except typer.TyperException as error:  # an unknown flag, a word where a number belongs
        return _complain(error.format_message() or say.text("cli.try_help"), EXIT_USER_ERROR)
    except BrokenPipeError:  # the reader of our output has gone, as in `diffuscope models | head -1`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return EXIT_FAILURE
    except OSError as error:
        return _complain(say.text("cli.system_error", reason=str(error)), EXIT_FAILURE)
    except (typer.Abort, KeyboardInterrupt):
        return EXIT_INTERRUPTED
    return code if isinstance(code, int) else 0


def choose_language(arguments: Sequence[str], environment: Mapping[str, str]) -> Language:
    """The reader's language: `--language`, else DIFFUSCOPE_LANGUAGE, else the locale; English when it is neither."""
    wishes = [
        *(after for flag, after in pairwise(arguments) if flag == "--language"),
        *(argument.partition("=")[2] for argument in arguments if argument.startswith("--language=")),
        environment.get("DIFFUSCOPE_LANGUAGE", ""),
        *(environment.get(name, "") for name in ("LC_ALL", "LC_MESSAGES", "LANG")),
    ]
    wish = next((wish for wish in wishes if wish), "")
    return next((language for language in LANGUAGES if wish.lower().startswith(language)), "en")


def build_app(say: Translator) -> typer.Typer:
    """The commands, described in the reader's language."""
    app = typer.Typer(
        help=say.text("cli.about"),
        epilog=say.text("cli.exit_codes"),
        add_completion=False,
        pretty_exceptions_enable=False,
        rich_markup_mode=None,
    )
    _add_global_flags(app, say)
    for add in (
        add_serve,
        add_password,
        add_generate,
        add_score,
        add_index,
        add_search,
        add_classify,
        add_prompt,
        add_trace,
        add_inspect,
        add_models,
        add_rehearse,
        add_extension,
        add_doctor,
    ):
        add(app, say)
    return app


def _add_global_flags(app: typer.Typer, say: Translator) -> None:
    """The flags of every command may stand before its name too; they are kept in the context until it runs."""

    def show_version(wanted: bool) -> None:
        if wanted:
            typer.echo(f"diffuscope {__version__}")
            raise typer.Exit

    flags = global_flags(say)

    def remember(context: typer.Context, **values: Any) -> None:
        context.obj = {name: value for name, value in values.items() if name in flags and value is not None}

    version = typer.Option(False, "--version", callback=show_version, is_eager=True, help=say.text("cli.version"))
    declare(
        remember, [CONTEXT, *(flag.parameter(name) for name, flag in {**flags, "version": Flag(bool, version)}.items())]
    )
    app.callback()(remember)


def _complain(message: str, code: int) -> int:
    typer.echo(printable(" ".join(message.split())), err=True)
    return code
