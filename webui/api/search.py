"""POST /search: what a search job is asked; and the pictures that results name."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, Final

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import FileResponse, PlainTextResponse, Response
from starlette.routing import Route

from webui.api.score import decoded_picture
from webui.errors import UserError
from webui.search.links import PREFIX
from webui.search.query import SearchRequest, Term, read_query, time_of_day_start
from webui.search.store import Filters
from webui.security.rules import Deed, may
from webui.studio import Studio

FIELDS: Final = (
    "query", "picture", "picture_weight", "like", "folders", "since", "until", "min_side", "prompt", "model", "limit",
)  # fmt: skip
_SHOWN_AS_THEY_ARE: Final = frozenset(
    [".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".webp", ".gif", ".bmp", ".avif", ".ico"]
)
_HEADERS: Final = {"Cache-Control": "private, max-age=86400", "X-Content-Type-Options": "nosniff"}


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


def picture_routes(studio: Studio) -> list[Route]:
    """The addresses of `search.links`: they need no login, since nobody can guess them."""

    async def answer(request: Request) -> Response:
        try:
            return await run_in_threadpool(_picture, studio, **request.path_params)
        except UserError:
            return PlainTextResponse("There is no such picture.", 404)

    return [Route(f"/{PREFIX}/{{kind}}/{{table}}/{{picture}}/{{signature}}", answer, methods=["GET"])]


def _picture(studio: Studio, kind: str, table: str, picture: str, signature: str) -> Response:
    store = studio.search.opened(table)
    if store is None or not studio.search.links.is_ours(kind, table, picture, signature):
        raise UserError("error.search_picture_gone")
    rows = store.rows([picture])
    if not rows:
        raise UserError("error.search_picture_gone")
    path = studio.search.allowed_file(rows[0], owner=may(studio.settings, Deed.SEE_SERVER_PATHS))
    if kind == "full" and path.suffix.lower() in _SHOWN_AS_THEY_ARE:
        return FileResponse(path, headers=_HEADERS)
    return Response(studio.search.thumbnails.of(rows[0]), media_type="image/webp", headers=_HEADERS)


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
