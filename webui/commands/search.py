"""`diffuscope index` and `diffuscope search`: the nearest picture in one's own folders."""

from __future__ import annotations

import json
from contextlib import closing
from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from webui.commands.command import EXIT_FAILURE, EXIT_INTERRUPTED, EXIT_USER_ERROR, command
from webui.i18n import Translator
from webui.settings import Settings

if TYPE_CHECKING:
    from webui.search.find import Found
    from webui.search.service import IndexStatus
    from webui.studio import Studio


def add_index(app: typer.Typer, say: Translator) -> None:
    """Add `diffuscope index`."""

    @command(app, say, "cli.index")
    def index(
        settings: Settings,
        folders: list[Path] = typer.Argument(None, metavar="DIR...", help=say.text("cli.index.folders")),
        model: str = typer.Option("emoji", "--model", help=say.text("cli.generate.model")),
        share: bool = typer.Option(None, "--share/--unshare", help=say.text("cli.index.share")),
        remove: bool = typer.Option(False, "--remove", help=say.text("cli.index.remove")),
        as_json: bool = typer.Option(False, "--json", help=say.text("cli.json")),
    ) -> int:
        from webui.studio import open_studio
        from webui.tasks.search import start_index

        with closing(open_studio(settings)) as studio:
            listed = studio.search.folders
            if remove:
                for folder in folders or ():
                    listed.remove(listed.find(str(folder)).id)
                return 0
            chosen = [listed.add(folder) for folder in folders or ()]
            if share is not None:
                chosen = [listed.share(folder.id, share) for folder in chosen]
            start_index(studio, model, chosen or None)
            status = _follow(studio, say)
        return _told(status, say, as_json)


def add_search(app: typer.Typer, say: Translator) -> None:
    """Add `diffuscope search`."""

    @command(app, say, "cli.search")
    def search(
        settings: Settings,
        query: str = typer.Argument("", metavar="QUERY", help=say.text("cli.search.query")),
        picture: Path = typer.Option(None, "--picture", metavar="FILE", help=say.text("cli.search.picture")),
        weight: float = typer.Option(1.0, "--picture-weight", help=say.text("cli.search.weight")),
        folder: list[str] = typer.Option(None, "--folder", help=say.text("cli.search.folder")),
        since: str = typer.Option("", "--since", metavar="DATE", help=say.text("cli.search.since")),
        until: str = typer.Option("", "--until", metavar="DATE", help=say.text("cli.search.until")),
        min_side: int = typer.Option(0, "--min-side", help=say.text("cli.search.min_side")),
        prompt: str = typer.Option("", "--prompt", help=say.text("cli.search.prompt")),
        count: int = typer.Option(20, "--count", help=say.text("cli.search.count")),
        model: str = typer.Option("emoji", "--model", help=say.text("cli.generate.model")),
        as_json: bool = typer.Option(False, "--json", help=say.text("cli.json")),
    ) -> int:
        from webui.search.query import SearchRequest, Term, read_query, time_of_day_start
        from webui.search.store import Filters
        from webui.studio import open_studio
        from webui.tasks.search import check_search, found_as_dict, search_pictures
        from webui.terminal import OWNER, wait_for
        from webui.vision.pictures import PictureFile

        terms = read_query(query)
        if picture is not None:
            terms = (Term(weight, picture=PictureFile(str(picture), picture)), *terms)
        with closing(open_studio(settings)) as studio:
            ids = tuple(studio.search.folders.find(name).id for name in folder or ()) or None
            filters = Filters(ids, time_of_day_start(since), time_of_day_start(until, after=True), min_side, prompt)
            request = SearchRequest(terms, filters, model, count)
            check_search(studio, request, owner=True)
            job = studio.jobs.submit(
                lambda context: search_pictures(studio, request, context, owner=True), owner=OWNER, kind="search"
            )
            found = wait_for(studio, job, say)
            answer = found_as_dict(studio, found, owner=True)
        for remark in _remarks(found, say):
            typer.echo(remark, err=True)
        if as_json:
            typer.echo(json.dumps(answer, ensure_ascii=False, indent=2))
        else:
            for result in answer["results"]:
                typer.echo(f"{result['score']:.3f}  {result['sigmas']:+.1f} σ  {result['path']}")
        return 0 if answer["results"] else EXIT_USER_ERROR


def _follow(studio: Studio, say: Translator) -> IndexStatus:
    """Show the run's progress until it ends; Ctrl-C and SIGTERM stop it, and what was written stays."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    from webui.tasks.search import stop_index
    from webui.terminal import terminate_as_interrupt
    from webui.views.search import index_words

    console = Console(stderr=True)
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    board = studio.search.board
    with terminate_as_interrupt(), Progress(*columns, console=console, disable=not console.is_terminal) as bar:
        task = bar.add_task("", total=None)
        while board.status.phase.busy:
            try:
                for status in board.follow():
                    counts = status.counts
                    bar.update(
                        task, description=index_words(status, say), completed=counts.done, total=counts.total or None
                    )
            except KeyboardInterrupt:
                stop_index(studio)
    return board.status


def _told(status: IndexStatus, say: Translator, as_json: bool) -> int:
    from webui.search.service import IndexPhase
    from webui.views.search import index_words

    counts = status.counts
    for name, problem in counts.problems:
        typer.echo(f"{name}: {say.error(problem)}", err=True)
    for folder in counts.missing_folders:
        typer.echo(say.text("search.index.missing", folder=folder), err=True)
    if as_json:
        answer: dict[str, Any] = {field.name: getattr(counts, field.name) for field in fields(counts)} | {
            "problems": [{"name": name, "message": say.error(problem)} for name, problem in counts.problems],
            "pictures_per_second": round(counts.rate, 2) if counts.rate else None,
            "device": status.device,
        }
        typer.echo(json.dumps(answer, ensure_ascii=False, indent=2))
    elif status.phase is not IndexPhase.FAILED:
        typer.echo(index_words(status, say))
    if status.phase is IndexPhase.FAILED:
        typer.echo(say.error(status.error) if status.error else say.text("create.unexpected"), err=True)
        return EXIT_USER_ERROR if status.error else EXIT_FAILURE
    return EXIT_INTERRUPTED if status.phase is IndexPhase.STOPPED else 0


def _remarks(found: Found, say: Translator) -> list[str]:
    from webui.views.search import answer_words

    return [*(say.text(note) for note in found.notes), answer_words(found, say)]
