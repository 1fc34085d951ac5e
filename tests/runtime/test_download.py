"""Downloads from a hub on this machine, with the faults of real networks, and loading what came of them."""

from __future__ import annotations

import os
import resource
import signal
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import psutil
import pytest

from tests.hub_server import COMMIT, Faults, Hub, serve_hub
from webui.errors import UserError
from webui.runtime.catalog import Catalog
from webui.runtime.download import Downloader, DownloadProgress
from webui.runtime.entries import CLIP, TXT2IMG
from webui.runtime.hub_cache import PARTIAL_SUFFIX, HubModel, cached_models
from webui.runtime.jobs import JobCancelled
from webui.runtime.manager import ModelManager

CLIP_ID = HubModel("maker/clip")
WEIGHTS = "model.safetensors"


@pytest.fixture
def hub(tiny_clip_folder: Path) -> Iterator[Hub]:
    with serve_hub() as served:
        served.put("maker/clip", tiny_clip_folder, pytorch_model__bin=b"pickle", README__md=b"---\nlicense: mit\n---\n")
        yield served


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    return tmp_path / "hf" / "hub"


@pytest.fixture
def downloader(hub: Hub, cache: Path) -> Downloader:
    return Downloader(cache, os.environ | hub.environment(cache), pause=0.01)


FIRST_CHUNK = 64 * 1024


def partial_bytes(cache: Path) -> int:
    return sum(cached.partial_bytes for cached in cached_models(cache))


def weights_of(hub: Hub) -> bytes:
    return hub.repos["maker/clip"][WEIGHTS]


def test_a_model_is_downloaded_and_loads_offline(downloader: Downloader, hub: Hub, cache: Path) -> None:
    seen: list[DownloadProgress] = []
    plan = downloader.plan(CLIP_ID)
    assert plan.task == CLIP
    assert plan.total_bytes > plan.missing_bytes > len(weights_of(hub)), "its config.json is here already"
    assert "pytorch_model.bin" not in {file.name for file in plan.files}
    assert not hub.file_requests(WEIGHTS), "a plan downloads no weights"
    folder = downloader.fetch(plan, seen.append)
    assert (folder / WEIGHTS).read_bytes() == weights_of(hub)
    assert not (folder / "pytorch_model.bin").exists()
    assert seen[-1].done == seen[-1].total == plan.total_bytes
    assert downloader.plan(CLIP_ID).missing_bytes == 0

    before = len(hub.asked)
    catalog = Catalog(cache.parent / "models", cache.parent / "bundled", cache)
    entry = catalog.find("maker/clip", CLIP)
    assert (entry.licence, entry.hub, entry.source) == ("mit", True, folder)
    manager = ModelManager(catalog.roots)
    with manager.use(entry.key("float32")) as clip:
        assert clip.model.config.projection_dim == 16
    assert [status.key.name for status in manager.status()] == ["maker/clip"]
    manager.close()
    assert len(hub.asked) == before, "loading asks the Hub nothing"


def test_a_pipeline_is_downloaded_and_draws(
    hub: Hub, downloader: Downloader, cache: Path, tiny_pipeline_folder: Path
) -> None:
    hub.put("maker/sd", tiny_pipeline_folder)
    hub.repos["maker/sd"]["safety_checker/model.safetensors"] = bytes(1000)
    folder = downloader.fetch(downloader.plan(HubModel("maker/sd")))
    assert not (folder / "safety_checker").exists()
    catalog = Catalog(cache.parent / "models", cache.parent / "bundled", cache)
    manager = ModelManager(catalog.roots)
    with manager.use(catalog.find("maker/sd", TXT2IMG).key("float32")) as pipe:
        picture = pipe("a", num_inference_steps=1, output_type="np").images[0]
    manager.close()
    assert np.isfinite(picture).all()


def test_dropped_connections_go_on_where_they_broke_off(downloader: Downloader, hub: Hub) -> None:
    plan = downloader.plan(CLIP_ID)
    hub.faults.drop_after = [100_000, 70_000]
    folder = downloader.fetch(plan)
    assert (folder / WEIGHTS).read_bytes() == weights_of(hub)
    assert hub.file_requests(WEIGHTS) == ["", "bytes=65536-", "bytes=131072-"]


def test_busy_and_broken_servers_are_asked_again(downloader: Downloader, hub: Hub) -> None:
    hub.faults.statuses = {"api": [429, 503], "file": [503, 429]}
    folder = downloader.fetch(downloader.plan(CLIP_ID))
    assert (folder / WEIGHTS).read_bytes() == weights_of(hub)


@pytest.mark.parametrize(("status", "key"), [(503, "hub_down"), (429, "hub_busy"), (401, "hub_refused")])
def test_a_server_that_stays_so_is_named(downloader: Downloader, hub: Hub, status: int, key: str) -> None:
    hub.faults.statuses["api"] = [status] * 20
    with pytest.raises(UserError, match=key):
        downloader.plan(CLIP_ID)


def test_a_file_of_the_wrong_length_is_no_model(downloader: Downloader, hub: Hub, cache: Path) -> None:
    plan = downloader.plan(CLIP_ID)
    hub.faults.announce = 100
    with pytest.raises(UserError, match="hub_wrong_length") as caught:
        downloader.fetch(plan)
    assert caught.value.values["size"] == len(weights_of(hub)) + 100
    hub.faults.announce = -100
    with pytest.raises(UserError, match="hub_wrong_length"):
        downloader.fetch(plan)
    assert partial_bytes(cache) == 0, "too long a file is thrown away"
    hub.faults = Faults()
    assert (downloader.fetch(plan) / WEIGHTS).read_bytes() == weights_of(hub)


def test_damaged_content_is_thrown_away(downloader: Downloader, hub: Hub, cache: Path) -> None:
    plan = downloader.plan(CLIP_ID)
    hub.faults.corrupt = True
    with pytest.raises(UserError, match="hub_wrong_content"):
        downloader.fetch(plan)
    assert partial_bytes(cache) == 0
    hub.faults.corrupt = False
    assert (downloader.fetch(plan) / WEIGHTS).read_bytes() == weights_of(hub)


def wait_until(holds: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 60
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def download_processes() -> list[psutil.Process]:
    """The downloads that this process has started; a server that other tests use may be its child too."""
    return [child for child in psutil.Process().children() if "webui.runtime.hub_worker" in child.cmdline()]


def stopped_by(stop: Callable[[], None], downloader: Downloader, hub: Hub, cache: Path) -> BaseException | None:
    """Start a slow download in a thread, call `stop` once some of the weights are here, and give what it raised."""
    raised: list[BaseException] = []
    plan = downloader.plan(CLIP_ID)
    hub.faults.pause = 0.25

    def work() -> None:
        try:
            downloader.fetch(plan)
        except BaseException as error:  # noqa: BLE001
            raised.append(error)

    thread = threading.Thread(target=work)
    thread.start()
    wait_until(lambda: partial_bytes(cache) > 0)
    stop()
    thread.join(60)
    assert not thread.is_alive()
    return raised[0] if raised else None


def test_a_download_is_cancelled_and_resumed(downloader: Downloader, hub: Hub, cache: Path) -> None:
    cancel = threading.Event()
    seen: list[DownloadProgress] = []
    plan = downloader.plan(CLIP_ID)
    hub.faults.pause = 0.25

    def show(progress: DownloadProgress) -> None:
        seen.append(progress)
        if any(file.name == WEIGHTS and FIRST_CHUNK < file.done < file.total for file in progress.files):
            cancel.set()  # the library tells of a chunk just before it writes it: now the first is written

    with pytest.raises(JobCancelled):
        downloader.fetch(plan, show, cancel)
    kept = partial_bytes(cache)
    assert 0 < kept < len(weights_of(hub))
    assert not download_processes(), "its process has ended"
    assert downloader.plan(CLIP_ID).missing_bytes < plan.missing_bytes
    hub.faults.pause = 0.0
    folder = downloader.fetch(plan)
    assert hub.file_requests(WEIGHTS)[-1] == f"bytes={kept}-"
    assert (folder / WEIGHTS).read_bytes() == weights_of(hub)


def test_a_slow_download_tells_its_speed(downloader: Downloader, hub: Hub) -> None:
    seen: list[DownloadProgress] = []
    plan = downloader.plan(CLIP_ID)
    hub.faults.pause = 0.15
    downloader.fetch(plan, seen.append)
    told = [progress for progress in seen if progress.rate]
    assert told
    assert all(progress.seconds_left is not None and progress.seconds_left >= 0 for progress in told)


def test_kill_9_in_the_middle_and_then_go_on(downloader: Downloader, hub: Hub, cache: Path) -> None:
    def kill() -> None:
        (process,) = download_processes()
        process.send_signal(signal.SIGKILL)

    error = stopped_by(kill, downloader, hub, cache)
    assert isinstance(error, UserError)
    assert error.key == "error.hub_failed"
    kept = partial_bytes(cache)
    assert 0 < kept < len(weights_of(hub))
    hub.faults.pause = 0.0
    folder = downloader.fetch(downloader.plan(CLIP_ID))
    assert hub.file_requests(WEIGHTS)[-1] == f"bytes={kept}-"
    assert (folder / WEIGHTS).read_bytes() == weights_of(hub)
    assert not list(cache.rglob(f"*{PARTIAL_SUFFIX}"))


def test_each_refusal_has_its_sentence(downloader: Downloader, hub: Hub) -> None:
    with pytest.raises(UserError, match="hub_not_found"):
        downloader.plan(HubModel("maker/nothing"))
    with pytest.raises(UserError, match="hub_no_revision"):
        downloader.plan(HubModel("maker/clip", "v9"))
    hub.gated.add("maker/clip")
    with pytest.raises(UserError, match="hub_gated") as caught:
        downloader.plan(CLIP_ID)
    assert caught.value.values["address"] == f"{hub.url}/maker/clip"


def test_offline_is_said(cache: Path, free_port: Callable[[], int], hub: Hub) -> None:
    nobody = hub.environment(cache) | {"HF_ENDPOINT": f"http://127.0.0.1:{free_port()}"}
    with pytest.raises(UserError, match="hub_unreachable"):
        Downloader(cache, os.environ | nobody, pause=0.01).plan(CLIP_ID)
    wanted = hub.environment(cache) | {"HF_HUB_OFFLINE": "1"}
    with pytest.raises(UserError, match="hub_offline_wanted"):
        Downloader(cache, os.environ | wanted).plan(CLIP_ID)
    assert not hub.asked


def test_too_small_a_disk_is_said_before_and_on_the_way(downloader: Downloader, hub: Hub, cache: Path) -> None:
    small = Downloader(cache, os.environ | hub.environment(cache), free_bytes=lambda folder: 1000)
    with pytest.raises(UserError, match="hub_disk_full") as caught:
        small.plan(CLIP_ID)
    assert caught.value.values["free"] == "1 MiB"
    plan = downloader.plan(CLIP_ID)
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (40_000, before[1]))  # the next process cannot write more into a file
    try:
        with pytest.raises(UserError, match="hub_disk_full_now"):
            downloader.fetch(plan)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert (downloader.fetch(plan) / WEIGHTS).read_bytes() == weights_of(hub)


def test_an_etag_cannot_lead_out_of_the_cache(downloader: Downloader, hub: Hub, cache: Path) -> None:
    plan = downloader.plan(CLIP_ID)
    hub.faults.etag = "../../../out"
    with pytest.raises(UserError, match="hub_no_hub"):
        downloader.fetch(plan)
    assert not list(cache.parent.parent.rglob("out*"))


def test_main_is_remembered(downloader: Downloader, cache: Path) -> None:
    downloader.fetch(downloader.plan(CLIP_ID))
    (cached,) = cached_models(cache)
    assert (cached.storage / "refs" / "main").read_text() == COMMIT
