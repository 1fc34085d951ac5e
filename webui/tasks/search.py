"""What search and index jobs do, whoever asks: the page, the REST API and the command line.

Indexing runs in slices of some seconds, each a job of its own, so that nobody who wants to draw waits for a folder of a
hundred thousand pictures. How far it is stands on `studio.search.board`.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from webui.clip.concepts import concept_labels, read_concepts
from webui.clip.request import check_texts
from webui.clip.watch import Watch
from webui.errors import UserError
from webui.runtime.entries import CLIP
from webui.runtime.jobs import JobCancelled, JobContext
from webui.search.folders import OUTPUTS, SearchFolder
from webui.search.index import IndexRun
from webui.search.lance import LanceStore
from webui.search.query import MAX_TERMS, SearchRequest, check_request
from webui.search.rows import ModelIdentity, PictureRow
from webui.search.service import IndexPhase
from webui.search.store import Filters, Matrix
from webui.studio import Studio
from webui.tasks.clip import with_encoder

if TYPE_CHECKING:
    from webui.clip.embed import Encoder
    from webui.search.find import Found

_log = logging.getLogger(__name__)

_OWNER: Final = "index"
_SLICE_SECONDS: Final = 5.0
_REPORT_SECONDS: Final = 1.0
_SETTLING_SECONDS: Final = 3.0
"""A picture is indexed so long after it was drawn: a series is taken together, and the next run is not held up."""
_MAX_CAUGHT_UP: Final = 200
_MANY_NEW: Final = 64
_PLAIN_QUERIES: Final = (
    "a cat", "a dog", "a car", "a house", "a tree", "people at a table", "a beach", "mountains", "a city at night",
    "food on a plate", "a flower", "a child playing", "a boat", "a bird", "snow", "a portrait", "a street", "a bicycle",
    "a book", "text on a screen",
)  # fmt: skip
"""To measure an index with when the model brings no names of its own."""


def check_search(studio: Studio, request: SearchRequest, *, owner: bool) -> None:
    """All that can be checked before a model is loaded. Raises UserError, which names no folder that is not shared to
    anybody but the owner.
    """
    check_request(request)
    check_texts([term.text for term in request.terms if term.text], MAX_TERMS, studio.settings.score_limits)
    _with_folder_ids(studio, request.filters, owner=owner)
    store_of(studio, request.model)


def store_of(studio: Studio, model: str) -> LanceStore:
    """The store of a model's vectors. Raises UserError for a model that there is not."""
    entry = studio.catalog.find(model, CLIP)
    return studio.search.store(ModelIdentity(entry.id, entry.revision))


def library_of(studio: Studio, *, owner: bool) -> Filters:
    """What may be searched: the listed folders; for anybody but the owner, of these the shared ones."""
    return Filters(folders=tuple(f.id for f in studio.search.folders.listed(only_shared=not owner)))


def shown_path(studio: Studio, row: PictureRow, *, owner: bool) -> str:
    """What a picture is called: its path to the owner, its folder's name and the path below it to anybody else."""
    if owner:
        return row.path
    folder = studio.search.folders.find(row.folder)
    return str(Path(folder.name) / Path(row.path).relative_to(folder.path))


def search_pictures(studio: Studio, request: SearchRequest, context: JobContext, *, owner: bool) -> Found:
    """Find the nearest pictures; generated ones that are not in the index yet are taken in first."""
    check_search(studio, request, owner=owner)
    request = replace(request, filters=_with_folder_ids(studio, request.filters, owner=owner))
    store = store_of(studio, request.model)

    def work(encoder: Encoder) -> Found:
        from webui.search.find import find

        notes = _catch_up(studio, store, encoder, context)
        return replace(find(store, encoder, request, library_of(studio, owner=owner), context), notes=notes)

    return with_encoder(studio, request.model, work, context)


def found_as_dict(studio: Studio, found: Found, *, owner: bool) -> dict[str, Any]:
    """The answer as JSON gives it; of near-duplicates the best is a result, the others stand with it."""
    results = []
    table = store_of(studio, found.request.model).identity.table
    for group in found.groups:
        hit, *others = (found.hits[place] for place in group)
        row = hit.row
        results.append(
            {
                "path": shown_path(studio, row, owner=owner),
                "score": round(hit.score, 6),
                "sigmas": round(hit.sigmas, 3),
                "width": row.width,
                "height": row.height,
                "modified": datetime.fromtimestamp(row.modified_ns / 1e9, UTC).isoformat(timespec="seconds"),
                "prompt": row.prompt,
                "near_duplicates": [shown_path(studio, other.row, owner=owner) for other in others],
                "id": row.id,
                "thumbnail": "/" + studio.links.address("thumbnail", table, row.id),
            }
        )
    return {
        "results": results,
        "stands_out": found.matches,
        "threshold_sigmas": round(found.spread.threshold, 3),
        "searched": found.searched,
        "exact": found.exact,
        "recall_at_10": found.recall,
        "seconds": round(found.seconds, 4),
        "notes": list(found.notes),
    }


def start_index(studio: Studio, model: str, folders: Sequence[SearchFolder] | None = None) -> None:
    """Bring the index of `model` up to date with `folders` (None: all that are listed), from the job queue.

    Raises UserError when a run goes on already or the queue is full.
    """
    store = store_of(studio, model)
    every = studio.search.folders.listed()
    run = IndexRun(store, every if folders is None else folders, every)
    studio.search.board.begin()
    _submit_slice(studio, model, run, prepared=False)


def stop_index(studio: Studio) -> None:
    """Let the run end at its next batch; what it has written stays."""
    studio.search.board.cancelled.set()


def index_new_picture(studio: Studio, path: Path) -> None:
    """Take a picture that was just saved into the index soon. Never raises: the picture itself is what matters."""
    if not studio.settings.index_outputs or not path.is_relative_to(studio.settings.outputs_dir):
        return
    if studio.search.board.add_new(path):
        timer = threading.Timer(_SETTLING_SECONDS, _submit_new, [studio])
        timer.daemon = True
        timer.start()


def _with_folder_ids(studio: Studio, filters: Filters, *, owner: bool) -> Filters:
    """The same filters with the ids of folders, which people may call by name."""
    if filters.folders is None:
        return filters
    found = (studio.search.folders.find(folder, only_shared=not owner) for folder in filters.folders)
    return replace(filters, folders=tuple(folder.id for folder in found))


class _StopsWithBoard:
    """Ends a slice when its job is cancelled or the run is."""

    def __init__(self, context: JobContext, studio: Studio) -> None:
        self._context = context
        self._board = studio.search.board

    def check(self) -> None:
        """Raises JobCancelled."""
        self._context.check()
        if self._board.cancelled.is_set():
            raise JobCancelled

    def progress(self, step: int, total: int, phase: str) -> None:
        """The job's own progress."""
        self._context.progress(step, total, phase)


def _submit_slice(studio: Studio, model: str, run: IndexRun, *, prepared: bool) -> None:
    try:
        studio.jobs.submit(partial(_slice, studio, model, run, prepared), owner=_OWNER, kind="index")
    except UserError as error:
        studio.search.board.say(phase=IndexPhase.FAILED, error=error)
        raise


def _slice(studio: Studio, model: str, run: IndexRun, prepared: bool, context: JobContext) -> None:
    """Some seconds of a run; the next slice is a job that queues up behind whoever came meanwhile."""
    board, watch = studio.search.board, _StopsWithBoard(context, studio)
    try:
        watch.check()
        if not prepared:
            board.say(phase=IndexPhase.SCANNING)
            run.prepare(watch)
            board.say(counts=run.counts)
        if run.needs_model:
            done = with_encoder(studio, model, partial(_advance, studio, run, watch), context)
        else:
            run.finish()
            board.say(counts=run.counts)
            done = True
        if not done:
            board.say(phase=IndexPhase.WAITING)
            _submit_slice(studio, model, run, prepared=True)
            return
        _tidy_up(studio, model, context)
    except JobCancelled:
        board.say(phase=IndexPhase.STOPPED, counts=run.counts)
    except UserError as error:
        board.say(phase=IndexPhase.FAILED, counts=run.counts, error=error)
    except BaseException:
        board.say(phase=IndexPhase.FAILED, counts=run.counts)
        raise


def _advance(studio: Studio, run: IndexRun, watch: Watch, encoder: Encoder) -> bool:
    board = studio.search.board
    board.say(phase=IndexPhase.EMBEDDING, device=str(encoder.model.device))
    for _ in range(round(_SLICE_SECONDS / _REPORT_SECONDS)):
        done = run.advance(encoder, _REPORT_SECONDS, watch)
        board.say(counts=run.counts)
        if done:
            return True
    return False


def _tidy_up(studio: Studio, model: str, context: JobContext) -> None:
    """Merge files; a large table's index is built beside the queue, since that takes minutes."""
    board, store = studio.search.board, store_of(studio, model)
    board.say(phase=IndexPhase.TIDYING)
    if store.is_exact:
        store.optimize()
        board.say(phase=IndexPhase.DONE)
        return
    queries = with_encoder(studio, model, partial(_text_queries, studio, model), context)
    threading.Thread(target=_build, args=(studio, store, queries), name="index-build", daemon=True).start()


def _build(studio: Studio, store: LanceStore, queries: Matrix) -> None:
    board = studio.search.board
    try:
        store.optimize(queries)
        board.say(phase=IndexPhase.DONE)
    except UserError as error:
        board.say(phase=IndexPhase.FAILED, error=error)
    except BaseException:
        board.say(phase=IndexPhase.FAILED)
        raise


def _text_queries(studio: Studio, model: str, encoder: Encoder) -> Matrix:
    """Vectors of texts such as people search for."""
    from webui.clip.embed import embed_texts

    concepts = read_concepts(studio.catalog.find(model, CLIP).source)
    names = [*concept_labels(concepts, "en")[:100], *concept_labels(concepts, "th")[:100]]
    return embed_texts(encoder, names or _PLAIN_QUERIES).vectors


def _catch_up(studio: Studio, store: LanceStore, encoder: Encoder, context: JobContext) -> tuple[str, ...]:
    """Take in what was generated and is not indexed; message keys that say what was left out.

    The outputs folder is walked once a program and model; after that its own pictures are known as they are made.
    """
    if not studio.settings.index_outputs:
        return ()
    new = studio.search.board.take_new()
    if not new and studio.search.was_walked(store.identity.table):
        return ()
    every = studio.search.folders.listed()
    run = IndexRun(store, [folder for folder in every if folder.id == OUTPUTS], every)
    try:
        run.prepare(context)
        if run.counts.total > _MAX_CAUGHT_UP:
            return ("search.note.outputs_behind",)
        run.advance(encoder, watch=context)
    except UserError as error:
        _log.warning("generated pictures are not indexed: %s", error)
        return ("search.note.index_busy",)
    studio.search.mark_walked(store.identity.table)
    return ()


def _submit_new(studio: Studio) -> None:
    try:
        studio.jobs.submit(partial(_index_new, studio), owner=_OWNER, kind="index")
    except UserError as error:
        _log.info("generated pictures are indexed later: %s", error)


def _index_new(studio: Studio, context: JobContext) -> None:
    """Index what was drawn lately, unless somebody waits to draw: then after them."""
    if studio.jobs.waiting(but=_OWNER) and studio.search.board.waiting_pictures() < _MANY_NEW:
        _submit_new(studio)
        return
    entry = studio.catalog.first_usable(CLIP)
    if entry is None:
        return
    model = entry.id
    store = store_of(studio, model)
    with_encoder(studio, model, lambda encoder: _catch_up(studio, store, encoder, context), context)
