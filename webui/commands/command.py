"""What all commands share: the global flags, the settings that they make, and the exit codes."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final, get_type_hints

import typer

from webui.i18n import LANGUAGES, Translator
from webui.settings import load_settings

EXIT_FAILURE: Final = 1
EXIT_USER_ERROR: Final = 2
EXIT_INTERRUPTED: Final = 130

CONTEXT: Final = inspect.Parameter("context", inspect.Parameter.POSITIONAL_OR_KEYWORD, annotation=typer.Context)
"""The parameter in which typer hands over what was said before the command's name."""


@dataclass(frozen=True, slots=True)
class Flag:
    """A flag that sets a field of the settings; `option` is what `typer.Option` gives, with None as its default."""

    kind: Any
    option: Any

    def parameter(self, name: str) -> inspect.Parameter:
        """The flag as a parameter of a command's function."""
        return inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=self.option, annotation=self.kind)


def global_flags(say: Translator) -> dict[str, Flag]:
    """The flags of every command, which may stand before its name or after it."""
    return {
        "config": Flag(Path | None, typer.Option(None, "--config", metavar="FILE", help=say.text("cli.config"))),
        "data_dir": Flag(
            Path | None, typer.Option(None, "--data-dir", metavar="FOLDER", help=say.text("cli.data_dir"))
        ),
        "models_dir": Flag(
            Path | None, typer.Option(None, "--models-dir", metavar="FOLDER", help=say.text("cli.models_dir"))
        ),
        "language": Flag(
            str | None, typer.Option(None, "--language", metavar="|".join(LANGUAGES), help=say.text("cli.language"))
        ),
    }


def command(
    app: typer.Typer, say: Translator, key: str, settings_flags: Mapping[str, Flag] = MappingProxyType({})
) -> Callable[[Callable[..., int | None]], Callable[..., int | None]]:
    """Make a function a command of `app`, described by the message `key`; "cli.score" is `diffuscope score`.

    The function gets the settings first, made from the global flags and `settings_flags`; its other parameters are the
    command's own, declared as typer wants them. What it returns is the exit code; None is 0.
    """

    def register(function: Callable[..., int | None]) -> Callable[..., int | None]:
        flags = {**settings_flags, **global_flags(say)}
        hints = get_type_hints(function)
        own = [
            parameter.replace(kind=inspect.Parameter.KEYWORD_ONLY, annotation=hints[parameter.name])
            for parameter in list(inspect.signature(function).parameters.values())[1:]
        ]

        @functools.wraps(function)
        def run(context: typer.Context, **values: Any) -> int | None:
            said = {flag: value for flag in flags if (value := values.pop(flag)) is not None}
            return function(load_settings(**{**(context.obj or {}), **said}), **values)

        declare(run, [CONTEXT, *own, *(flag.parameter(name) for name, flag in flags.items())])
        app.command(key.rpartition(".")[2], help=say.text(key), epilog=say.text("cli.exit_codes"))(run)
        return function

    return register


def declare(function: Callable[..., Any], parameters: Sequence[inspect.Parameter]) -> None:
    """Give a function that takes `**values` the parameters that typer shall see."""
    declared: Any = function
    declared.__signature__ = inspect.Signature(parameters)  # typer reads the defaults here
    declared.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}  # and the types here
