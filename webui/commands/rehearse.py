"""`diffuscope rehearse`: would this machine run a model of that size? Without downloading it."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import TYPE_CHECKING

import typer

from webui.commands.command import command
from webui.i18n import Translator
from webui.settings import Settings

if TYPE_CHECKING:
    from webui.tasks.rehearse import Rehearsal, Stage


def add_rehearse(app: typer.Typer, say: Translator) -> None:
    """Add the command; without a name it lists what can be rehearsed."""

    @command(app, say, "cli.rehearse")
    def rehearse(
        settings: Settings,
        name: str = typer.Argument("", help=say.text("cli.rehearse.name")),
        as_json: bool = typer.Option(False, "--json", help=say.text("cli.json")),
    ) -> None:
        from webui.tasks.rehearse import rehearse
        from webui.terminal import terminate_as_interrupt

        if not name:
            _list(say, as_json)
            return
        with terminate_as_interrupt():
            done = rehearse(settings, name, lambda stage: typer.echo(_line(stage, say), err=True))
        if as_json:
            typer.echo(json.dumps({**asdict(done), "run_peak_ratio": done.run_peak_ratio}, indent=2))
        else:
            typer.echo(_summary(done, say))


def _list(say: Translator, as_json: bool) -> None:
    from webui.runtime.fullsize import full_size_models
    from webui.runtime.memory import format_bytes

    models = full_size_models()
    if as_json:
        listed = {name: model.model_dump(include={"title", "like", "task"}) for name, model in models.items()}
        typer.echo(json.dumps(listed, ensure_ascii=False, indent=2))
        return
    for name, model in models.items():
        typer.echo(f"{name:<12} {model.title}  ({format_bytes(4 * model.parameters)}, {model.like})")
    typer.echo(say.text("rehearse.none_downloaded"))


def _line(stage: Stage, say: Translator) -> str:
    shape = " x ".join(map(str, stage.shape))
    times = f" x {stage.calls}" if stage.calls > 1 else ""
    title = {"write": "rehearse.write", "load": "rehearse.load", "run": "rehearse.run"}.get(stage.name)
    return f"{stage.seconds:9.2f} s  {stage.name + times if title is None else say.text(title)}  {shape}".rstrip()


def _summary(done: Rehearsal, say: Translator) -> str:
    from webui.runtime.memory import format_bytes

    weights = format_bytes(done.weights_bytes)
    return "\n".join(
        (
            say.text("rehearse.model", title=done.title, like=done.like, parameters=f"{done.parameters:,}"),
            say.text("rehearse.place", weights=weights, dtype=done.dtype, device=done.device),
            say.text("rehearse.load_peak", peak=format_bytes(done.load_peak_bytes)),
            say.text("rehearse.run_peak", peak=format_bytes(done.run_peak_bytes), ratio=f"{done.run_peak_ratio:.2f}"),
        )
    )
