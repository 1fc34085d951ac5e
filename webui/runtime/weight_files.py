"""Single files that people have: checkpoints, LoRA, VAE and embeddings in the models folder or an A1111-style tree.

Only headers are read, each once until its file changes. A look examines what it can within `PATIENCE_SECONDS`; the rest
is examined in the background, so that a thousand files slow no page.
"""

from __future__ import annotations

import hashlib
import os
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from types import MappingProxyType
from typing import Final

from webui.errors import UserError
from webui.runtime import safety
from webui.runtime.added import AddedPaths
from webui.runtime.checkpoint_family import (
    CheckpointFamily,
    Detected,
    FileKind,
    detect,
    plan_checkpoint,
    shapes_of,
    vae_config,
)

PATIENCE_SECONDS: Final = 0.1
"""How long one look may read headers before it leaves the rest to the background."""

_SAFE: Final = ".safetensors"
_PICKLES: Final = (".ckpt", ".pt", ".pth", ".bin")
_DEPTH: Final = 4
MAX_VECTORS: Final = 75
"""Of a textual inversion: what fits between CLIP's start and end token."""
_FOLDERS: Final[Mapping[str, FileKind]] = MappingProxyType(
    {
        "stable-diffusion": FileKind.CHECKPOINT,
        "checkpoints": FileKind.CHECKPOINT,
        "lora": FileKind.LORA,
        "loras": FileKind.LORA,
        "lycoris": FileKind.LORA,
        "vae": FileKind.VAE,
        "embeddings": FileKind.EMBEDDING,
    }
)
"""Folder names of A1111 and ComfyUI, in lower case. They say what a pickle is meant to be: its tensors are not read."""
_TREES: Final = ("models", *_FOLDERS)
_MODEL_FOLDER: Final = ("model_index.json", "config.json", "suite.json")
"""Whatever holds one of these is a model in a folder, whose files are its own."""


@dataclass(frozen=True, slots=True)
class WeightFile:
    """A file of weights. `id` is its path below the models folder without its ending, `name` its bare name.

    `revision` changes with the file. `problem` says why it cannot be used. `default_side` (pixels) and `size_multiple`
    are a checkpoint's, `vectors` a textual inversion's, 0 for others. `added` files were named by their path.
    """

    id: str
    name: str
    path: Path
    kind: FileKind
    size_bytes: int
    revision: str
    family: CheckpointFamily | None = None
    context_width: int = 0
    default_side: int = 0
    size_multiple: int = 0
    vectors: int = 0
    added: bool = False
    problem: UserError | None = None


@dataclass(frozen=True, slots=True)
class _Seen:
    """A file as a listing shows it; `meant` is what its folder is for."""

    path: Path
    size: int
    changed: int
    meant: FileKind
    added: bool = False


class WeightFiles:
    """The single files below `root`, and those among `added`, looked up anew on each call; thread-safe."""

    def __init__(self, root: Path, added: AddedPaths | None = None) -> None:
        self._root = root
        self._added = added
        self._known: dict[_Seen, WeightFile] = {}
        self._hashes: dict[tuple[Path, str], str] = {}
        self._lock = threading.Lock()
        self._background: threading.Thread | None = None

    def found(self, *, wait: bool = False) -> tuple[WeightFile, ...]:
        """What is known of the files that lie there now, by id; `wait` examines all of them first."""
        listed = sorted(self._listed(), key=lambda seen: seen.path)
        until = None if wait else time.monotonic() + PATIENCE_SECONDS
        left = self._examine(listed, until)
        if left:
            self._go_on(left)
        with self._lock:
            known = {seen: self._known[seen] for seen in listed if seen in self._known}
            self._known = known if not left else self._known
        return tuple(known.values())

    def named(self, name: str, kind: FileKind) -> WeightFile:
        """The file of that kind with this `id`, or with this bare name if no other has it.

        Raises UserError that lists what there is, or the file's own problem.
        """
        files = [file for file in self.found(wait=True) if file.kind is kind]
        matches = [file for file in files if file.id == name] or [file for file in files if file.name == name]
        if len(matches) > 1:
            known = ", ".join(file.id for file in matches)
            raise UserError("error.weights_same_name", name=name[:100], known=known)
        if not matches:
            known = ", ".join(file.name for file in files if file.problem is None) or "-"
            raise UserError("error.weights_no_such", name=name[:100], known=known, folder=str(self._root))
        if matches[0].problem is not None:
            raise UserError(matches[0].problem.key, **matches[0].problem.values)
        return matches[0]

    def sha256(self, file: WeightFile) -> str:
        """The hash of the file's bytes, in hexadecimal; read once until the file changes. Raises UserError."""
        with self._lock:
            known = self._hashes.get((file.path, file.revision))
        if known is not None:
            return known
        try:
            with file.path.open("rb") as stream:
                found = hashlib.file_digest(stream, "sha256").hexdigest()
        except OSError as error:
            reason = error.strerror or str(error)
            raise UserError("error.model_file_broken", file=str(file.path), reason=reason) from error
        with self._lock:
            self._hashes[file.path, file.revision] = found
        return found

    def waiting(self) -> int:
        """How many files are still to be examined in the background."""
        with self._lock:
            busy = self._background is not None and self._background.is_alive()
            known = set(self._known)
        return len([seen for seen in self._listed() if seen not in known]) if busy else 0

    def _listed(self) -> Iterator[_Seen]:
        yield from _listed(self._root)
        for path in self._added.paths() if self._added is not None else ():
            if path.suffix.lower() == _SAFE and path.is_file():
                stat = path.stat()
                yield _Seen(path, stat.st_size, stat.st_mtime_ns, FileKind.CHECKPOINT, added=True)

    def _examine(self, listed: Sequence[_Seen], until: float | None) -> list[_Seen]:
        """Read the headers of those that are new until the time is over; returns those that are left."""
        with self._lock:
            new = [seen for seen in listed if seen not in self._known]
        for number, seen in enumerate(new):
            if until is not None and time.monotonic() > until:
                return new[number:]
            examined = _examined(seen, seen.path.parent if seen.added else self._root)
            with self._lock:
                self._known[seen] = examined
        return []

    def _go_on(self, left: Sequence[_Seen]) -> None:
        with self._lock:
            if self._background is not None and self._background.is_alive():
                return
            self._background = threading.Thread(
                target=self._examine, args=(left, None), name="weight-files", daemon=True
            )
            self._background.start()


def check_checkpoint(file: Path, roots: Sequence[Path]) -> None:
    """Raise UserError unless `file` is a whole checkpoint of a family that is loaded here, and lies in `roots`."""
    safety.resolve_inside(file, roots)
    plan_checkpoint(file, shapes_of(safety.read_safetensors_header(file)))


def _examined(seen: _Seen, root: Path) -> WeightFile:
    """What the header of a file says."""
    name = seen.path.stem
    entry = WeightFile(
        id=seen.path.relative_to(root).with_suffix("").as_posix(),
        name=name,
        path=root.resolve() / seen.path.relative_to(root),
        kind=seen.meant,
        size_bytes=seen.size,
        revision=f"{seen.size:x}-{seen.changed:x}",
        added=seen.added,
    )
    if seen.path.suffix.lower() in _PICKLES:
        key = "error.inversion_pickle" if seen.meant is FileKind.EMBEDDING else "error.weights_pickle"
        return replace(entry, problem=UserError(key, file=str(seen.path), name=name))
    try:
        safety.resolve_inside(seen.path, (root,))
        shapes = shapes_of(safety.read_safetensors_header(seen.path))
        detected = detect(shapes)
        entry = _with_kind(entry, detected)
        if detected.kind is FileKind.VAE:
            vae_config(seen.path, shapes, None)
        if detected.kind is not FileKind.CHECKPOINT:
            return entry
        plan = plan_checkpoint(seen.path, shapes)
        side = 1024 if plan.family is CheckpointFamily.SDXL else 768 if plan.family is CheckpointFamily.SD2 else 512
        side = side * plan.vae_factor // 8
        return replace(entry, default_side=side, size_multiple=plan.vae_factor)
    except UserError as problem:
        return replace(entry, problem=problem)


def _with_kind(entry: WeightFile, detected: Detected) -> WeightFile:
    known = replace(entry, kind=detected.kind, family=detected.family, context_width=detected.context_width)
    if detected.kind is FileKind.OTHER:
        return replace(known, problem=UserError("error.weights_unknown", file=str(entry.path)))
    if detected.variant:
        return replace(known, problem=UserError("error.lora_variant", file=str(entry.path), variant=detected.variant))
    if detected.kind is FileKind.EMBEDDING:
        if not 1 <= detected.vectors <= MAX_VECTORS:
            shape = UserError("error.inversion_shape", file=str(entry.path), limit=MAX_VECTORS)
            return replace(known, problem=shape)
        return replace(known, vectors=detected.vectors)
    return known


def _listed(root: Path) -> Iterator[_Seen]:
    """The weights files in `root` and in the folders below it that are known by name."""
    yield from _files(root, FileKind.CHECKPOINT)
    yield from _below(root, None, _DEPTH)


def _below(folder: Path, meant: FileKind | None, depth: int) -> Iterator[_Seen]:
    """`meant` None: still above the folders that are known by name."""
    for child in _children(folder):
        wanted = meant or _FOLDERS.get(child.name.lower())
        if depth == 0 or (wanted is None and child.name.lower() not in _TREES):
            continue
        if any((child / name).is_file() for name in _MODEL_FOLDER):
            continue
        if wanted is not None:
            yield from _files(child, wanted)
        yield from _below(child, wanted, depth - 1)


def _children(folder: Path) -> list[Path]:
    try:
        with os.scandir(folder) as found:
            return sorted(Path(item.path) for item in found if item.is_dir() and not item.name.startswith("."))
    except OSError:
        return []


def _files(folder: Path, meant: FileKind) -> Iterator[_Seen]:
    try:
        with os.scandir(folder) as found:
            items = [item for item in found if item.name.lower().endswith((_SAFE, *_PICKLES)) and item.is_file()]
    except OSError:
        return
    for item in items:
        stat = item.stat()
        yield _Seen(Path(item.path), stat.st_size, stat.st_mtime_ns, meant)
