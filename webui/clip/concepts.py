"""What a suite's models know by name: the list that the recipe writes beside the weights."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from webui.errors import UserError

CONCEPTS_FILE: Final = "concepts.json"
_MAX_BYTES: Final = 4 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class Concept:
    """One thing that can be drawn. `names` lists what it is called in each language, the usual name first."""

    id: str
    emoji: str
    names: Mapping[str, tuple[str, ...]]


def read_concepts(model_folder: Path) -> tuple[Concept, ...]:
    """The concepts beside `model_folder`; () for a model that brings none. Raises UserError for a broken list."""
    path = model_folder.parent / CONCEPTS_FILE
    if not path.is_file():
        return ()
    try:
        if path.stat().st_size > _MAX_BYTES:
            raise ValueError("too large")
        listed = json.loads(path.read_text(encoding="utf-8"))
        return tuple(
            Concept(
                str(item["id"]),
                str(item["emoji"]),
                {language: tuple(map(str, item[language])) for language in ("en", "th")},
            )
            for item in listed
        )
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UserError("error.model_file_broken", file=str(path), reason=str(error)) from error


def concept_labels(concepts: tuple[Concept, ...], language: str) -> tuple[str, ...]:
    """The usual name of each concept in one language."""
    return tuple(dict.fromkeys(concept.names[language][0] for concept in concepts if concept.names[language]))
