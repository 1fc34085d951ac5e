"""A1111's styles.csv: a name, and what it adds to a prompt and to a negative prompt."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

PLACEHOLDER = "{prompt}"
MAX_BYTES = 2**20


class UnreadableError(ValueError):
    """The file is no styles.csv; says why."""


@dataclass(frozen=True, slots=True)
class Style:
    """What a style adds; a text with "{prompt}" in it is laid around the prompt, another is put after it."""

    name: str
    prompt: str = ""
    negative_prompt: str = ""


def read_styles(path: Path) -> dict[str, Style]:
    """The styles by name, in the file's order; none where there is no file. Raises UnreadableError."""
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        return {}
    except OSError as error:
        raise UnreadableError(error.strerror or str(error)) from error
    if len(content) > MAX_BYTES:
        raise UnreadableError(f"> {MAX_BYTES} bytes")
    try:
        return parse_styles(content.decode("utf-8-sig"))
    except UnicodeDecodeError as error:
        raise UnreadableError(str(error)) from error


def parse_styles(content: str) -> dict[str, Style]:
    """The rows with a name; columns beside name, prompt and negative_prompt are left alone. Raises UnreadableError."""
    try:
        rows = list(csv.DictReader(io.StringIO(content, newline="")))
    except csv.Error as error:
        raise UnreadableError(str(error)) from error
    if rows and "name" not in rows[0]:
        raise UnreadableError('no column "name"')
    styles = {}
    for row in rows:
        name = (row.get("name") or "").strip()
        if name:
            # Old files call the second column "text".
            prompt = row.get("prompt") or row.get("text") or ""
            styles[name] = Style(name, prompt.strip(), (row.get("negative_prompt") or "").strip())
    return styles


def styled(prompt: str, negative_prompt: str, chosen: Iterable[str], styles: Mapping[str, Style]) -> tuple[str, str]:
    """Both prompts with the chosen styles, one after the other; a style that there is not changes nothing."""
    for name in chosen:
        style = styles.get(name, Style(name))
        prompt = _joined(prompt, style.prompt)
        negative_prompt = _joined(negative_prompt, style.negative_prompt)
    return prompt, negative_prompt


def _joined(text: str, style: str) -> str:
    if PLACEHOLDER in style:
        return style.replace(PLACEHOLDER, text.strip())
    return ", ".join(part for part in (text.strip().rstrip(","), style) if part)
