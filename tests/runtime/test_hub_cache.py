"""The Hugging Face cache, read without its library."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from webui.errors import UserError
from webui.runtime.catalog import Catalog
from webui.runtime.entries import CLIP
from webui.runtime.hub_cache import (
    PARTIAL_SUFFIX,
    HubModel,
    cached_models,
    hub_cache_dir,
    name_of,
    read_hub_id,
    storage_of,
)

COMMITS = ("a" * 40, "b" * 40)


@pytest.mark.parametrize(
    ("typed", "meant"),
    [
        ("google/vit-base-patch16-224", HubModel("google/vit-base-patch16-224")),
        ("  owner/Name_1.0@v2 ", HubModel("owner/Name_1.0", "v2")),
        ("https://huggingface.co/owner/name", HubModel("owner/name")),
        ("https://huggingface.co/owner/name/tree/refs/pr/3/", HubModel("owner/name", "refs/pr/3")),
    ],
)
def test_ids_and_addresses_are_understood(typed: str, meant: HubModel) -> None:
    assert read_hub_id(typed) == meant


@pytest.mark.parametrize(
    "typed", ["", "name", "a/b/c", "../x", "a/../b", "a/b@..", "/etc/passwd", "a b/c", "ก/ข", "a--b/c"]
)
def test_what_is_no_id_is_refused(typed: str) -> None:
    with pytest.raises(UserError, match="hub_bad_id"):
        read_hub_id(typed)


@given(st.text("ab/.-_@: ", max_size=30))
def test_no_text_leads_out_of_the_cache(typed: str) -> None:
    cache = Path("/cache")
    try:
        storage = storage_of(cache, read_hub_id(typed).repo)
    except UserError:
        return
    assert storage.parent == cache
    assert os.path.normpath(storage) == str(storage)


def test_the_environment_says_where_the_cache_is() -> None:
    assert hub_cache_dir({"HF_HUB_CACHE": "/c", "HF_HOME": "/h"}) == Path("/c")
    assert hub_cache_dir({"HF_HOME": "/h"}) == Path("/h/hub")
    assert hub_cache_dir({"XDG_CACHE_HOME": "/x"}) == Path("/x/huggingface/hub")
    assert hub_cache_dir({}) == Path.home() / ".cache" / "huggingface" / "hub"


def put(cache: Path, repo: str, commit: str, content: Path) -> Path:
    """Lay `content` out as the Hub's library does: blobs, and links to them."""
    storage = storage_of(cache, repo)
    snapshot = storage / "snapshots" / commit
    for number, file in enumerate(sorted(path for path in content.rglob("*") if path.is_file())):
        blob = storage / "blobs" / f"{commit[:4]}{number}"
        blob.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(file, blob)
        link = snapshot / file.relative_to(content)
        link.parent.mkdir(parents=True, exist_ok=True)
        link.symlink_to(os.path.relpath(blob, link.parent))
    return snapshot


def test_a_downloaded_model_is_in_the_catalog(tmp_path: Path, tiny_clip_folder: Path) -> None:
    cache = tmp_path / "hub"
    snapshot = put(cache, "maker/clip-1", COMMITS[0], tiny_clip_folder)
    (entry,) = Catalog(tmp_path / "models", tmp_path / "bundled", cache).entries(CLIP)
    assert (entry.id, entry.hub, entry.problem, entry.source) == ("maker/clip-1", True, None, snapshot)
    assert entry.size_bytes > 10_000
    assert entry.key().name == "maker/clip-1"


def test_the_commit_of_main_is_meant(tmp_path: Path, tiny_clip_folder: Path) -> None:
    put(tmp_path, "maker/clip", COMMITS[0], tiny_clip_folder)
    put(tmp_path, "maker/clip", COMMITS[1], tiny_clip_folder)
    refs = storage_of(tmp_path, "maker/clip") / "refs"
    refs.mkdir()
    for commit in COMMITS:
        (refs / "main").write_text(commit)
        (cached,) = cached_models(tmp_path)
        assert cached.folder is not None
        assert cached.folder.name == commit
        assert name_of(cached.folder) == cached.repo == "maker/clip"


def test_a_begun_download_is_told_and_is_no_model(tmp_path: Path) -> None:
    blobs = storage_of(tmp_path, "maker/begun") / "blobs"
    blobs.mkdir(parents=True)
    (blobs / f"abc{PARTIAL_SUFFIX}").write_bytes(bytes(1000))
    (cached,) = cached_models(tmp_path)
    assert (cached.repo, cached.folder, cached.partial_bytes) == ("maker/begun", None, 1000)
    assert Catalog(tmp_path / "m", tmp_path / "b", tmp_path).entries() == ()


def test_a_link_out_of_the_cache_is_a_problem(tmp_path: Path, tiny_clip_folder: Path) -> None:
    cache = tmp_path / "hub"
    snapshot = put(cache, "maker/clip", COMMITS[0], tiny_clip_folder)
    weights = snapshot / "model.safetensors"
    outside = shutil.copy(weights, tmp_path / "elsewhere.safetensors")
    weights.unlink()
    weights.symlink_to(outside)
    (entry,) = Catalog(tmp_path / "m", tmp_path / "b", cache).entries(CLIP)
    assert entry.problem is not None
    assert entry.problem.key == "error.model_path_outside"
