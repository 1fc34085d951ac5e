"""Indexing real files with the emoji suite's CLIP."""

from __future__ import annotations

import os
import struct
import zlib
from pathlib import Path

import pytest
from PIL import Image

from models.recipes.concepts import load_concepts
from tests.search.conftest import Draw
from webui.clip.embed import Encoder
from webui.search.find import find
from webui.search.folders import SearchFolder
from webui.search.index import IndexRun, index_folder
from webui.search.lance import LanceStore
from webui.search.query import SearchRequest, Term, read_query
from webui.search.rows import ModelIdentity


@pytest.fixture
def store(tmp_path: Path) -> LanceStore:
    return LanceStore(tmp_path / "index", ModelIdentity("emoji", "1"))


def test_a_thousand_drawings_are_found_in_english_and_thai(
    store: LanceStore, encoder: Encoder, draw_pictures: Draw, tmp_path: Path
) -> None:
    draw_pictures(tmp_path / "pictures", 1000)
    assert index_folder(store, encoder, tmp_path / "pictures").embedded == 1000
    concepts = load_concepts()
    for language in ("en", "th"):
        right = 0
        for concept in concepts:
            found = find(store, encoder, SearchRequest(read_query(f'"{concept.names[language][0]}"'), limit=5))
            right += Path(found.hits[0].row.path).name.rpartition("-")[0] == concept.id
        assert right >= 0.9 * len(concepts), language


def test_only_what_changed_is_read_and_only_what_is_unknown_is_embedded(
    store: LanceStore, encoder: Encoder, draw_pictures: Draw, tmp_path: Path
) -> None:
    folder = tmp_path / "pictures"
    paths = draw_pictures(folder, 8)
    assert index_folder(store, encoder, folder).embedded == 8
    again = index_folder(store, encoder, folder)
    assert (again.total, again.unchanged) == (0, 8)

    (folder / "deeper").mkdir()
    paths[0].rename(folder / "deeper" / "renamed.png")
    os.utime(paths[1], ns=(1, 1))
    paths[2].write_bytes(paths[3].read_bytes())
    paths[4].unlink()
    counts = index_folder(store, encoder, folder)
    assert (counts.total, counts.embedded, counts.reused, counts.vanished) == (3, 0, 3, 2)
    assert set(store.known()) == {str(path.resolve()) for path in folder.rglob("*.png")}


def test_what_cannot_be_read_is_counted_and_links_out_are_not_followed(
    store: LanceStore, encoder: Encoder, draw_pictures: Draw, tmp_path: Path
) -> None:
    folder, outside = tmp_path / "pictures", tmp_path / "outside"
    draw_pictures(folder, 2)
    secret = draw_pictures(outside, 1)[0]
    (folder / "linked.png").symlink_to(secret)
    (folder / "linked").symlink_to(outside, target_is_directory=True)
    (folder / "circle").symlink_to(folder / "circle")
    (folder / "text.png").write_text("no picture")
    (folder / "half.png").write_bytes(secret.read_bytes()[:300])
    (folder / "empty.jpg").touch()
    (folder / "huge.png").write_bytes(with_size(secret.read_bytes(), 60_000, 60_000))
    (folder / "locked.png").write_bytes(secret.read_bytes())
    (folder / "locked.png").chmod(0)
    locked = not os.access(folder / "locked.png", os.R_OK)  # nothing is locked to root
    (folder / ".hidden.png").write_bytes(secret.read_bytes())
    counts = index_folder(store, encoder, folder)
    assert counts.embedded == (2 if locked else 3)
    assert counts.links_out == 2
    names = {Path(name).name for name, _ in counts.problems}
    assert {"text.png", "half.png", "empty.jpg", "huge.png"} <= names
    assert counts.refused == len(counts.problems)
    assert len(store.known()) == counts.embedded


def with_size(png: bytes, width: int, height: int) -> bytes:
    """The PNG file with another size in its header: a few hundred bytes that claim gigabytes of pixels."""
    header = png[12:16] + struct.pack(">II", width, height) + png[24:29]
    return png[:12] + header + struct.pack(">I", zlib.crc32(header)) + png[33:]


def test_a_folder_that_is_out_of_reach_keeps_its_rows(
    store: LanceStore, encoder: Encoder, draw_pictures: Draw, tmp_path: Path
) -> None:
    folder = tmp_path / "disk"
    draw_pictures(folder, 3)
    index_folder(store, encoder, folder)
    folder.rename(tmp_path / "unplugged")
    counts = index_folder(store, encoder, folder)
    assert counts.missing_folders == (str(folder.resolve()),)
    assert store.count() == 3


def test_the_innermost_folder_owns_a_file(
    store: LanceStore, encoder: Encoder, draw_pictures: Draw, tmp_path: Path
) -> None:
    draw_pictures(tmp_path / "all", 1)
    draw_pictures(tmp_path / "all" / "shared", 2)
    outer = SearchFolder("outer", (tmp_path / "all").resolve())
    inner = SearchFolder("inner", (tmp_path / "all" / "shared").resolve(), shared=True)
    run = IndexRun(store, [outer])
    run.prepare()
    assert run.advance(encoder)
    run = IndexRun(store, [outer, inner])
    run.prepare()
    assert run.advance(encoder)
    assert run.counts.embedded == 0
    assert sorted(known.folder for known in store.known().values()) == ["inner", "inner", "outer"]


def test_near_duplicates_are_one_result_and_a_picture_finds_itself(
    store: LanceStore, encoder: Encoder, draw_pictures: Draw, tmp_path: Path
) -> None:
    folder = tmp_path / "pictures"
    path = draw_pictures(folder, 40)[0]
    with Image.open(path) as image:
        image.convert("RGB").resize((100, 100), Image.Resampling.LANCZOS).save(folder / "smaller.jpg", quality=70)
    index_folder(store, encoder, folder)
    row = next(one for one in store.rows([k.id for k in store.known().values()]) if one.path == str(path.resolve()))
    found = find(store, encoder, [Term(indexed=row.id)])
    group = [Path(found.hits[place].row.path).name for place in found.groups[0]]
    assert sorted(group) == sorted([path.name, "smaller.jpg"])
    assert found.hits[0].score == pytest.approx(1, abs=1e-5)
    assert found.matches is True
