"""`diffuscope models`: what is on this machine, and what could be."""

from __future__ import annotations

import inspect
import json
from pathlib import Path
from typing import Any

import typer

from webui.commands.command import CONTEXT, EXIT_INTERRUPTED, command, declare, global_flags
from webui.errors import UserError
from webui.i18n import Translator
from webui.settings import Settings, load_settings


def add_models(app: typer.Typer, say: Translator) -> None:
    """Add the group of commands; without a subcommand it lists."""
    group = typer.Typer(
        help=say.text("cli.models"),
        epilog=say.text("cli.exit_codes"),
        add_completion=False,
        pretty_exceptions_enable=False,
        rich_markup_mode=None,
    )
    flags = global_flags(say)

    def models(context: typer.Context, as_json: bool, **values: Any) -> None:
        said = {name: value for name, value in values.items() if value is not None}
        context.obj = {**(context.obj or {}), **said}
        if context.invoked_subcommand is None:
            _list(load_settings(**context.obj), say, as_json)

    json_flag = inspect.Parameter("as_json", inspect.Parameter.KEYWORD_ONLY, default=_json_flag(say), annotation=bool)
    declare(models, [CONTEXT, json_flag, *(flag.parameter(name) for name, flag in flags.items())])
    group.callback(invoke_without_command=True)(models)
    _add_list(group, say)
    _add_show(group, say)
    _add_pull(group, say)
    _add_rm(group, say)
    _add_paths(group, say)
    app.add_typer(group, name="models")


def _json_flag(say: Translator) -> Any:
    return typer.Option(False, "--json", help=say.text("cli.json"))


def _add_list(group: typer.Typer, say: Translator) -> None:
    @command(group, say, "cli.models.list")
    def list_models(settings: Settings, as_json: bool = _json_flag(say)) -> None:
        _list(settings, say, as_json)


def _add_show(group: typer.Typer, say: Translator) -> None:
    @command(group, say, "cli.models.show")
    def show(
        settings: Settings,
        model: str = typer.Argument(metavar="ID", help=say.text("cli.models.id")),
        as_json: bool = _json_flag(say),
    ) -> None:
        from webui.runtime.catalog import open_catalog
        from webui.runtime.known import known_models
        from webui.terminal import describe_file, describe_model, file_as_json, model_as_json
        from webui.views.models import known_facts

        catalog = open_catalog(settings)
        local = [entry for entry in catalog.entries(wait=True) if entry.id == model]
        files = [file for file in catalog.extras(wait=True) if model in (file.id, file.name)]
        known = [each for each in known_models() if each.id == model]
        if not local and not known and not files:
            raise UserError("error.models_unknown", id=model[:100])
        if as_json:
            answer = {
                "local": [
                    *(model_as_json(entry, say) for entry in local),
                    *(file_as_json(file, say) for file in files),
                ],
                "known": [each.model_dump(mode="json") | {"loadable": each.loadable} for each in known],
            }
            typer.echo(json.dumps(answer, ensure_ascii=False, indent=2))
            return
        for entry in local:
            typer.echo(describe_model(entry, say))
        for file in files:
            typer.echo(describe_file(file, say))
        for each in known:
            typer.echo(f"{each.id}  {each.title}")
            for name, value in known_facts(each, say):
                typer.echo(f"    {name}: {value}")
        if not local and known:
            typer.echo(say.text("cli.models.not_downloaded", id=model))


def _add_pull(group: typer.Typer, say: Translator) -> None:
    @command(group, say, "cli.models.pull")
    def pull(
        settings: Settings,
        model: str = typer.Argument(metavar="ID", help=say.text("cli.models.id")),
        half: bool = typer.Option(False, "--fp16", help=say.text("cli.models.half")),
        dry_run: bool = typer.Option(False, "--dry-run", help=say.text("cli.models.dry_run")),
    ) -> int:
        from webui.runtime.catalog import open_catalog
        from webui.runtime.download import Downloader
        from webui.runtime.hub_cache import hub_cache_dir, read_hub_id
        from webui.runtime.memory import format_bytes
        from webui.terminal import describe_model, download_in_terminal
        from webui.views.models import file_words

        downloader = Downloader(hub_cache_dir())
        plan = downloader.plan(read_hub_id(model), half=half)
        sizes = {
            "total": file_words(plan.total_bytes),
            "missing": file_words(plan.missing_bytes),
            "free": format_bytes(plan.free_bytes),
        }
        typer.echo(say.text("models.plan", id=plan.model.repo, count=len(plan.files), **sizes), err=True)
        if dry_run:
            for file in plan.files:
                typer.echo(f"{file_words(file.size):>10}  {file.name}")
            return 0
        if not download_in_terminal(downloader, plan):
            typer.echo(say.text("cli.models.pull_stopped"), err=True)
            return EXIT_INTERRUPTED
        entry = open_catalog(settings).find(plan.model.repo, plan.task)
        typer.echo(describe_model(entry, say))
        return 0


def _add_rm(group: typer.Typer, say: Translator) -> None:
    @command(group, say, "cli.models.rm")
    def rm(
        settings: Settings,
        model: str = typer.Argument(metavar="ID", help=say.text("cli.models.id")),
        yes: bool = typer.Option(False, "--yes", help=say.text("cli.models.yes")),
    ) -> int:
        from webui.runtime.memory import format_bytes
        from webui.runtime.removal import find_removable, remove

        for found in find_removable(settings, model):
            size = format_bytes(found.size_bytes)
            asked = say.text("cli.models.rm_sure", folder=found.folder, size=size)
            if not yes and not typer.confirm(asked):
                typer.echo(say.text("cli.models.rm_kept", folder=found.folder))
                continue
            remove(found)
            typer.echo(say.text("cli.models.rm_done", folder=found.folder, size=size))
        return 0


def _add_paths(group: typer.Typer, say: Translator) -> None:
    @command(group, say, "cli.models.add")
    def add(settings: Settings, path: str = typer.Argument(metavar="PATH", help=say.text("cli.models.path"))) -> None:
        from webui.runtime.catalog import open_catalog
        from webui.tasks.models import name_path

        typer.echo(say.text("models.added", id=name_path(open_catalog(settings), path)))

    @command(group, say, "cli.models.forget")
    def forget(settings: Settings, path: Path = typer.Argument(help=say.text("cli.models.path"))) -> None:
        from webui.runtime.catalog import open_catalog
        from webui.tasks.models import added_paths

        added = added_paths(open_catalog(settings))
        if path.expanduser().absolute() not in added.paths():
            raise UserError("error.added_missing", path=str(path))
        added.forget(path.expanduser().absolute())


def _list(settings: Settings, say: Translator, as_json: bool) -> None:
    """The models on this machine, then those that are known by name and not here."""
    from webui.runtime.catalog import open_catalog
    from webui.runtime.hub_cache import cached_models, hub_cache_dir
    from webui.runtime.known import known_models
    from webui.runtime.memory import format_bytes
    from webui.terminal import describe_file, describe_model, file_as_json, known_as_json, model_as_json
    from webui.views.models import extent_words, licence_words

    catalog = open_catalog(settings)
    entries, files = catalog.entries(wait=True), catalog.extras(wait=True)
    here = {entry.id for entry in entries}
    begun = {each.repo: each.partial_bytes for each in cached_models(hub_cache_dir())}
    others = [model for model in known_models() if model.id not in here]
    if as_json:
        listed = [model_as_json(entry, say) for entry in entries]
        listed += [file_as_json(file, say) for file in files]
        listed += [known_as_json(model, begun.get(model.id, 0)) for model in others]
        typer.echo(json.dumps(listed, ensure_ascii=False, indent=2))
        return
    if not entries:
        typer.echo(say.text("cli.models.none", folder=settings.models_dir))
    for entry in entries:
        typer.echo(describe_model(entry, say))
    for file in files:
        typer.echo(describe_file(file, say))
    typer.echo(f"\n{say.text('cli.models.others')}")
    for model in others:
        line = f"{model.id}  [{model.task}]  {extent_words(model, say)}  {licence_words(model, say)}"
        if not model.loadable:
            line += f"  ({say.text('models.not_loadable', pipeline=model.pipeline)})"
        if begun.get(model.id):
            line += f"  ({say.text('models.begun', size=format_bytes(begun[model.id]))})"
        typer.echo(line)
