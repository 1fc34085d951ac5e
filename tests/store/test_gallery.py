from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from webui.errors import UserError
from webui.store.gallery import STALE_SECONDS, Gallery, open_picture
from webui.store.infotext import read_infotext

NOON = datetime(2026, 11, 23, 12)  # noqa: DTZ001 - the folder is named by the local date
RED = Image.new("RGB", (16, 8), "red")
PATIENCE = 30


@pytest.fixture
def gallery(tmp_path: Path) -> Gallery:
    return Gallery(tmp_path / "outputs", lambda: NOON)


def names_in(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_a_picture_is_saved_under_its_day_number_and_seed(gallery: Gallery) -> None:
    saved = gallery.save(RED, "a cat, แมว", seed=1234567)
    assert saved.path == gallery.outputs_dir / "2026-11-23" / "00001-1234567.png"
    assert (saved.seed, saved.width, saved.height, saved.infotext) == (1234567, 16, 8, "a cat, แมว")
    with Image.open(saved.path) as image:
        assert np.array_equal(np.asarray(image), np.asarray(RED))
    assert read_infotext(saved.path) == "a cat, แมว"
    assert open_picture(saved.path) == saved
    assert gallery.save(RED, "b", seed=0).path.name == "00002-0.png"
    assert names_in(saved.path.parent) == ["00001-1234567.png", "00002-0.png"]


def test_numbering_goes_on_after_the_largest(gallery: Gallery) -> None:
    day = gallery.outputs_dir / "2026-11-23"
    day.mkdir(parents=True)
    for name in ("00007-1.png", "00003-1.png", "notes.txt", "99999.png", "123456-5.png"):
        (day / name).touch()
    assert gallery.save(RED, "a", seed=5).path.name == "123457-5.png"


def test_threads_never_share_a_number(gallery: Gallery) -> None:
    start = threading.Barrier(8)

    def save(seed: int) -> str:
        if seed < 8:
            start.wait(PATIENCE)
        return gallery.save(RED.copy(), "a", seed).path.name  # Pillow keeps a save's options on the image meanwhile

    with ThreadPoolExecutor(8) as pool:
        names = list(pool.map(save, range(48)))
    assert sorted(int(name[:5]) for name in names) == list(range(1, 49))


SAVER = """
import sys
from datetime import datetime
from pathlib import Path
from PIL import Image
from webui.store.gallery import Gallery
gallery = Gallery(Path(sys.argv[1]), lambda: datetime(2026, 11, 23))
image = Image.new("RGB", (8, 8))
print("ready", flush=True)
sys.stdin.readline()
for seed in range(20):
    gallery.save(image, "a", seed)
"""


def test_processes_never_share_a_number(tmp_path: Path) -> None:
    savers = [
        subprocess.Popen(
            [sys.executable, "-c", SAVER, tmp_path], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        for _ in range(3)
    ]
    for saver in savers:
        assert saver.stdout is not None
        assert saver.stdout.readline() == "ready\n"
    for saver in savers:
        saver.communicate("go\n", timeout=PATIENCE)
        assert saver.returncode == 0
    numbers = [int(name[:5]) for name in names_in(tmp_path / "2026-11-23")]
    assert numbers == list(range(1, 61))


KILLED_IN_MID_SAVE = """
import os, signal, sys
from pathlib import Path
from PIL import Image
from webui.store.gallery import Gallery

class DiesHalfWay(Image.Image):
    def save(self, file, **options):
        file.write(b"\\x89PNG half a picture")
        file.flush()
        os.kill(os.getpid(), signal.SIGKILL)

Gallery(Path(sys.argv[1])).save(DiesHalfWay(), "a", 1)
"""


def test_a_process_killed_in_mid_save_leaves_no_half_picture(tmp_path: Path) -> None:
    died = subprocess.run([sys.executable, "-c", KILLED_IN_MID_SAVE, tmp_path], check=False, timeout=PATIENCE)
    assert died.returncode == -signal.SIGKILL
    assert list(tmp_path.rglob("*.png")) == []
    (left_behind,) = tmp_path.rglob("*.part")
    assert left_behind.read_bytes(), "it did die in mid-save"
    day = left_behind.parent
    gallery = Gallery(tmp_path, lambda: datetime.fromisoformat(day.name))
    assert gallery.recent(10) == ()
    assert gallery.save(RED, "a", 2).path.name == "00002-2.png", "the dead one's number is not used again"
    long_ago = left_behind.stat().st_mtime - 2 * STALE_SECONDS
    os.utime(left_behind, (long_ago, long_ago))
    gallery.save(RED, "a", 3)
    assert not left_behind.exists(), "what is stale is swept away"


def failing(error: OSError) -> Callable[..., None]:
    def fail(*_: object, **__: object) -> None:
        raise error

    return fail


@pytest.mark.parametrize(
    ("number", "key"),
    [
        (errno.ENOSPC, "error.disk_full"),
        (errno.EDQUOT, "error.disk_full"),
        (errno.EACCES, "error.folder_not_writable"),
        (errno.EROFS, "error.folder_not_writable"),
        (errno.EIO, "error.picture_not_saved"),
    ],
)
@pytest.mark.parametrize("place", ["save", "fsync", "rename"])
def test_what_the_disk_refuses_is_told_and_leaves_nothing(
    number: int, key: str, place: str, gallery: Gallery, monkeypatch: pytest.MonkeyPatch
) -> None:
    fail = failing(OSError(number, os.strerror(number)))
    with monkeypatch.context() as patch:
        match place:
            case "save":
                patch.setattr(Image.Image, "save", fail)
            case "fsync":
                patch.setattr(os, "fsync", fail)
            case "rename":
                patch.setattr(Path, "replace", fail)
        with pytest.raises(UserError) as refusal:
            gallery.save(RED, "a", 1)
    assert refusal.value.key == key
    assert list(gallery.outputs_dir.rglob("*.p*")) == []
    assert gallery.save(RED, "a", 1).path.name == "00001-1.png"


def test_an_outputs_folder_that_is_a_file_is_told(tmp_path: Path) -> None:
    (tmp_path / "outputs").touch()
    with pytest.raises(UserError) as refusal:
        Gallery(tmp_path / "outputs").save(RED, "a", 1)
    assert refusal.value.key == "error.picture_not_saved"


def test_recent_lists_the_newest_first_across_days(tmp_path: Path) -> None:
    for day, seeds in ((22, (1, 2)), (23, (3, 4, 5))):
        gallery = Gallery(tmp_path, lambda day=day: NOON.replace(day=day))
        for seed in seeds:
            gallery.save(RED, f"seed {seed}", seed)
    assert [picture.seed for picture in gallery.recent(4)] == [5, 4, 3, 2]
    assert [picture.infotext for picture in gallery.recent(1)] == ["seed 5"]
    assert gallery.recent(0) == ()


def test_recent_leaves_out_what_is_not_ours(gallery: Gallery) -> None:
    ours = gallery.save(RED, "a", 1)
    (ours.path.parent / "00002-2.png").write_bytes(b"no picture")
    RED.save(ours.path.parent / "00003-3.png")
    (gallery.outputs_dir / "not a day").mkdir()
    (gallery.outputs_dir / "2026-11-24").touch()
    assert gallery.recent(5) == (ours,)


def test_an_outputs_folder_that_does_not_exist_is_empty(tmp_path: Path) -> None:
    assert Gallery(tmp_path / "none").recent(5) == ()
