"""`diffuscope generate`: pictures without the page."""

from __future__ import annotations

import json
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any, Final

import typer

from webui.commands.command import EXIT_INTERRUPTED, command
from webui.diffusion.request import GenerateRequest
from webui.i18n import Translator
from webui.settings import Settings

_DEFAULTS: Final = {field.name: field.default for field in fields(GenerateRequest)}


def add_generate(app: typer.Typer, say: Translator) -> None:
    """Add the command; its flags are the fields of a `GenerateRequest`."""

    def option(name: str, flag: str, help_text: str) -> Any:
        default = _DEFAULTS[name]
        return typer.Option(default, flag, help=help_text, show_default=default not in (None, ""))

    @command(app, say, "cli.generate")
    def generate(
        settings: Settings,
        prompt: str = typer.Argument(help=say.text("cli.generate.prompt")),
        negative_prompt: str = option("negative_prompt", "--negative", say.text("cli.generate.negative_prompt")),
        model: str = option("model", "--model", say.text("cli.generate.model")),
        sampler: str = option("sampler", "--sampler", say.text("cli.generate.sampler")),
        steps: int = option("steps", "--steps", say.text("cli.generate.steps")),
        guidance_scale: float | None = option("guidance_scale", "--cfg", say.text("cli.generate.guidance_scale")),
        width: int | None = option("width", "--width", say.text("cli.generate.width")),
        height: int | None = option("height", "--height", say.text("cli.generate.height")),
        seed: int = option("seed", "--seed", say.text("cli.generate.seed")),
        batch_size: int = option("batch_size", "--batch-size", say.text("cli.generate.batch_size")),
        batch_count: int = option("batch_count", "--batch-count", say.text("cli.generate.batch_count")),
        vae: str = option("vae", "--vae", say.text("cli.generate.vae")),
        translate: bool = option("translate", "--translate", say.text("cli.generate.translate")),
        out: Path | None = typer.Option(None, metavar="PATH", help=say.text("cli.generate.out")),
        as_json: bool = typer.Option(False, "--json", help=say.text("cli.json")),
    ) -> int:
        request = GenerateRequest(
            prompt=prompt,
            negative_prompt=negative_prompt,
            model=model,
            sampler=sampler,
            steps=steps,
            guidance_scale=guidance_scale,
            width=width,
            height=height,
            seed=seed,
            batch_size=batch_size,
            batch_count=batch_count,
            translate=translate,
            vae=vae,
        )
        from webui.terminal import draw_in_terminal, tell_remarks

        drawn = draw_in_terminal(settings, request, out, say)
        tell_remarks(drawn.translation, drawn.notices, say)
        if as_json:
            pictures = [{"path": str(path), "seed": seed} for path, seed in drawn.pictures]
            answer = {"parameters": asdict(drawn.request), "seconds": round(drawn.seconds, 3), "pictures": pictures}
            typer.echo(json.dumps(answer, ensure_ascii=False, indent=2))
        else:
            for path, _ in drawn.pictures:
                typer.echo(str(path))
        return EXIT_INTERRUPTED if drawn.stopped else 0
