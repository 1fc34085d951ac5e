"""POST /search: what a search job is asked."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, Final

from webui.api.score import decoded_picture
from webui.errors import UserError
from webui.search.query import SearchRequest, Term, read_query, time_of_day_start
from webui.search.store import Filters

FIELDS: Final = (
    "query", "picture", "picture_weight", "like", "folders", "since", "until", "min_side", "prompt", "model", "limit",
)  # fmt: skip


def read_search_request(values: Mapping[str, Any]) -> SearchRequest:
    """A SearchRequest from JSON: `query` as people write it, `picture` {"name", "content" in base64}, `like` an id.

    Raises UserError for unknown fields and values of the wrong kind.
    """
    for name in values:
        if name not in FIELDS:
            raise UserError("error.unknown_field", field=str(name)[:100], known=", ".join(FIELDS))
    terms = read_query(_text(values, "query"))
    if "picture" in values:
        picture = decoded_picture(values["picture"], 1)
        terms = (Term(float(_number(values, "picture_weight", 1.0)), picture=picture), *terms)
    if like := _text(values, "like"):
        terms = (Term(indexed=like), *terms)
    folders = values.get("folders")
    if folders is not None and not (isinstance(folders, list) and all(isinstance(f, str) for f in folders)):
        raise UserError("error.not_a_list", field="folders")
    filters = Filters(
        folders=None if folders is None else tuple(folders),
        since_ns=time_of_day_start(_text(values, "since")),
        until_ns=time_of_day_start(_text(values, "until"), after=True),
        min_side=int(_number(values, "min_side", 0)),
        prompt=_text(values, "prompt"),
    )
    return SearchRequest(terms, filters, _text(values, "model") or "emoji", int(_number(values, "limit", 50)))


def _text(values: Mapping[str, Any], field: str) -> str:
    value = values.get(field, "")
    if not isinstance(value, str):
        raise UserError("error.not_text", field=field, value=repr(value)[:100])
    return value


def _number(values: Mapping[str, Any], field: str, otherwise: float) -> float:
    value = values.get(field, otherwise)
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise UserError("error.search_not_number", field=field, value=repr(value)[:100])
    return value
