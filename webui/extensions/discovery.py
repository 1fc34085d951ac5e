"""Which extensions there are, and in which order they load. None of their code runs here."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from webui.errors import UserError
from webui.extensions.manifest import (
    API_VERSION,
    ENTRY_NAME,
    MANIFEST_NAME,
    Manifest,
    install_command,
    missing_packages,
    read_manifest,
)


@dataclass(frozen=True, slots=True)
class Candidate:
    """A folder with an extension; `problem` says why it cannot load, `manifest` is None where it cannot be read."""

    folder: Path
    bundled: bool
    manifest: Manifest | None
    problem: UserError | None = None

    @property
    def id(self) -> str:
        """The manifest's, else the folder's name."""
        return self.folder.name if self.manifest is None else self.manifest.id


def find_extensions(bundled_dir: Path, user_dir: Path) -> tuple[Candidate, ...]:
    """The extensions in both folders, those that ship first, in the order in which they load.

    One that is needed comes before those that need it, whatever their names; else by folder. Where two have the same
    id the second is refused. A folder is an extension if it has a manifest or an entry.
    """
    folders = {folder.resolve(): (folder, root) for root in (bundled_dir, user_dir) for folder in _folders_in(root)}
    candidates = [_candidate(folder, bundled=root == bundled_dir) for folder, root in folders.values()]
    return _in_order(_without_clashes(candidates))


def _folders_in(root: Path) -> list[Path]:
    if not root.is_dir():
        return []
    return sorted(
        folder for folder in root.iterdir() if (folder / MANIFEST_NAME).exists() or (folder / ENTRY_NAME).exists()
    )


def _candidate(folder: Path, *, bundled: bool) -> Candidate:
    try:
        manifest = read_manifest(folder / MANIFEST_NAME)
    except UserError as error:
        return Candidate(folder, bundled, None, error)
    return Candidate(folder, bundled, manifest, _problem_of(folder, manifest))


def _problem_of(folder: Path, manifest: Manifest) -> UserError | None:
    if manifest.api > API_VERSION:
        return UserError("error.extension_newer_api", wanted=manifest.api, known=API_VERSION)
    if not (folder / ENTRY_NAME).is_file():
        return UserError("error.extension_no_entry", file=ENTRY_NAME, folder=str(folder))
    if missing := missing_packages(manifest.needs):
        command = install_command(missing)
        return UserError("error.extension_needs_packages", packages=", ".join(missing), command=command)
    return None


def _without_clashes(candidates: Iterable[Candidate]) -> list[Candidate]:
    first: dict[str, Candidate] = {}
    checked = []
    for candidate in candidates:
        if candidate.manifest is not None and candidate.id in first:
            other = str(first[candidate.id].folder)
            candidate = replace(candidate, problem=UserError("error.extension_clash", id=candidate.id, folder=other))  # noqa: PLW2901
        elif candidate.manifest is not None:
            first[candidate.id] = candidate
        checked.append(candidate)
    return checked


def _in_order(candidates: Sequence[Candidate]) -> tuple[Candidate, ...]:
    """Kahn's algorithm that keeps the given order where it can; what needs something that is not there comes last."""
    waiting = list(candidates)
    ordered: list[Candidate] = []
    placed: set[str] = set()
    while waiting:
        ready = next((candidate for candidate in waiting if placed.issuperset(_needed_by(candidate))), None)
        if ready is None:
            return (*ordered, *(_never_ready(candidate, waiting) for candidate in waiting))
        waiting.remove(ready)
        ordered.append(ready)
        if ready.manifest is not None:
            placed.add(ready.id)
    return tuple(ordered)


def _needed_by(candidate: Candidate) -> list[str]:
    """What has to be placed before; one that cannot load anyway waits for nobody."""
    return candidate.manifest.needs.extensions if candidate.manifest is not None and candidate.problem is None else []


def _never_ready(candidate: Candidate, waiting: Sequence[Candidate]) -> Candidate:
    there = {other.id for other in waiting}
    absent = [need for need in _needed_by(candidate) if need not in there]
    key = "error.extension_needs_extension" if absent else "error.extension_needs_each_other"
    values = {"id": absent[0]} if absent else {"ids": ", ".join(sorted(there))}
    return replace(candidate, problem=UserError(key, **values))
