"""`__name__` in a prompt stands for a line of wildcards/name.txt, chosen by the picture's seed."""

from __future__ import annotations

import random
import re
from collections.abc import Mapping, Sequence
from pathlib import Path

NAME = re.compile(r"__([^\s_,(){}\[\]|:][^,(){}\[\]|:\n]{0,79}?)__")
MAX_DEPTH = 10
MAX_FILES = 2000
MAX_BYTES = 2**20


class UnknownWildcardError(LookupError):
    """There is no file of that name, or it has no lines."""


class EndlessWildcardError(ValueError):
    """The lines of this file lead back to itself."""


def find_wildcards(*folders: Path) -> dict[str, Path]:
    """The files by name ("animal", "body/hair"); of two with the same name the one in the later folder counts."""
    found: dict[str, Path] = {}
    for folder in folders:
        for path in sorted(folder.rglob("*.txt"))[:MAX_FILES]:
            if path.is_file() and path.stat().st_size <= MAX_BYTES:
                found[path.relative_to(folder).with_suffix("").as_posix()] = path
    return dict(sorted(found.items()))


def lines_of(path: Path) -> tuple[str, ...]:
    """The lines to choose from; empty ones and those that begin with # are none. Bytes that are no UTF-8 are marked."""
    lines = path.read_text(encoding="utf-8-sig", errors="replace").splitlines()
    return tuple(line.strip() for line in lines if line.strip() and not line.lstrip().startswith("#"))


def expanded(prompt: str, files: Mapping[str, Path], seed: int, salt: str = "") -> str:
    """The prompt with a line for every wildcard, also for those within lines; the same for the same seed.

    `salt` gives another prompt of the same picture choices of its own. Raises UnknownWildcardError and
    EndlessWildcardError, with the name.
    """
    choose = random.Random(f"{seed} {salt}")
    read: dict[str, Sequence[str]] = {}

    def line(name: str) -> str:
        if name not in read:
            read[name] = lines_of(files[name]) if name in files else ()
        if not read[name]:
            raise UnknownWildcardError(name)
        return choose.choice(read[name])

    def expand(text: str, depth: int) -> str:
        def one(match: re.Match[str]) -> str:
            if depth >= MAX_DEPTH:
                raise EndlessWildcardError(match[1])
            return expand(line(match[1]), depth + 1)

        return NAME.sub(one, text)

    return expand(prompt, 0)
