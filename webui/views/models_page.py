"""The Models page in HTML: what exists, what is loaded, what is being downloaded, and the memory of this machine."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from webui.errors import UserError
from webui.i18n import Translator
from webui.runtime.download import DownloadPlan
from webui.runtime.downloads import DownloadPhase, DownloadStatus
from webui.runtime.entries import TXT2IMG, CatalogEntry
from webui.runtime.known import KnownModel
from webui.runtime.memory import format_bytes
from webui.runtime.status import LoadedModelStatus, MemoryStatus
from webui.runtime.weight_files import WeightFile
from webui.views.markup import element, text
from webui.views.models import (
    TASK_WORDS,
    ability_words,
    extent_words,
    file_words,
    language_words,
    licence_words,
    task_words,
)


def loaded_id(status: LoadedModelStatus) -> str:
    """A name for a loaded model that a page may send back; it leads nowhere else."""
    return f"{status.key.task}|{status.key.dtype}|{status.key.revision}|{status.key.name}"


def render_memory(
    memory: MemoryStatus, program_bytes: int, devices: Mapping[str, int], idle_minutes: float, say: Translator
) -> str:
    """RAM and accelerators as they are now, and when unused models leave."""
    share = min(100 * memory.models_bytes / memory.budget_bytes, 100) if memory.budget_bytes else 0
    facts = [
        ("models.memory.models", f"{format_bytes(memory.models_bytes)} / {format_bytes(memory.budget_bytes)}"),
        ("models.memory.program", format_bytes(program_bytes)),
        ("models.memory.free", format_bytes(memory.available_bytes)),
    ]
    rows = [_fact(say.text(key), value) for key, value in facts]
    rows += [_fact(say.text("models.memory.device", device=name), format_bytes(free)) for name, free in devices.items()]
    idle = say.text("models.idle.after", minutes=f"{idle_minutes:g}") if idle_minutes else say.text("models.idle.never")
    label = say.text("models.memory.models")
    return (
        _bar(share, label) + element("dl", *rows, class_="parameters") + element("p", text(idle), class_="score-hint")
    )


def render_loaded(loaded: Sequence[LoadedModelStatus], say: Translator) -> str:
    """What is in memory and where, with the buttons that free it."""
    if not loaded:
        return element("p", text(say.text("models.loaded.none")), class_="score-hint")
    return element("ul", *(_loaded(status, say) for status in loaded), class_="model-list")


def render_downloads(downloads: Sequence[DownloadStatus], say: Translator) -> str:
    """Each download with its files, its speed and what is left of it."""
    return element("ul", *(_download(status, say) for status in reversed(downloads)), class_="model-list")


def render_models(
    entries: Sequence[CatalogEntry],
    known: Sequence[KnownModel],
    task: str,
    say: Translator,
    files: Sequence[WeightFile] = (),
    waiting: int = 0,
) -> str:
    """What exists, by task: first what is on this machine, then what is known by name.

    `files` are LoRA, VAE and embeddings, which belong to drawing; `waiting` is how many files have not been looked
    into yet.
    """
    here = {(entry.task, entry.id) for entry in entries}
    sections = []
    if waiting:
        note = text(say.text("models.files_waiting", count=waiting))
        sections.append(element("p", note, class_="notice", role="status"))
    for each in TASK_WORDS:
        if task and each != task:
            continue
        local = [_local(entry, say) for entry in entries if entry.task == each]
        others = [_known(model, say) for model in known if model.task == each and (each, model.id) not in here]
        heading = element("h3", text(task_words(each, say)))
        sections.append(element("section", heading, element("ul", *local, *others, class_="model-list")))
        if each == TXT2IMG and files:
            listed = element("ul", *(_file(file, say) for file in files), class_="model-list")
            sections.append(element("section", element("h3", text(say.text("weights.files"))), listed))
    return "".join(sections)


def render_plan(plan: DownloadPlan | None, error: UserError | None, asking: str, say: Translator) -> str:
    """What was looked up: how large it is, or why it cannot be downloaded."""
    if error is not None:
        return element("div", text(say.error(error)), class_="status-failed", role="alert")
    if asking:
        return element("div", text(say.text("models.asking", id=asking)), class_="status", role="status")
    if plan is None:
        return ""
    sizes = {
        "total": file_words(plan.total_bytes),
        "missing": file_words(plan.missing_bytes),
        "free": format_bytes(plan.free_bytes),
    }
    words = say.text("models.plan", id=plan.model.repo, count=len(plan.files), **sizes)
    files = [element("li", element("bdi", text(file.name)), " ", text(file_words(file.size))) for file in plan.files]
    listed = element("details", element("summary", text(say.text("models.plan.files"))), element("ul", *files))
    return element("div", element("p", text(words)), listed, class_="notice", role="status")


def render_added(model: str, say: Translator) -> str:
    """That a model at a path is listed now, by its name; nothing without one."""
    return element("div", text(say.text("models.added", id=model)), class_="notice", role="status") if model else ""


def _local(entry: CatalogEntry, say: Translator) -> str:
    origin = "models.origin.bundled" if entry.bundled else "models.origin.hub" if entry.hub else "models.origin.folder"
    title = entry.title_in(say.language)
    words = say.text(origin) if entry.family is None else say.text("models.file", family=entry.family.value)
    lines = [
        f"{words} · {format_bytes(entry.size_bytes)}",
        entry.licence.splitlines()[0] if entry.licence else say.text("models.no_licence"),
        str(entry.source),
    ]
    forget = _button("forget", "models.forget", str(entry.source), say) if entry.added else ""
    if entry.problem is not None:
        state = element("span", text(say.text("models.state.broken")), class_="model-state broken")
        problem = element("p", text(say.error(entry.problem)), class_="model-problem")
        return _item(title, entry.id, state, lines, problem + forget)
    state = element("span", text(say.text("models.state.here")), class_="model-state here")
    button = _button("load", "models.load", entry.id, say, task=entry.task)
    return _item(title, entry.id, state, lines, element("div", button, forget, class_="model-buttons"))


def _file(file: WeightFile, say: Translator) -> str:
    lines = [f"{say.text(file.kind.value)} · {file_words(file.size_bytes)}", str(file.path)]
    if file.problem is not None:
        state = element("span", text(say.text("models.state.broken")), class_="model-state broken")
        return _item(file.name, "", state, lines, element("p", text(say.error(file.problem)), class_="model-problem"))
    state = element("span", text(say.text("models.state.here")), class_="model-state here")
    forget = _button("forget", "models.forget", str(file.path), say) if file.added else ""
    return _item(file.name, "", state, lines, forget)


def _known(model: KnownModel, say: Translator) -> str:
    lines = [
        f"{model.family} · {extent_words(model, say)}",
        licence_words(model, say),
        f"{language_words(model, say)} · {ability_words(model, say)}",
    ]
    state = element("span", text(say.text("models.state.away")), class_="model-state")
    if not model.loadable:
        why = say.text("models.not_loadable", pipeline=model.pipeline)
        return _item(model.title, model.id, state, lines, element("p", text(why), class_="model-problem"))
    return _item(model.title, model.id, state, lines, _button("look", "models.look_up", model.id, say))


def _loaded(status: LoadedModelStatus, say: Translator) -> str:
    name = status.key.name
    if status.state == "loading":
        share = 100 * status.loaded_bytes / status.size_bytes if status.size_bytes else 0
        words = say.text("models.loaded.loading", share=f"{share:.0f}")
        return _item(name, "", "", [words], _bar(share, words))
    place = say.text("models.loaded.ram") if status.device == "cpu" else status.device
    idle = int(status.idle_seconds // 60)
    use = say.text("models.loaded.in_use") if status.pins else say.text("models.loaded.idle", minutes=idle)
    lines = [f"{task_words(status.key.task, say)} · {status.key.dtype} · {format_bytes(status.size_bytes)}", use]
    buttons = []
    if status.device != "cpu":
        buttons.append(_button("ram", "models.to_ram", name, say, loaded=loaded_id(status), disabled=bool(status.pins)))
    buttons.append(_button("unload", "models.unload", name, say, loaded=loaded_id(status), disabled=bool(status.pins)))
    state = element("span", text(place), class_="model-state here")
    return _item(name, "", state, lines, element("div", *buttons, class_="model-buttons"))


def _download(status: DownloadStatus, say: Translator) -> str:
    repo, progress = status.plan.model.repo, status.progress
    state = element("span", text(say.text(status.phase.value)), class_="model-state")
    if status.phase is DownloadPhase.FAILED:
        sentence = say.error(status.error) if status.error is not None else say.text("create.unexpected")
        problem = element("div", text(sentence), class_="status-failed", role="alert")
        return _item(repo, "", state, [], problem + _button("look", "models.again", repo, say))
    if status.phase is DownloadPhase.STOPPED:
        return _item(repo, "", state, [], _button("look", "models.again", repo, say))
    if not status.phase.busy:
        return _item(repo, "", state, [file_words(status.plan.total_bytes)], "")
    stop = _button("stop", "create.stop", repo, say)
    if progress is None:
        return _item(repo, "", state, [], stop)
    rate = f"{file_words(int(progress.rate))}/s" if progress.rate else "…"
    left = _duration(progress.seconds_left) if progress.seconds_left is not None else "…"
    words = say.text(
        "models.download.going", done=file_words(progress.done), total=file_words(progress.total), rate=rate,
        left=left,
    )  # fmt: skip
    share = 100 * progress.done / max(progress.total, 1)
    files = [
        element("li", element("bdi", text(file.name)), " ", text(f"{file_words(file.done)} / {file_words(file.total)}"))
        for file in progress.files
    ]
    return _item(repo, "", state, [words], _bar(share, words) + element("ul", *files, class_="model-files") + stop)


def _item(title: str, model: str, state: str, lines: Sequence[str], below: str) -> str:
    name = element("code", text(model)) if model and model != title else ""
    head = element("div", element("b", element("bdi", text(title))), name, state, class_="model-head")
    return element("li", head, *(element("p", text(line)) for line in lines), below)


def _button(action: str, key: str, model: str, say: Translator, *, disabled: bool = False, **data: str) -> str:
    words = say.text(key)
    return element(
        "button", text(words), type="button", data_action=action, data_model=model, disabled=disabled,
        aria_label=f"{words}: {model}", **{f"data_{name}": value for name, value in data.items()},
    )  # fmt: skip


def _fact(name: str, value: str) -> str:
    return element("div", element("dt", text(name)), element("dd", text(value)))


def _bar(share: float, label: str) -> str:
    return element(
        "div", element("div", class_="bar-fill", style=f"width:{share:.1f}%"), class_="bar", role="progressbar",
        aria_valuemin="0", aria_valuemax="100", aria_valuenow=f"{share:.0f}", aria_label=label,
    )  # fmt: skip


def _duration(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"
