"""The command `diffuscope`: flags -> Settings -> the same requests and tasks as the page.

Neither torch nor gradio is imported before a command needs it. Texts come from `webui.i18n`, so the typer application
is built for one reader's language rather than at import.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import asdict, fields
from itertools import pairwise
from pathlib import Path
from typing import Any, Final

import typer

from webui import __version__
from webui.diffusion.request import GenerateRequest
from webui.errors import UserError
from webui.i18n import LANGUAGES, Language, Translator, load_messages
from webui.settings import Settings, load_settings

EXIT_FAILURE: Final = 1
EXIT_USER_ERROR: Final = 2
EXIT_INTERRUPTED: Final = 130

_LIBRARIES_KEEP_QUIET: Final = {
    "DIFFUSERS_VERBOSITY": "error",
    "DO_NOT_TRACK": "1",
    "GRADIO_ANALYTICS_ENABLED": "False",
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "HF_HUB_OFFLINE": "1",
    "TRANSFORMERS_VERBOSITY": "error",
}
"""Neither look-ups nor telemetry, and no advice on packages that this project does without."""
_DEFAULTS: Final = {field.name: field.default for field in fields(GenerateRequest)}


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
    _add_serve(app, say)
    _add_generate(app, say)
    _add_score(app, say)
    _add_models(app, say)
    return app


def _add_global_flags(app: typer.Typer, say: Translator) -> None:
    def show_version(wanted: bool) -> None:
        if wanted:
            typer.echo(f"diffuscope {__version__}")
            raise typer.Exit

    @app.callback()
    def global_flags(
        context: typer.Context,
        config: Path | None = _config_flag(say),
        data_dir: Path | None = _data_dir_flag(say),
        models_dir: Path | None = _models_dir_flag(say),
        language: str | None = _language_flag(say),
        version: bool = typer.Option(  # noqa: ARG001 - its callback has acted already
            False, "--version", callback=show_version, is_eager=True, help=say.text("cli.version")
        ),
    ) -> None:
        context.obj = {"config": config, "data_dir": data_dir, "models_dir": models_dir, "language": language}


def _add_serve(app: typer.Typer, say: Translator) -> None:
    @app.command(help=say.text("cli.serve"), epilog=say.text("cli.exit_codes"))
    def serve(
        context: typer.Context,
        host: str | None = typer.Option(None, show_default="127.0.0.1", help=say.text("cli.serve.host")),
        port: int | None = typer.Option(None, show_default="7860", help=say.text("cli.serve.port")),
        share: bool | None = typer.Option(None, "--share", help=say.text("cli.serve.share")),
        config: Path | None = _config_flag(say),
        data_dir: Path | None = _data_dir_flag(say),
        models_dir: Path | None = _models_dir_flag(say),
        language: str | None = _language_flag(say),
    ) -> None:
        settings = _settings(context, config, data_dir, models_dir, language, host=host, port=port, share=share)
        from webui.server import serve as serve_page
        from webui.studio import open_studio

        with closing(open_studio(settings)) as studio:
            serve_page(studio)


def _add_generate(app: typer.Typer, say: Translator) -> None:
    def option(name: str, flag: str, help_text: str) -> Any:
        default = _DEFAULTS[name]
        return typer.Option(default, flag, help=help_text, show_default=default not in (None, ""))

    @app.command(help=say.text("cli.generate"), epilog=say.text("cli.exit_codes"))
    def generate(
        context: typer.Context,
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
        out: Path | None = typer.Option(None, metavar="PATH", help=say.text("cli.generate.out")),
        as_json: bool = typer.Option(False, "--json", help=say.text("cli.json")),
        config: Path | None = _config_flag(say),
        data_dir: Path | None = _data_dir_flag(say),
        models_dir: Path | None = _models_dir_flag(say),
        language: str | None = _language_flag(say),
    ) -> int:
        settings = _settings(context, config, data_dir, models_dir, language)
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
        )
        from webui.terminal import draw_in_terminal

        drawn = draw_in_terminal(settings, request, out, say)
        if as_json:
            pictures = [{"path": str(path), "seed": seed} for path, seed in drawn.pictures]
            answer = {"parameters": asdict(drawn.request), "seconds": round(drawn.seconds, 3), "pictures": pictures}
            typer.echo(json.dumps(answer, ensure_ascii=False, indent=2))
        else:
            for path, _ in drawn.pictures:
                typer.echo(str(path))
        return EXIT_INTERRUPTED if drawn.stopped else 0


def _add_score(app: typer.Typer, say: Translator) -> None:
    @app.command(help=say.text("cli.score"), epilog=say.text("cli.exit_codes"))
    def score(
        context: typer.Context,
        pictures: list[Path] = typer.Argument(metavar="PIC...", help=say.text("cli.score.pictures")),
        texts: list[str] = typer.Option(..., "--text", help=say.text("cli.score.text")),
        model: str = typer.Option("emoji", "--model", help=say.text("cli.generate.model")),
        as_json: bool = typer.Option(False, "--json", help=say.text("cli.json")),
        config: Path | None = _config_flag(say),
        data_dir: Path | None = _data_dir_flag(say),
        models_dir: Path | None = _models_dir_flag(say),
        language: str | None = _language_flag(say),
    ) -> int:
        settings = _settings(context, config, data_dir, models_dir, language)
        from webui.clip.request import ScoreRequest
        from webui.terminal import describe_scores, score_as_json, score_in_terminal
        from webui.views.rankings import remarks
        from webui.vision.pictures import PictureFile

        files = tuple(PictureFile(str(path), path) for path in pictures)
        result = score_in_terminal(settings, ScoreRequest(files, tuple(texts), model), say)
        for remark in remarks(result, say):
            typer.echo(remark, err=True)
        typer.echo(score_as_json(result) if as_json else describe_scores(result, say))
        return 0 if result.pictures else EXIT_USER_ERROR


def _add_models(app: typer.Typer, say: Translator) -> None:
    @app.command(help=say.text("cli.models"), epilog=say.text("cli.exit_codes"))
    def models(
        context: typer.Context,
        as_json: bool = typer.Option(False, "--json", help=say.text("cli.json")),
        config: Path | None = _config_flag(say),
        data_dir: Path | None = _data_dir_flag(say),
        models_dir: Path | None = _models_dir_flag(say),
        language: str | None = _language_flag(say),
    ) -> None:
        settings = _settings(context, config, data_dir, models_dir, language)
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


def _config_flag(say: Translator) -> Any:
    return typer.Option(None, "--config", metavar="FILE", help=say.text("cli.config"))


def _data_dir_flag(say: Translator) -> Any:
    return typer.Option(None, "--data-dir", metavar="FOLDER", help=say.text("cli.data_dir"))


def _models_dir_flag(say: Translator) -> Any:
    return typer.Option(None, "--models-dir", metavar="FOLDER", help=say.text("cli.models_dir"))


def _language_flag(say: Translator) -> Any:
    return typer.Option(None, "--language", metavar="|".join(LANGUAGES), help=say.text("cli.language"))


def _settings(
    context: typer.Context,
    config: Path | None,
    data_dir: Path | None,
    models_dir: Path | None,
    language: str | None,
    **flags: object,
) -> Settings:
    """The settings from the global flags, before or after the command's name, and the command's own."""
    given: dict[str, Any] = dict(context.obj or {})
    own = {"config": config, "data_dir": data_dir, "models_dir": models_dir, "language": language, **flags}
    given.update({name: value for name, value in own.items() if value is not None})
    return load_settings(**given)


def _complain(message: str, code: int) -> int:
    typer.echo(" ".join(message.split()), err=True)
    return code
