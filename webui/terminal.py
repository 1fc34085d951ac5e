"""What the commands do with the terminal: progress while drawing, where pictures go, how models are described."""

from __future__ import annotations

import json
import signal
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, TypeVar

import typer
from rich.console import Console
from rich.progress import (
    BarColumn,
    DownloadColumn,
    MofNCompleteColumn,
    TextColumn,
    TimeRemainingColumn,
    TransferSpeedColumn,
)
from rich.progress import Progress as ProgressBar

from webui.clip.request import ScoreRequest
from webui.diffusion.request import GenerateRequest, check_request
from webui.errors import UserError
from webui.i18n import Translator
from webui.runtime.download import Downloader, DownloadPlan, DownloadProgress
from webui.runtime.entries import VIT, CatalogEntry
from webui.runtime.jobs import Job, JobCancelled, JobContext, Progress
from webui.runtime.known import KnownModel
from webui.runtime.weight_files import WeightFile
from webui.settings import Settings
from webui.store.gallery import Gallery
from webui.studio import Studio, open_studio
from webui.tasks.clip import check_score, score_pictures
from webui.tasks.inside import TRACE, RecordedRun, TraceRequest, prepare_trace, record_run
from webui.tasks.translate import Translation
from webui.tasks.txt2img import DrawnPictures, draw_pictures, prepare_request
from webui.tasks.vision import check_classify, classify_pictures
from webui.views.figures import measure_name, written
from webui.vision.request import ClassifyRequest

if TYPE_CHECKING:
    from webui.clip.score import ScoreResult
    from webui.vision.vit import Classification

OWNER: Final = "command line"

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class TerminalPictures:
    """What `diffuscope generate` leaves: (path, seed) in order, the request with all filled in, and seconds taken."""

    pictures: tuple[tuple[Path, int], ...]
    request: GenerateRequest
    seconds: float
    stopped: bool
    translation: Translation | None = None
    notices: tuple[str, ...] = ()


def draw_in_terminal(
    settings: Settings, request: GenerateRequest, out: Path | None, say: Translator
) -> TerminalPictures:
    """Draw as the page does, with a progress bar on stderr when that is a terminal.

    `out` None saves to the outputs folder; a folder (or a name without suffix) saves in there; "cat.png" is written
    exactly there, or as "cat-1.png", "cat-2.png", ... when there are several. Raises UserError; Ctrl-C keeps what is
    finished and sets `stopped`.
    """
    check_request(request, settings.limits)  # before the extensions, which take seconds to load
    with terminate_as_interrupt(), closing(open_studio(settings.model_copy(update={"index_outputs": False}))) as opened:
        file = out if out is not None and _names_a_file(out) else None
        with extended(opened, say) as studio:
            request = prepare_request(studio, request)
            if file is not None:
                return _draw_to_file(studio, request, file, say)
            gallery = studio.gallery if out is None else Gallery(out.absolute())
            drawn = _draw(replace(studio, gallery=gallery), request, say)
    return _left_by(drawn, tuple((picture.path, picture.seed) for picture in drawn.pictures))


def score_in_terminal(settings: Settings, request: ScoreRequest, say: Translator) -> ScoreResult:
    """Score as the page does, with a progress bar on stderr when that is a terminal. Raises UserError, JobCancelled."""
    studio = open_studio(settings)
    try:
        check_score(studio, request)
        work = partial(score_pictures, studio, request)
        return wait_for(studio, studio.jobs.submit(work, owner=OWNER, kind="clip"), say)
    finally:
        studio.close()


def classify_in_terminal(settings: Settings, request: ClassifyRequest, say: Translator) -> Classification:
    """Ask a ViT as the page does. Raises UserError, also for a picture that cannot be read, and JobCancelled."""
    with closing(open_studio(settings)) as studio:
        check_classify(studio, request)
        work = partial(classify_pictures, studio, request)
        found = wait_for(studio, studio.jobs.submit(work, owner=OWNER, kind=VIT), say)
    for refused in found.refused:
        raise refused.error
    return found


def record_in_terminal(settings: Settings, request: TraceRequest, say: Translator) -> RecordedRun:
    """Draw and record one picture. Raises UserError; Ctrl-C leaves what was recorded, or JobCancelled."""
    check_request(request.generate, settings.limits)
    with closing(open_studio(settings)) as opened, extended(opened, say) as studio:
        asked = prepare_trace(studio, request)
        work = partial(record_run, studio, asked)
        return wait_for(studio, studio.jobs.submit(work, owner=OWNER, kind=TRACE), say)


def tell_remarks(translation: Translation | None, notices: Sequence[str], say: Translator) -> None:
    """On stderr: what was drawn instead of a Thai prompt, and what was done to fit the run into the memory."""
    from webui.views.translation import translation_remarks

    if translation is not None:
        written = say.text("cli.generate.translated", model=translation.model, text=translation.text)
        for line in (written, *translation_remarks(translation, say)):
            typer.echo(line, err=True)
    for notice in notices:
        typer.echo(say.text(notice), err=True)


@contextmanager
def extended(studio: Studio, say: Translator) -> Iterator[Studio]:
    """The studio with the extensions' samplers, tools and listeners; on stderr it is said which could not be loaded.

    What an extension refuses is raised in its own words, which nobody outside knows.
    """
    from webui.extensions.loading import load_extensions
    from webui.views.extensions import refused_lines

    studio, extensions = load_extensions(studio)
    own = studio.messages.translator(say.language)
    for line in refused_lines(extensions, own):
        Console(stderr=True).print(line, markup=False, highlight=False, soft_wrap=True)
    try:
        yield studio
    except UserError as error:
        if not error.key.startswith("ext."):
            raise
        raise UserError("error.extension_refuses", sentence=own.error(error)) from error


def work_in_terminal(
    settings: Settings,
    check: Callable[[Studio], object],
    work_of: Callable[[Studio], Callable[[JobContext], T]],
    say: Translator,
    kind: str = "prompt",
) -> T:
    """Check, then do one job with a progress bar, as the page would. Raises UserError, JobCancelled."""
    with closing(open_studio(settings)) as studio:
        check(studio)
        return wait_for(studio, studio.jobs.submit(work_of(studio), owner=OWNER, kind=kind), say)


def download_in_terminal(downloader: Downloader, plan: DownloadPlan) -> bool:
    """Download with a bar for each file on stderr when that is a terminal. Raises UserError; False after Ctrl-C."""
    columns = (
        TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TransferSpeedColumn(), TimeRemainingColumn(),
    )  # fmt: skip
    console = Console(stderr=True)
    with terminate_as_interrupt(), ProgressBar(*columns, console=console, disable=not console.is_terminal) as bar:
        tasks = {file.name: bar.add_task(file.name, total=file.size) for file in plan.files}

        def show(progress: DownloadProgress) -> None:
            for file in progress.files:
                bar.update(tasks[file.name], completed=file.done)

        try:
            downloader.fetch(plan, show)
        except KeyboardInterrupt:
            return False
    return True


def describe_scores(result: ScoreResult, say: Translator) -> str:
    """For each picture its texts, the best first, with every figure."""
    measures = result.similarity.measures
    lines = []
    for row, picture in enumerate(result.pictures):
        lines.append(f"{picture.name}  {picture.facts.width} x {picture.facts.height}")
        for column in result.ranked_texts(row):
            figures = "  ".join(
                f"{measure_name(name, say)} {written(float(values[row, column]), name)}"
                for name, values in measures.items()
            )
            lines.append(f"    {figures}  {result.texts[column]}")
    return "\n".join(lines)


def score_as_json(result: ScoreResult) -> str:
    """What `diffuscope score --json` prints."""
    from webui.clip.score import score_as_dict

    return json.dumps(score_as_dict(result), ensure_ascii=False, indent=2)


def model_as_json(entry: CatalogEntry, say: Translator) -> dict[str, Any]:
    """One element of `diffuscope models --json`."""
    return {
        "id": entry.id,
        "task": entry.task,
        "title": entry.title,
        "folder": str(entry.source),
        "size_bytes": entry.size_bytes,
        "licences": entry.licence.splitlines(),
        "bundled": entry.bundled,
        "downloaded": True,
        "languages": list(entry.languages),
        "family": entry.family.value if entry.family else None,
        "problem": say.error(entry.problem) if entry.problem else None,
    }


def file_as_json(file: WeightFile, say: Translator) -> dict[str, Any]:
    """One element of `diffuscope models --json` for a LoRA, a VAE or an embedding."""
    return {
        "id": file.id,
        "task": None,
        "kind": file.kind.value.rpartition(".")[2],
        "title": file.name,
        "folder": str(file.path),
        "size_bytes": file.size_bytes,
        "licences": [],
        "bundled": False,
        "downloaded": True,
        "languages": [],
        "problem": say.error(file.problem) if file.problem else None,
    }


def describe_file(file: WeightFile, say: Translator) -> str:
    """Two lines for a person, and what is wrong with it."""
    lines = [
        f"{file.id}  [{say.text(file.kind.value)}]  {file.size_bytes / 2**20:.1f} MiB",
        f"    {file.path}",
        *([f"    {say.error(file.problem)}"] if file.problem else []),
    ]
    return "\n".join(lines)


def known_as_json(model: KnownModel, partial_bytes: int) -> dict[str, Any]:
    """One element of `diffuscope models --json` for a model that is known by name and not on this machine."""
    return {
        "id": model.id,
        "task": model.task,
        "title": model.title,
        "folder": None,
        "size_bytes": model.download_bytes,
        "licences": [model.licence] if model.licence else [],
        "bundled": False,
        "downloaded": False,
        "partial_bytes": partial_bytes,
        "loadable": model.loadable,
        "commercial_use": model.commercial_use,
        "languages": list(model.languages),
        "problem": None,
    }


def describe_model(entry: CatalogEntry, say: Translator) -> str:
    """A few lines for a person: id, task and size, then where it lies, its licences and what is wrong with it."""
    lines = [
        f"{entry.id}  [{entry.task}]  {entry.title}  {entry.size_bytes / 2**20:.1f} MiB",
        f"    {entry.source}",
        *([f"    {say.text('models.file', family=entry.family.value)}"] if entry.family else []),
        *(f"    {line}" for line in entry.licence.splitlines() or [say.text("cli.models.no_licence")]),
    ]
    if entry.problem:
        lines.append(f"    {say.error(entry.problem)}")
    return "\n".join(lines)


def _names_a_file(out: Path) -> bool:
    if out.is_dir() or not out.suffix:
        return False
    if out.suffix.lower() != ".png":
        raise UserError("error.out_not_png", path=str(out))
    if not out.absolute().parent.is_dir():
        raise UserError("error.out_folder_missing", folder=str(out.absolute().parent))
    return True


def _draw_to_file(studio: Studio, request: GenerateRequest, out: Path, say: Translator) -> TerminalPictures:
    """Draw into a hidden folder beside `out`, then rename: `out` is a whole picture or is not touched."""
    out = out.absolute()
    try:
        hidden = tempfile.TemporaryDirectory(prefix=".diffuscope-", dir=out.parent)
    except OSError as error:
        raise UserError("error.folder_not_writable", folder=str(out.parent)) from error
    with hidden as folder:
        drawn = _draw(replace(studio, gallery=Gallery(Path(folder))), request, say)
        one = request.batch_size * request.batch_count == 1
        pictures = []
        for number, picture in enumerate(drawn.pictures, start=1):
            path = out if one else out.with_stem(f"{out.stem}-{number}")
            picture.path.replace(path)
            pictures.append((path, picture.seed))
    return _left_by(drawn, tuple(pictures))


def _left_by(drawn: DrawnPictures, pictures: tuple[tuple[Path, int], ...]) -> TerminalPictures:
    return TerminalPictures(
        pictures, drawn.request, drawn.seconds, drawn.stopped, drawn.translation, drawn.notices
    )  # fmt: skip


def _draw(studio: Studio, request: GenerateRequest, say: Translator) -> DrawnPictures:
    job = studio.jobs.submit(lambda context: draw_pictures(studio, request, context), owner=OWNER, kind="txt2img")
    try:
        return wait_for(studio, job, say)
    except JobCancelled:
        return DrawnPictures((), request, 0.0, stopped=True)


def wait_for(studio: Studio, job: Job[T], say: Translator) -> T:
    """The job's result, its progress shown meanwhile; Ctrl-C and SIGTERM cancel it (JobCancelled)."""
    with terminate_as_interrupt():
        try:
            _follow(job, say)
        except KeyboardInterrupt:
            studio.jobs.cancel(job.id, OWNER)
        return job.result()


def _follow(job: Job[T], say: Translator) -> None:
    """Show the job's progress until it ends; silent when stderr is no terminal."""
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    console = Console(stderr=True)
    with ProgressBar(*columns, console=console, transient=True, disable=not console.is_terminal) as bar:
        task = bar.add_task("", total=None)
        for event in job.events():
            if isinstance(event, Progress):
                bar.update(task, description=say.text(event.phase), completed=event.step, total=event.total)


@contextmanager
def terminate_as_interrupt() -> Iterator[None]:
    """SIGTERM ends the work as Ctrl-C does, so that nothing half-made is left behind."""
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
