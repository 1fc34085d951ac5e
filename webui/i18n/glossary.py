"""The words of the field, in one file that both languages share."""

from __future__ import annotations

import tomllib
from dataclasses import dataclass
from importlib.resources import files
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping

    from webui.i18n import Language


@dataclass(frozen=True, slots=True)
class Term:
    """A word as each language writes it, what it means, and the Thai spellings that are not used for it."""

    name: Mapping[Language, str]
    meaning: Mapping[Language, str]
    never: tuple[str, ...] = ()


def load_glossary() -> tuple[Term, ...]:
    """The terms of `glossary.toml`, in the order of a picture's way from prompt to pixels."""
    read = tomllib.loads(files(__package__).joinpath("glossary.toml").read_text(encoding="utf-8"))
    return tuple(map(_term, read["term"]))


def _term(entry: dict[str, Any]) -> Term:
    return Term(
        MappingProxyType({"en": entry["en"], "th": entry["th"]}),
        MappingProxyType({"en": entry["means_en"], "th": entry["means_th"]}),
        tuple(entry.get("never", ())),
    )
