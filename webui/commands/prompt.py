"""`diffuscope prompt TASK TEXT`: translate, shorten, expand, repair a prompt, or fill its masks."""

from __future__ import annotations

import json
from dataclasses import fields
from functools import partial
from typing import Any, Final

import typer

from webui.commands.command import command
from webui.i18n import Translator
from webui.prompts.request import PromptTask, WritingSettings, prompt_request_from_values
from webui.settings import Settings

_DEFAULTS: Final = {field.name: field.default for field in fields(WritingSettings)}
_HELP: Final = {
    "method": "cli.prompt.method",
    "candidates": "cli.prompt.candidates",
    "beams": "cli.prompt.beams",
    "temperature": "cli.prompt.temperature",
    "top_p": "cli.prompt.top_p",
    "max_new_tokens": "cli.prompt.max_new_tokens",
    "seed": "cli.prompt.seed",
}


def add_prompt(app: typer.Typer, say: Translator) -> None:
    """Add the command; its flags are the fields of a `PromptRequest`."""

    def option(name: str) -> Any:
        flag = "--" + name.replace("_", "-")
        return typer.Option(_DEFAULTS[name], flag, help=say.text(_HELP[name]))

    @command(app, say, "cli.prompt")
    def prompt(
        settings: Settings,
        task: str = typer.Argument(metavar="|".join(PromptTask), help=say.text("cli.prompt.task")),
        text: str = typer.Argument(help=say.text("cli.prompt.text")),
        model: str = typer.Option("", "--model", help=say.text("cli.prompt.model")),
        family: str = typer.Option("", "--family", metavar="t5|bart", help=say.text("cli.prompt.family")),
        direction: str = typer.Option("", "--direction", metavar="th-en", help=say.text("cli.prompt.direction")),
        method: str = option("method"),
        candidates: int = option("candidates"),
        beams: int = option("beams"),
        temperature: float = option("temperature"),
        top_p: float = option("top_p"),
        max_new_tokens: int = option("max_new_tokens"),
        seed: int = option("seed"),
        as_json: bool = typer.Option(False, "--json", help=say.text("cli.json")),
    ) -> None:
        asked = prompt_request_from_values(
            task,
            {
                "text": text,
                "model": model,
                "family": family,
                "direction": direction,
                "method": method,
                "candidates": candidates,
                "beams": beams,
                "temperature": temperature,
                "top_p": top_p,
                "max_new_tokens": max_new_tokens,
                "seed": seed,
            },
        )
        from webui.tasks.prompt import answer_as_dict, check_prompt, rewrite_prompt
        from webui.terminal import work_in_terminal

        answer = work_in_terminal(
            settings,
            lambda studio: check_prompt(studio, asked),
            lambda studio: partial(rewrite_prompt, studio, asked),
            say,
        )
        for note in answer.notes:
            typer.echo(say.error(note), err=True)
        if as_json:
            typer.echo(json.dumps(answer_as_dict(answer), ensure_ascii=False, indent=2))
            return
        for candidate in answer.candidates:
            typer.echo(candidate.text)
