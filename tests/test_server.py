from __future__ import annotations

import dataclasses
import os
import shutil
import socket
import stat
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import pytest

from tests.conftest import ROOT
from webui.errors import UserError
from webui.server import RunningServer, running_server
from webui.settings import Settings
from webui.studio import Studio, open_studio


@pytest.fixture
def studio(tmp_path: Path, tiny_pipeline_folder: Path, free_port: Callable[[], int]) -> Iterator[Studio]:
    shutil.copytree(tiny_pipeline_folder, tmp_path / "models" / "tiny")
    opened = open_studio(Settings(data_dir=tmp_path, port=free_port()))
    yield opened
    opened.close()


@pytest.fixture
def served(studio: Studio) -> Iterator[RunningServer]:
    with running_server(studio) as server:
        yield server


def test_page_and_api_are_served_and_strangers_are_refused(served: RunningServer) -> None:
    page = httpx.get(served.url)
    assert page.status_code == 200
    assert "window.diffuscope" in page.text
    assert httpx.get(served.url + "api/v1/samplers").status_code == 200
    assert httpx.get(served.url, headers={"host": "evil.example"}).status_code == 403
    assert httpx.post(served.url + "api/v1/generate", headers={"origin": "http://evil.example"}).status_code == 403
    assert httpx.get(served.url + "docs").status_code == 404
    assert httpx.get(served.url + "gradio_api/monitoring/summary").status_code in (403, 404)


def test_files_outside_the_outputs_are_not_served(served: RunningServer, studio: Studio) -> None:
    outputs = studio.settings.outputs_dir
    outputs.mkdir()
    (outputs / "picture.png").write_bytes(b"png")
    config = studio.settings.data_dir / "config.toml"
    config.write_text("")
    weights = next((studio.settings.models_dir / "tiny").rglob("*.safetensors"))

    def status(path: object) -> int:
        return httpx.get(f"{served.url}gradio_api/file={path}").status_code

    assert status(outputs / "picture.png") == 200
    for path in (config, weights, "/etc/passwd", ROOT / "webui" / "server.py", outputs / ".." / "config.toml"):
        assert status(path) in (403, 404), path


@pytest.mark.parametrize("path", ["/etc/passwd", str(ROOT / "README.md")])
def test_a_form_value_that_names_a_server_file_is_refused(served: RunningServer, path: str) -> None:
    """An upload's path must be one that this server gave out."""
    upload = next(fn for fn in served.blocks.fns.values() if fn.name == "_read_picture")

    def read(file: str) -> httpx.Response:
        value = {"path": file, "meta": {"_type": "gradio.FileData"}}
        body = {"data": [value], "fn_index": upload._id, "session_hash": "s"}
        return httpx.post(served.url + "gradio_api/run/predict", json=body)

    given_out = httpx.post(served.url + "gradio_api/upload", files={"files": ("a.png", b"x")}).json()[0]
    assert read(given_out).status_code == 200
    assert read(path).status_code >= 400


def test_too_large_an_upload_is_refused(studio: Studio) -> None:
    small = dataclasses.replace(studio, settings=studio.settings.model_copy(update={"max_upload_mb": 1}))
    with running_server(small) as server:
        answer = httpx.post(server.url + "gradio_api/upload", files={"files": ("big.png", b"x" * 2_000_000)})
        assert answer.status_code == 413


def test_a_taken_port_is_said(studio: Studio) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", studio.settings.port))
        taken.listen()
        with pytest.raises(UserError) as refused, running_server(studio):
            pass
    assert refused.value.key == "error.port_taken"


def test_uploads_lie_in_the_data_folder_or_where_nobody_else_can_read(studio: Studio, tmp_path: Path) -> None:
    with running_server(studio) as server:
        assert server.cache == studio.settings.data_dir / "cache" / "page"
    (tmp_path / "file").write_text("")
    settings = studio.settings.model_copy(update={"data_dir": tmp_path / "file"})
    with running_server(dataclasses.replace(studio, settings=settings)) as server:
        own = server.cache
        assert stat.S_IMODE(own.stat().st_mode) == 0o700
    assert not own.exists()


def test_a_termination_ends_the_command_in_order(tmp_path: Path) -> None:
    process = subprocess.Popen(
        [sys.executable, "-m", "webui", "--data-dir", str(tmp_path), "serve", "--port", "0"],
        cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=os.environ,
    )  # fmt: skip
    assert process.stdout is not None
    address = process.stdout.readline()
    assert "http://127.0.0.1:" in address
    watchdog = threading.Timer(60, process.kill)
    watchdog.start()
    process.terminate()
    out, err = process.communicate()
    watchdog.cancel()
    assert process.returncode == 0, err
    assert "Stopped." in out
    assert "Traceback" not in err
