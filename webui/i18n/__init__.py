"""Every string a person sees, in English and Thai, and the one function that reads them.

`en/` and `th/` hold the same files, one an area of the program; together they are one table a language.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.resources import files
from typing import Final, Literal, cast

from webui.errors import UserError

Language = Literal["en", "th"]
LANGUAGES: Final[tuple[Language, ...]] = ("en", "th")


@dataclass(frozen=True, slots=True)
class Messages:
    """The message tables, one a language: flat dotted keys to text with `{name}` placeholders."""

    tables: dict[Language, dict[str, str]]

    def text(self, language: Language, key: str, /, **values: object) -> str:
        """The text of `key` with its placeholders filled in; raises KeyError for an unknown key or a missing value."""
        return self.tables[language][key].format(**values)

    def error(self, language: Language, error: UserError) -> str:
        """One sentence that says what to change."""
        return self.text(language, error.key, **error.values)

    def with_texts(self, prefix: str, texts: Mapping[Language, Mapping[str, str]]) -> Messages:
        """These messages and more, whose keys begin with `prefix`."""
        more = {language: {prefix + key: words for key, words in texts[language].items()} for language in LANGUAGES}
        return Messages({language: self.tables[language] | more[language] for language in LANGUAGES})

    def translator(self, language: Language) -> Translator:
        """The tables as seen by one reader."""
        return Translator(self, language)


@dataclass(frozen=True, slots=True)
class Translator:
    """Says things in one reader's language; what views and pages are given to speak with."""

    messages: Messages
    language: Language

    def text(self, key: str, /, **values: object) -> str:
        """The text of `key` in this language, as `Messages.text`."""
        return self.messages.text(self.language, key, **values)

    def error(self, error: UserError) -> str:
        """One sentence that says what to change."""
        return self.messages.error(self.language, error)


def load_messages() -> Messages:
    """Read the tables that lie beside this file; raises ValueError when two areas say the same key."""
    return Messages({language: _read_table(language) for language in LANGUAGES})


def _read_table(language: Language) -> dict[str, str]:
    table: dict[str, str] = {}
    for area in sorted(files(__package__).joinpath(language).iterdir(), key=lambda area: area.name):
        entries = cast(dict[str, str], json.loads(area.read_text(encoding="utf-8")))
        if twice := table.keys() & entries.keys():
            raise ValueError(f"{language}/{area.name} says again: {', '.join(sorted(twice))}")
        table |= entries
    return table


def accepted_language(header: str, default: Language) -> Language:
    """The language of ours that an `Accept-Language` header ranks highest (RFC 9110, section 12.5.4)."""
    ranked = sorted((_weighted(part) for part in header.split(",")), key=lambda pair: -pair[1])
    wanted = [tag for tag, weight in ranked if weight > 0]
    return next((known for tag in wanted for known in LANGUAGES if known == tag), default)


def _weighted(part: str) -> tuple[str, float]:
    tag, _, parameter = part.partition(";")
    _, _, weight = parameter.partition("=")
    try:
        return tag.strip().lower().split("-")[0], float(weight) if weight else 1.0
    except ValueError:
        return "", 0.0
