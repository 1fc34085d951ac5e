"""`diffuscope trace` and `diffuscope inspect`: a recorded run without the page."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any, Final

import numpy as np
import typer

from webui.commands.command import EXIT_INTERRUPTED, command
from webui.diffusion.request import GenerateRequest
from webui.diffusion.trace import TRACE_SUFFIX, Trace, open_trace, save_trace
from webui.errors import UserError
from webui.i18n import Translator
from webui.settings import Settings

_DEFAULTS: Final = {field.name: field.default for field in fields(GenerateRequest)}


def add_trace(app: typer.Typer, say: Translator) -> None:
    """Add the command that records."""

    def option(name: str, flag: str) -> Any:
        default = _DEFAULTS[name]
        help_text = say.text(f"cli.generate.{name}")
        return typer.Option(default, flag, help=help_text, show_default=default not in (None, ""))

    @command(app, say, "cli.trace")
    def trace(
        settings: Settings,
        prompt: str = typer.Argument(help=say.text("cli.generate.prompt")),
        out: Path = typer.Option(..., "--out", metavar="PATH", help=say.text("cli.trace.out")),
        image: Path | None = typer.Option(None, "--image", metavar="PATH", help=say.text("cli.trace.image")),
        all_heads: bool = typer.Option(False, "--all-heads", help=say.text("cli.trace.all_heads")),
        negative_prompt: str = option("negative_prompt", "--negative"),
        model: str = option("model", "--model"),
        sampler: str = option("sampler", "--sampler"),
        steps: int = option("steps", "--steps"),
        guidance_scale: float | None = option("guidance_scale", "--cfg"),
        width: int | None = option("width", "--width"),
        height: int | None = option("height", "--height"),
        seed: int = option("seed", "--seed"),
        vae: str = option("vae", "--vae"),
        translate: bool = option("translate", "--translate"),
        as_json: bool = typer.Option(False, "--json", help=say.text("cli.json")),
    ) -> int:
        _check_outputs(out, image)
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
            vae=vae,
            translate=translate,
        )
        from webui.tasks.inside import TraceRequest
        from webui.terminal import record_in_terminal, tell_remarks

        run = record_in_terminal(settings, TraceRequest(request, all_heads), say)
        recorded = run.trace
        save_trace(recorded, out)
        if image is not None and recorded.picture is not None:
            _save_picture(recorded, recorded.picture, image, run.fields)
        tell_remarks(run.translation, run.notices, say)
        _tell(recorded, out, image, as_json)
        if recorded.header.stopped:
            calls, planned = len(recorded.header.steps), recorded.header.planned_calls
            typer.echo(say.text("cli.trace.stopped", calls=calls, planned=planned), err=True)
            return EXIT_INTERRUPTED
        return 0


def add_inspect(app: typer.Typer, say: Translator) -> None:
    """Add the command that reads."""

    @command(app, say, "cli.inspect")
    def inspect(
        settings: Settings,  # noqa: ARG001 - every command gets them
        file: Path = typer.Argument(metavar="FILE", help=say.text("cli.inspect.file")),
        as_json: bool = typer.Option(False, "--json", help=say.text("cli.json")),
    ) -> None:
        from webui.views.trace_report import describe_trace, trace_as_dict

        opened = open_trace(file)
        if as_json:
            typer.echo(json.dumps(trace_as_dict(opened), ensure_ascii=False, indent=2))
        else:
            typer.echo(describe_trace(opened, say))


def _check_outputs(out: Path, image: Path | None) -> None:
    """Before minutes of drawing, not after them."""
    if out.suffix.lower() != TRACE_SUFFIX:
        raise UserError("error.out_not_safetensors", path=str(out))
    if image is not None and image.suffix.lower() != ".png":
        raise UserError("error.out_not_png", path=str(image))
    for path in filter(None, (out, image)):
        if not path.absolute().parent.is_dir():
            raise UserError("error.out_folder_missing", folder=str(path.absolute().parent))


def _save_picture(trace: Trace, picture: np.ndarray, image: Path, fields: Mapping[str, str]) -> None:
    """The picture as `diffuscope generate` would save it, renamed into place."""
    from PIL import Image

    from webui.store.gallery import png_bytes
    from webui.store.infotext import format_infotext
    from webui.store.whole_file import write_whole

    shapes = trace.header.shapes
    infotext = format_infotext(trace.header.request, trace.header.seed, shapes.width, shapes.height, fields)
    try:
        write_whole(image, png_bytes(Image.fromarray(picture), infotext))
    except OSError as error:
        reason = error.strerror or str(error)
        raise UserError("error.picture_not_saved", folder=str(image.absolute().parent), reason=reason) from error


def _tell(trace: Trace, out: Path, image: Path | None, as_json: bool) -> None:
    written = [out] if image is None or trace.picture is None else [out, image]
    if as_json:
        paths = {"trace": str(out), "image": str(image) if len(written) > 1 else None}
        answer = {**paths, "seed": trace.header.seed, "calls": len(trace.header.steps), "stopped": trace.header.stopped}
        typer.echo(json.dumps(answer, ensure_ascii=False, indent=2))
    else:
        for path in written:
            typer.echo(str(path))
