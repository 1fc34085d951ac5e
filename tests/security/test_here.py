"""This machine alone, over real HTTP: other web sites, other files and oversized requests are refused."""

from __future__ import annotations

import gzip
import socket
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from webui.server import RunningServer, running_server
from webui.settings import Settings
from webui.studio import Studio, open_studio


@pytest.fixture(scope="module")
def studio(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Studio]:
    folder = tmp_path_factory.mktemp("here")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    opened = open_studio(Settings(data_dir=folder, port=port))
    yield opened
    opened.close()


@pytest.fixture(scope="module")
def served(studio: Studio) -> Iterator[RunningServer]:
    with running_server(studio) as server:
        yield server


@pytest.fixture(scope="module")
def files(studio: Studio) -> Path:
    """The data folder with something to steal in it, and doors that lead there."""
    folder = studio.settings.data_dir
    outputs = studio.settings.outputs_dir
    outputs.mkdir()
    (outputs / "picture.png").write_bytes(b"png")
    (folder / "config.toml").write_text('login_password = "secret"')
    (folder / "models").mkdir(exist_ok=True)
    (folder / "models" / "weights.safetensors").write_bytes(b"weights")
    (outputs / "link.png").symlink_to(folder / "config.toml")
    (outputs / "folder").symlink_to(folder)
    (outputs / "loop").symlink_to(outputs / "loop")
    return folder


def read_picture(served: RunningServer, value: object) -> httpx.Response:
    """Send `value` to the event that reads a dropped picture, as the page does."""
    event = next(fn for fn in served.blocks.fns.values() if fn.name == "_read_picture")
    body = {"data": [value], "fn_index": event._id, "session_hash": "s"}
    return httpx.post(served.url + "gradio_api/run/predict", json=body)


@pytest.mark.parametrize(
    ("host", "status"),
    [
        ("127.0.0.1:7860", 200), ("localhost:7860", 200), ("localhost", 200), ("[::1]:7860", 200), ("127.0.0.5", 200),
        ("LOCALHOST", 200), ("evil.example", 403), ("127.0.0.1.evil.example", 403), ("localhost.evil.example", 403),
        ("10.0.0.1", 403), ("[", 403),
    ],
)  # fmt: skip
def test_a_rebound_name_is_refused(served: RunningServer, host: str, status: int) -> None:
    assert httpx.get(served.url, headers={"host": host}).status_code == status
    assert httpx.get(served.url + "api/v1/samplers", headers={"host": host}).status_code == status


@pytest.mark.parametrize("path", ["gradio_api/reset", "api/v1/score", "gradio_api/upload"])
@pytest.mark.parametrize(
    ("headers", "refused"),
    [
        ({}, False),
        ({"origin": "{here}"}, False),
        ({"origin": "{here}", "sec-fetch-site": "same-origin"}, False),
        ({"origin": "http://evil.example"}, True),
        ({"origin": "http://127.0.0.1:1"}, True),
        ({"origin": "null"}, True),
        ({"sec-fetch-site": "cross-site"}, True),
        ({"sec-fetch-site": "same-site"}, True),
    ],
)
def test_only_our_own_page_may_post(served: RunningServer, path: str, headers: dict[str, str], refused: bool) -> None:
    said = {name: value.format(here=served.url.rstrip("/")) for name, value in headers.items()}
    answer = httpx.post(served.url + path, headers=said, json={"event_id": "x"})
    assert (answer.status_code == 403) is refused, answer.text


def test_other_sites_may_link_here_and_not_embed_us(served: RunningServer) -> None:
    def status(mode: str, target: str) -> int:
        headers = {"sec-fetch-site": "cross-site", "sec-fetch-mode": mode, "sec-fetch-dest": target}
        return httpx.get(served.url, headers=headers).status_code

    assert status("navigate", "document") == 200
    assert status("navigate", "iframe") == 403
    assert status("no-cors", "image") == 403
    assert status("cors", "empty") == 403


def test_files_come_from_the_outputs_and_the_cache_only(served: RunningServer, files: Path) -> None:
    outputs, config = files / "outputs", files / "config.toml"

    def status(path: str) -> int:
        return httpx.get(f"{served.url}gradio_api/file={path}").status_code

    assert status(str(outputs / "picture.png")) == 200
    for path in (
        config, "/etc/passwd", files / "models" / "weights.safetensors", f"{outputs}/../config.toml",
        f"{outputs}/..%2fconfig.toml", f"{outputs}/..%252fconfig.toml", f"{outputs}/%2e%2e/config.toml",
        f"{outputs}/..%5cconfig.toml", outputs / "link.png", outputs / "folder" / "config.toml", outputs / "loop",
        "C:%5cWindows%5cwin.ini", "C:/Windows/win.ini", "%5c%5cserver%5cshare%5cfile", "file:///etc/passwd",
        f"{outputs}/picture.png%00.txt", "README.md", "webui/server.py", "pyproject.toml", "a" * 5000,
        "http://203.0.113.7/x.png", "https:%2f%2f203.0.113.7/x.png",
    ):  # fmt: skip
        assert status(str(path)) in (403, 404), path


def test_a_form_value_names_an_upload_and_no_other_file(served: RunningServer, files: Path) -> None:
    upload = httpx.post(served.url + "gradio_api/upload", files={"files": ("a.png", b"x")}).json()[0]
    assert read_picture(served, {"path": upload, "meta": {"_type": "gradio.FileData"}}).status_code == 200
    for path in (
        "/etc/passwd", str(files / "config.toml"), str(files / "outputs" / "link.png"),
        f"{upload}/../../../../config.toml", "README.md", "../README.md", "http://203.0.113.7/x.png",
        "file:///etc/passwd", "C:\\Windows\\win.ini", "\0",
    ):  # fmt: skip
        for value in (
            {"path": path, "meta": {"_type": "gradio.FileData"}},
            {"path": path},
            {"path": path, "orig_name": "a.png", "url": "/gradio_api/file=x"},
            [{"image": {"path": path}}],
        ):
            assert read_picture(served, value).status_code == 403, value


def test_uploads_keep_no_path_of_their_senders(served: RunningServer, studio: Studio) -> None:
    cache = studio.settings.data_dir / "cache" / "page"
    for name in ("../../evil.png", "..\\..\\evil.png", "/etc/evil.png", "C:\\evil.png", "a\0b.png", "x" * 300 + ".png"):
        answer = httpx.post(served.url + "gradio_api/upload", files={"files": (name, b"x")})
        for path in answer.json() if answer.status_code == 200 else []:
            assert Path(path).resolve().is_relative_to(cache.resolve())
    assert not list(studio.settings.data_dir.glob("evil*"))


def test_a_compressed_body_is_not_unpacked(served: RunningServer) -> None:
    bomb = gzip.compress(b"[" + b"0," * 20_000_000 + b"0]", 1)
    headers = {"content-encoding": "gzip", "content-type": "application/json"}
    assert httpx.post(served.url + "gradio_api/run/predict", content=bomb, headers=headers).status_code == 400
    assert httpx.post(served.url + "api/v1/generate", content=bomb, headers=headers).status_code == 400


def test_floods_of_headers_and_queries_are_refused(served: RunningServer) -> None:
    assert httpx.get(served.url, headers={f"x-{number}": "y" for number in range(200)}).status_code == 431
    assert httpx.get(served.url, headers={"x-large": "y" * 40_000}).status_code == 431
    assert httpx.get(served.url + "?" + "q=1&" * 8_000).status_code == 414
    assert httpx.get(served.url).status_code == 200


def test_every_answer_tells_browsers_to_be_careful(served: RunningServer, files: Path) -> None:
    for path in ("", "api/v1/models", f"gradio_api/file={files / 'outputs' / 'picture.png'}", "nowhere", "config"):
        headers = httpx.get(served.url + path).headers
        assert headers["x-content-type-options"] == "nosniff", path
        assert headers["x-frame-options"] == "DENY"
        assert headers["referrer-policy"] == "same-origin"
        assert "frame-ancestors 'none'" in headers["content-security-policy"]
    policy = httpx.get(served.url).headers["content-security-policy"]
    assert "'unsafe-inline'" not in policy.partition("script-src")[2].partition(";")[0]
    assert policy != httpx.get(served.url).headers["content-security-policy"], "a nonce is used once"


def test_a_picture_with_a_script_in_it_shows_and_does_nothing(served: RunningServer, files: Path) -> None:
    (files / "outputs" / "drawn.svg").write_text(
        '<svg xmlns="http://www.w3.org/2000/svg"><script>alert(1)</script></svg>'
    )
    answer = httpx.get(f"{served.url}gradio_api/file={files / 'outputs' / 'drawn.svg'}")
    assert "sandbox" in answer.headers["content-security-policy"]
    assert "script-src" not in answer.headers["content-security-policy"]


def test_secrets_are_not_in_what_the_page_tells(served: RunningServer, studio: Studio) -> None:
    told = httpx.get(served.url).text + httpx.get(served.url + "gradio_api/info").text
    for secret in ("login_password", "auth_file", str(studio.settings.models_dir), str(studio.settings.outputs_dir)):
        found = told.find(secret)
        assert found < 0, told[max(0, found - 200) : found + 200]
