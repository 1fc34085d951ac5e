"""What is searched for: texts and pictures with weights, and how people write them."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import date, datetime, time, timedelta
from typing import Final

from webui.errors import UserError
from webui.search.store import MAX_RESULTS, Filters
from webui.vision.pictures import PictureFile

MAX_TERMS: Final = 8
MAX_WEIGHT: Final = 100.0

_OPERATOR: Final = re.compile(r"(?:^|(?<=\s))([+\-−])(?=\s)")
_WEIGHT: Final = re.compile(r'(\d+(?:\.\d+)?|\.\d+)\s*[*×]\s*|(\d*\.\d+)\s+|(\d+)\s*(?=["“])')
_QUOTED: Final = re.compile(r'"[^"]*"|“[^”]*”')


@dataclass(frozen=True, slots=True)
class Term:
    """One part of a query, a text, a picture, or a picture of the index by its id; `weight` below 0 means "less of"."""

    weight: float = 1.0
    text: str = ""
    picture: PictureFile | None = None
    indexed: str = ""


@dataclass(frozen=True, slots=True)
class SearchRequest:
    """What is asked: `model` is a catalogue id of the task "clip", `limit` how many pictures at most are named."""

    terms: tuple[Term, ...]
    filters: Filters = field(default_factory=Filters)
    model: str = "emoji"
    limit: int = 200


def read_query(words: str) -> tuple[Term, ...]:
    """The terms of a line such as `a cat + 0.5 at night - 0.3 people`.

    " + " and " - " between blanks part the terms, outside of quotation marks; a hyphen inside a word does not. A weight
    stands before its term: with a point (0.5), with a star (2 * cats), or before a quotation ("2 cats" are two cats).
    """
    return tuple(_term(sign, part) for sign, part in _parts(words) if part.strip())


def check_request(request: SearchRequest) -> None:
    """Raise UserError for what no store could answer."""
    if not request.terms:
        raise UserError("error.search_empty")
    if len(request.terms) > MAX_TERMS:
        raise UserError("error.search_too_many_terms", count=len(request.terms), limit=MAX_TERMS)
    for term in request.terms:
        if not (math.isfinite(term.weight) and 0 < abs(term.weight) <= MAX_WEIGHT):
            raise UserError("error.search_weight", weight=term.weight, limit=int(MAX_WEIGHT))
    if not 1 <= request.limit <= MAX_RESULTS:
        raise UserError("error.search_limit", limit=request.limit, most=MAX_RESULTS)


def time_of_day_start(day: str, *, after: bool = False) -> int | None:
    """Nanoseconds since 1970 at the start of a local day "2026-01-31" (`after`: of the next one); None for "".

    Raises UserError for anything else.
    """
    if not day.strip():
        return None
    try:
        chosen = date.fromisoformat(day.strip()) + timedelta(days=int(after))
        return int(datetime.combine(chosen, time.min).astimezone().timestamp()) * 1_000_000_000
    except (ValueError, OverflowError, OSError) as error:
        raise UserError("error.search_date", date=day.strip()[:40]) from error


def _parts(words: str) -> Iterator[tuple[float, str]]:
    hidden = _QUOTED.sub(lambda quoted: "\0" * len(quoted[0]), words)
    sign, start = 1.0, 0
    for operator in _OPERATOR.finditer(hidden):
        yield sign, words[start : operator.start()]
        sign, start = (1.0 if operator[1] == "+" else -1.0), operator.end()
    yield sign, words[start:]


def _term(sign: float, part: str) -> Term:
    part = part.strip()
    weight = 1.0
    if (match := _WEIGHT.match(part)) and part[match.end() :].strip():
        weight = float(next(group for group in match.groups() if group))
        part = part[match.end() :].strip()
    if _QUOTED.fullmatch(part) and part[1:-1].strip():
        part = part[1:-1].strip()
    return Term(sign * weight, part)
