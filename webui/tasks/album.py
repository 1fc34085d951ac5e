"""What the gallery asks of the other services: pictures by meaning, their prompts, and where a browser finds them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Final

from webui.errors import UserError
from webui.runtime.entries import CLIP
from webui.runtime.jobs import JobContext
from webui.search.folders import OUTPUTS
from webui.search.query import SearchRequest, read_query
from webui.search.store import Filters
from webui.store.infotext import parse_infotext
from webui.studio import Studio
from webui.tasks.search import search_pictures

ALBUM: Final = "album"
"""In an address, where the search's pictures name a table."""

_MOST: Final = 480


def pictures_by_meaning(studio: Studio, words: str, context: JobContext) -> tuple[str, ...]:
    """The ids of the pictures that fit `words` best, the best first. Raises UserError."""
    entry = studio.catalog.first_usable(CLIP)
    model = "" if entry is None else entry.id
    request = SearchRequest(read_query(words), Filters(folders=(OUTPUTS,)), model, _MOST)
    found = search_pictures(studio, request, context, owner=True)
    ids = (studio.album.id_of(Path(hit.row.path)) for hit in found.hits)
    return tuple(each for each in ids if each is not None)


def prompt_of(studio: Studio, picture: str) -> str:
    """The prompt of a picture, "" where there is none that can be read."""
    words = studio.album.words(picture)
    if not words:
        return ""
    try:
        return str(parse_infotext(words).values.get("prompt", ""))
    except UserError:
        return ""


def picture_address(studio: Studio) -> Callable[[str, str], str]:
    """What makes an address of ("thumbnail" or "full", id); only those who were shown it can look."""

    def address(kind: str, picture: str) -> str:
        return studio.links.address(kind, ALBUM, picture.replace("/", "_"))

    return address


def picture_at(studio: Studio, name: str) -> Path:
    """The file behind the name in such an address; raises UserError."""
    return studio.album.file(name.replace("_", "/", 1))
