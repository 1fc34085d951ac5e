from __future__ import annotations

import resource
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from webui.errors import UserError
from webui.search.approximate import MeasuredIndex, SearchEffort, read_measured, write_measured
from webui.search.folders import SearchFolders
from webui.store.json_file import read_json, write_json
from webui.store.whole_file import write_whole, written_whole


def test_a_file_appears_when_it_is_finished(tmp_path: Path) -> None:
    path = tmp_path / "a.bin"
    write_whole(path, b"old")
    with written_whole(path) as file:
        file.write(b"new")
        file.flush()
        assert path.read_bytes() == b"old"
        (hidden,) = [other for other in tmp_path.iterdir() if other != path]
        assert hidden.name.startswith(".")
    assert path.read_bytes() == b"new"
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("error", [OSError, KeyboardInterrupt])
def test_what_fails_changes_nothing(tmp_path: Path, error: type[BaseException]) -> None:
    path = tmp_path / "a.bin"
    write_whole(path, b"old")

    def fail() -> None:
        with written_whole(path) as file:
            file.write(b"half")
            raise error

    with pytest.raises(error):
        fail()
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


def test_a_name_as_long_as_the_disk_takes_is_written(tmp_path: Path) -> None:
    path = tmp_path / ("a" * 255)
    write_whole(path, b"x")
    assert path.read_bytes() == b"x"


KILLED = """
import os, signal, sys
from pathlib import Path
from webui.store.whole_file import written_whole
with written_whole(Path(sys.argv[1])) as file:
    file.write(b"half")
    file.flush()
    os.kill(os.getpid(), signal.SIGKILL)
"""


def test_a_process_killed_in_the_middle_leaves_the_old_one(tmp_path: Path) -> None:
    path = tmp_path / "a.bin"
    write_whole(path, b"old")
    died = subprocess.run([sys.executable, "-c", KILLED, path], check=False, timeout=60)
    assert died.returncode == -signal.SIGKILL
    assert path.read_bytes() == b"old"
    assert [other.name for other in tmp_path.iterdir() if not other.name.startswith(".")] == ["a.bin"]


def test_a_full_disk_changes_no_settings_and_no_list_of_folders(tmp_path: Path) -> None:
    """A limit on the size of files is what a process can have of a full disk without a disk of its own."""
    settings, measured = tmp_path / "settings.json", tmp_path / "measured.json"
    write_json(settings, {"a": 1})
    known = MeasuredIndex(SearchEffort(100, 3, 8), 0.97, 5)
    write_measured(measured, known)
    folders = SearchFolders(tmp_path / "folders.json", tmp_path / "outputs")
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    before = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4, limits[1]))
    try:
        with pytest.raises(UserError, match="folder_not_writable"):
            write_json(settings, {"a": 2})
        with pytest.raises(OSError, match="large"):
            write_measured(measured, MeasuredIndex(SearchEffort(1, 1, 1), 0.1, 9))
        with pytest.raises(UserError, match="folder_not_writable"):
            folders.add(tmp_path)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        signal.signal(signal.SIGXFSZ, before)
    assert read_json(settings) == {"a": 1}
    assert read_measured(measured) == known
    assert not list(tmp_path.glob(".*"))
