"""What the owner does with models: look up, download, load, let go; and nobody else."""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from tests.hub_server import Hub, serve_hub
from tests.tiny_checkpoint import checkpoint_tensors, save_checkpoint, tiny_stable_diffusion
from webui.cli import run
from webui.errors import UserError
from webui.runtime.added import AddedPaths
from webui.runtime.catalog import Catalog
from webui.runtime.download import Downloader
from webui.runtime.downloads import DownloadBoard, DownloadPhase, DownloadStatus
from webui.runtime.entries import CLIP, TXT2IMG
from webui.runtime.jobs import JobContext
from webui.runtime.manager import ModelManager
from webui.settings import Settings
from webui.studio import Studio, open_studio
from webui.tasks.models import (
    add_path,
    added_paths,
    forget_path,
    is_path,
    load_model,
    look_up,
    move_model_to_ram,
    start_download,
    stop_download,
    unload_model,
)
from webui.views.models_page import loaded_id


@pytest.fixture
def hub(tiny_clip_folder: Path) -> Iterator[Hub]:
    with serve_hub() as served:
        for name in ("maker/clip", "maker/second"):
            served.put(name, tiny_clip_folder)
        yield served


@pytest.fixture
def studio(tmp_path: Path, hub: Hub) -> Iterator[Studio]:
    """A studio whose Hub, cache and models folder are this test's own."""
    cache = tmp_path / "hf" / "hub"
    opened = open_studio(Settings(data_dir=tmp_path))
    catalog = Catalog(tmp_path / "models", tmp_path / "bundled", cache, AddedPaths(tmp_path / "paths.json"))
    board = DownloadBoard(Downloader(cache, os.environ | hub.environment(cache), pause=0.01))
    own = replace(opened, catalog=catalog, manager=ModelManager(catalog.roots), downloads=board)
    yield own
    opened.downloads.close()
    opened.manager.close()
    own.close()


def wait_for(studio: Studio, repo: str, holds: Callable[[DownloadStatus], bool]) -> DownloadStatus:
    deadline = time.monotonic() + 120
    while True:
        (status,) = [each for each in studio.downloads.statuses() if each.plan.model.repo == repo]
        if holds(status):
            return status
        assert time.monotonic() < deadline, status
        time.sleep(0.02)


def test_a_model_is_downloaded_loaded_and_let_go(studio: Studio, context: JobContext) -> None:
    start_download(studio, look_up(studio, "https://huggingface.co/maker/clip"))
    wait_for(studio, "maker/clip", lambda status: status.phase is DownloadPhase.DONE)
    assert load_model(studio, "maker/clip", CLIP, context).hub
    (loaded,) = studio.manager.status()
    assert loaded.state == "idle"
    move_model_to_ram(studio, loaded_id(loaded))
    unload_model(studio, "another")
    assert len(studio.manager.status()) == 1
    unload_model(studio, loaded_id(loaded))
    assert studio.manager.status() == ()


def test_downloads_wait_for_each_other_and_are_stopped(studio: Studio, hub: Hub) -> None:
    plans = [look_up(studio, repo) for repo in ("maker/clip", "maker/second")]
    hub.faults.pause = 0.3
    for plan in plans:
        start_download(studio, plan)
    wait_for(studio, "maker/clip", lambda status: bool(status.progress and status.progress.done))
    assert wait_for(studio, "maker/second", lambda status: True).phase is DownloadPhase.WAITING
    with pytest.raises(UserError, match="models_downloading"):
        start_download(studio, plans[0])
    for plan in reversed(plans):
        stop_download(studio, plan.model.repo)
    for plan in plans:
        wait_for(studio, plan.model.repo, lambda status: status.phase is DownloadPhase.STOPPED)
    hub.faults.pause = 0.0
    start_download(studio, plans[0])
    wait_for(studio, "maker/clip", lambda status: status.phase is DownloadPhase.DONE)
    assert [status.plan.model.repo for status in studio.downloads.statuses()][-1] == "maker/clip"


def test_a_failed_download_keeps_its_reason(studio: Studio, hub: Hub) -> None:
    plan = look_up(studio, "maker/clip")
    hub.faults.corrupt = True
    start_download(studio, plan)
    status = wait_for(studio, "maker/clip", lambda status: not status.phase.busy)
    assert status.phase is DownloadPhase.FAILED
    assert status.error is not None
    assert status.error.key == "error.hub_wrong_content"


@pytest.mark.parametrize("path", ["/somewhere/model", "~/model", "./model", "C:\\model", "cat.safetensors"])
def test_a_path_that_leads_nowhere_is_said_to(studio: Studio, hub: Hub, path: str) -> None:
    assert is_path(path)
    assert not is_path("owner/name")
    with pytest.raises(UserError, match="added_missing"):
        add_path(studio, path)
    assert not hub.asked


def test_a_model_elsewhere_is_used_where_it_is(
    studio: Studio, tiny_clip_folder: Path, tmp_path: Path, context: JobContext
) -> None:
    """A folder and files, until they are taken from the list or are gone; nothing of them is touched."""
    elsewhere = tmp_path / "elsewhere"
    shutil.copytree(tiny_clip_folder, elsewhere / "own-clip")
    save_file({"emb_params": torch.ones(2, 8)}, elsewhere / "soft.safetensors")
    save_checkpoint(elsewhere / "dreams.safetensors", checkpoint_tensors(tiny_stable_diffusion(1), 1))
    before = sorted(elsewhere.rglob("*"))
    for name in ("own-clip", "soft.safetensors", "dreams.safetensors"):
        assert add_path(studio, f" {elsewhere / name} ") == name.removesuffix(".safetensors")
        assert add_path(studio, str(elsewhere / name)) == name.removesuffix(".safetensors")  # once
    assert len(added_paths(studio.catalog).paths()) == 3
    for name, task in {"own-clip": CLIP, "dreams": TXT2IMG}.items():
        entry = load_model(studio, name, task, context)
        assert (entry.added, entry.source.parent) == (True, elsewhere)
    assert [file.name for file in studio.catalog.extras(wait=True)] == ["soft"]
    shutil.rmtree(elsewhere / "own-clip")
    with pytest.raises(UserError, match="added_gone"):
        studio.catalog.find("own-clip", TXT2IMG)
    for path in added_paths(studio.catalog).paths():
        forget_path(studio, str(path))
    assert studio.catalog.entries(wait=True) == ()
    assert studio.catalog.extras(wait=True) == ()
    assert sorted(elsewhere.rglob("*")) == [path for path in before if "own-clip" not in path.parts]


def test_what_is_no_model_is_not_listed(studio: Studio, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "old.ckpt").write_bytes(b"\x80\x02}q\x00.")
    (tmp_path / "letter.txt").write_text("dear")
    save_file({"weight": torch.ones(2, 3, 4)}, tmp_path / "other.safetensors")
    (tmp_path / "cut.safetensors").write_bytes(b"12345")
    for name, key in {
        "empty": "error.added_no_model",
        "old.ckpt": "error.weights_pickle",
        "letter.txt": "error.added_no_model",
        "other.safetensors": "error.weights_unknown",
        "cut.safetensors": "error.model_file_broken",
    }.items():
        with pytest.raises(UserError) as caught:
            add_path(studio, str(tmp_path / name))
        assert caught.value.key == key, name
    assert added_paths(studio.catalog).paths() == ()


def test_the_command_line_adds_and_forgets(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "soft.safetensors"
    save_file({"emb_params": torch.ones(2, 8)}, file)
    own = ["--data-dir", str(tmp_path / "data")]
    assert run(["models", "add", str(file), *own]) == 0
    assert "soft" in capsys.readouterr().out
    assert run(["models", "forget", str(file), *own]) == 0
    assert run(["models", "forget", str(file), *own]) == 2


def test_remote_mode_refuses_all_of_it(studio: Studio, hub: Hub, context: JobContext) -> None:
    plan = look_up(studio, "maker/clip")
    asked = len(hub.asked)
    remote = replace(studio, settings=Settings(data_dir=studio.settings.data_dir, host="0.0.0.0"))
    for attempt in (
        lambda: look_up(remote, "maker/clip"),
        lambda: start_download(remote, plan),
        lambda: stop_download(remote, "maker/clip"),
        lambda: load_model(remote, "maker/clip", CLIP, context),
        lambda: unload_model(remote, "x"),
        lambda: move_model_to_ram(remote, "x"),
    ):
        with pytest.raises(UserError, match="models_remote"):
            attempt()
    assert len(hub.asked) == asked
    assert studio.downloads.statuses() == ()
