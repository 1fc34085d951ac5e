"""A real server whose disk fills up, whose folder is locked, whose log is attacked, and which is killed at work.

What it has said to be there is there, whole, in the next start; nothing half-written is shown; it says what is wrong.
"""

from __future__ import annotations

import os
import resource
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest
from PIL import Image

from tests.e2e.served import Served, serve
from webui.store.gallery import Gallery, open_picture
from webui.store.infotext import read_infotext

PATIENCE = 120.0
ANGRY = """
def register(api):
    def tool(draft):
        if "angry" in draft.prompt:
            raise ValueError(draft.prompt + chr(27) + "[2J")
        return draft
    api.add_prompt_tool(tool)
"""
MANIFEST = 'id = "angry"\nversion = "1"\napi = 1\ntitle = { en = "Angry", th = "โกรธ" }\n'


@pytest.fixture
def place(tmp_path: Path, tiny_pipeline_folder: Path) -> Path:
    """A data folder with one tiny model, and an extension that repeats a prompt in what it raises."""
    shutil.copytree(tiny_pipeline_folder, tmp_path / "models" / "tiny")
    folder = tmp_path / "extensions" / "angry"
    folder.mkdir(parents=True)
    (folder / "extension.toml").write_text(MANIFEST, encoding="utf-8")
    (folder / "extension.py").write_text(ANGRY, encoding="utf-8")
    return tmp_path


Start = Callable[[], Served]


@pytest.fixture
def start(place: Path) -> Iterator[Start]:
    started: list[Served] = []

    def make() -> Served:
        started.append(serve(place, place / "models"))
        return started[-1]

    yield make
    for served in started:
        served.process.kill()
        served.process.wait(60)


def wait_for(condition: Callable[[], Any]) -> Any:
    deadline = time.monotonic() + PATIENCE
    while not (found := condition()):
        assert time.monotonic() < deadline
        time.sleep(0.02)
    return found


class Caller:
    """A program on the REST API."""

    def __init__(self, served: Served) -> None:
        self.http = httpx.Client(base_url=served.url, timeout=PATIENCE)

    def ask(self, **changes: object) -> str:
        asked = {"prompt": "a cat", "model": "tiny", "steps": 2, "sampler": "DDIM"} | changes
        answer = self.http.post("api/v1/generate", json=asked)
        assert answer.status_code == 202, answer.text
        return str(answer.json()["url"])

    def said(self, job: str) -> dict[str, Any]:
        answer: dict[str, Any] = self.http.get(job).json()
        return answer

    def drawn(self, **changes: object) -> dict[str, Any]:
        """What is said of a job that has ended."""
        job = self.ask(**changes)
        wait_for(lambda: self.said(job)["state"] in ("done", "failed"))
        return self.said(job)


@contextmanager
def full_disk(served: Served) -> Iterator[None]:
    """The server cannot make any file grow: what a process sees of a full disk, on a machine whose disk is not."""
    pid = served.process.pid
    before = resource.prlimit(pid, resource.RLIMIT_FSIZE)
    resource.prlimit(pid, resource.RLIMIT_FSIZE, (8, before[1]))
    yield
    resource.prlimit(pid, resource.RLIMIT_FSIZE, before)


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Nobody can write into the folder, root neither."""
    root = os.geteuid() == 0
    lock = ["chattr", "+i", str(folder)] if root else ["chmod", "a-w", str(folder)]
    free = ["chattr", "-i", str(folder)] if root else ["chmod", "u+w", str(folder)]
    if subprocess.run(lock, capture_output=True, check=False).returncode != 0:
        pytest.skip("this file system cannot lock a folder against root")
    try:
        yield
    finally:
        subprocess.run(free, check=True)


def test_a_server_outlives_its_disk_and_loses_nothing_when_it_is_killed(start: Start, place: Path) -> None:
    served = start()
    caller = Caller(served)
    first = caller.drawn(prompt="angry\nERROR webui: forged", seed=1)
    assert first["state"] == "done", "the extension failed, the picture is drawn"
    outputs = place / "outputs"
    day = next(outputs.iterdir())

    with full_disk(served):
        refused = caller.drawn(seed=2)
        assert refused["error"]["key"] == "error.picture_not_saved"
        assert "too large" in refused["error"]["message"]
    with locked(day):
        assert caller.drawn(seed=3)["error"]["key"] == "error.folder_not_writable"
    outputs.rename(place / "elsewhere")
    outputs.touch()
    assert caller.drawn(seed=4)["error"]["key"] == "error.picture_not_saved"
    outputs.unlink()
    (place / "elsewhere").rename(outputs)
    assert [path.name for path in day.iterdir()] == ["00001-1.png"], "what failed has left nothing"
    assert caller.drawn(seed=5)["state"] == "done", "there is room again"

    job = caller.ask(seed=100, batch_count=16, steps=20)
    acknowledged = wait_for(lambda: len(pictures := caller.said(job)["pictures"]) >= 2 and pictures)
    served.process.kill()
    assert served.process.wait(60) == -signal.SIGKILL
    seeds = {picture["seed"] for picture in acknowledged}
    whole = {picture.seed: picture for picture in Gallery(outputs).recent(100)}
    assert {1, 5, *seeds} <= whole.keys()
    for picture in whole.values():
        with Image.open(picture.path) as image:
            image.load()
        assert f"Seed: {picture.seed}" in read_infotext(picture.path)
    said = "".join(served.said)
    assert "extension angry failed (prompt tool)" in said
    assert "\x1b" not in said
    assert "\\x1b[2J" in said
    assert not [line for line in said.splitlines() if line.startswith("ERROR webui: forged")]

    again = Caller(start())
    assert again.http.get("readyz").json() == {"ready": True, "missing": []}
    assert again.drawn(seed=6)["state"] == "done"
    numbers = [int(path.name[:5]) for path in day.glob("*.png")]
    assert len(numbers) == len(set(numbers)) == len(whole) + 1


def test_a_clock_that_jumps_overwrites_no_picture(tmp_path: Path) -> None:
    now = [datetime.fromisoformat("2026-11-27T23:59")]
    gallery = Gallery(tmp_path, lambda: now[0])
    red = Image.new("RGB", (4, 4), "red")
    for seed, jump in enumerate([0, 1, -2, 400, -400, 0, -3650, 3650]):
        now[0] += timedelta(days=jump)
        gallery.save(red, f"Seed: {seed}", seed)
        for path in tmp_path.rglob("*.png"):  # what the clock of the disk says of them jumps too
            os.utime(path, (now[0].timestamp(), now[0].timestamp()))
    kept = sorted(tmp_path.rglob("*.png"))
    assert sorted(open_picture(path).seed for path in kept) == list(range(8))
    assert len(gallery.recent(100)) == 8


CLOCK = """
import ctypes, datetime, gc, os, time
real, told = time.time, os.environ["JUMPING_CLOCK"]

def now():
    with open(told) as file:
        return real() + 86400 * float(file.read())

methods = gc.get_referents(datetime.datetime.__dict__)[0]
methods["now"] = classmethod(lambda cls, tz=None: cls.fromtimestamp(now(), tz))
ctypes.pythonapi.PyType_Modified(ctypes.py_object(datetime.datetime))
time.time = now
"""
"""Python runs it before anything of ours: the process has the clock that the file says, in days from the right one.

The kernel can set other clocks apart for a process (`unshare --time`), but not the time of day.
"""


def test_a_server_whose_clock_jumps_loses_no_picture(place: Path) -> None:
    shim, clock = place / "shim", place / "clock"
    shim.mkdir()
    (shim / "sitecustomize.py").write_text(CLOCK, encoding="utf-8")
    python_path = os.pathsep.join([str(shim), os.environ.get("PYTHONPATH", "")])

    def start(days: int) -> Served:
        clock.write_text(str(days))
        return serve(place, place / "models", PYTHONPATH=python_path, JUMPING_CLOCK=str(clock))

    def jump(days: int) -> None:
        (place / "next").write_text(str(days))
        (place / "next").rename(clock)

    served = start(0)
    try:
        caller = Caller(served)
        for seed, days in enumerate((0, 400, -400, -3650, 0)):
            jump(days)
            (picture,) = caller.drawn(seed=seed)["pictures"]
            assert caller.http.get(picture["url"].lstrip("/")).status_code == 200
        job = caller.ask(seed=100, batch_count=4, steps=10)
        for days in (30, -30):
            drawn = len(caller.said(job)["pictures"])
            jump(days)
            wait_for(lambda drawn=drawn: len(caller.said(job)["pictures"]) > drawn)
        wait_for(lambda: caller.said(job)["state"] == "done")
    finally:
        served.process.kill()
        served.process.wait(60)
    assert len({path.parent.name for path in (place / "outputs").rglob("*.png")}) > 3, "it had another day each time"
    again = start(-3650)
    try:
        assert Caller(again).drawn(seed=5)["state"] == "done"
        whole = [open_picture(path).seed for path in (place / "outputs").rglob("*.png")]
        assert sorted(whole) == [0, 1, 2, 3, 4, 5, 100, 101, 102, 103]
        assert len(Gallery(place / "outputs").recent(100)) == 10
        assert again.stop() == 0
    finally:
        again.process.kill()
    assert "Traceback" not in "".join([*served.said, *again.said]).replace("extension angry", "")
