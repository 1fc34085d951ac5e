"""The pictures that results and the gallery name, at the addresses that `store.links` makes."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import FileResponse, PlainTextResponse, Response
from starlette.routing import Route

from webui.errors import UserError
from webui.security.rules import Deed, may
from webui.store.links import PREFIX
from webui.studio import Studio
from webui.tasks.album import ALBUM, picture_at

_SHOWN_AS_THEY_ARE: Final = frozenset(
    [".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".webp", ".gif", ".bmp", ".avif", ".ico"]
)
_HEADERS: Final[Mapping[str, str]] = {
    "Cache-Control": "private, max-age=86400",
    "X-Content-Type-Options": "nosniff",
}


def picture_routes(studio: Studio) -> list[Route]:
    """The addresses need no login, since nobody can guess them."""

    async def answer(request: Request) -> Response:
        try:
            return await run_in_threadpool(_picture, studio, **request.path_params)
        except UserError:
            return PlainTextResponse("There is no such picture.", 404)

    return [Route(f"/{PREFIX}/{{kind}}/{{table}}/{{picture}}/{{signature}}", answer, methods=["GET"])]


def _picture(studio: Studio, kind: str, table: str, picture: str, signature: str) -> Response:
    if not studio.links.is_ours(kind, table, picture, signature):
        raise UserError("error.search_picture_gone")
    path, content = _drawn(studio, picture) if table == ALBUM else _found(studio, table, picture)
    if kind == "full" and path.suffix.lower() in _SHOWN_AS_THEY_ARE:
        return FileResponse(path, headers=_HEADERS)
    return Response(studio.search.thumbnails.of(path, content), media_type="image/webp", headers=_HEADERS)


def _drawn(studio: Studio, picture: str) -> tuple[Path, str]:
    """A picture of the gallery, and what tells its content from that of another file of its name."""
    path = picture_at(studio, picture)
    stat = path.stat()
    return path, hashlib.sha256(f"{path}\0{stat.st_mtime_ns}\0{stat.st_size}".encode()).hexdigest()


def _found(studio: Studio, table: str, picture: str) -> tuple[Path, str]:
    """A picture that a search has found, and the hash of its content."""
    store = studio.search.opened(table)
    rows = store.rows([picture]) if store is not None else ()
    if not rows:
        raise UserError("error.search_picture_gone")
    return studio.search.allowed_file(rows[0], owner=may(studio.settings, Deed.SEE_SERVER_PATHS)), rows[0].content
