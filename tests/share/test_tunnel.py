"""`--share` with a stand-in for the tunnel program: a process that is given, says and does what frpc does."""

from __future__ import annotations

import os
import re
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import httpx
import pytest

from tests.conftest import ROOT
from webui.errors import UserError
from webui.i18n import LANGUAGES, load_messages
from webui.settings import Settings
from webui.share.tunnel import ShareLink, open_link
from webui.views.sharing import LinkView, render_sharing

STAND_IN = f"""#!{sys.executable}
import socket, sys, threading
given = dict(zip(sys.argv[2::1], sys.argv[3::1]))
door = socket.create_server(("127.0.0.1", 0))
print("[I] login to server success, get run id", flush=True)
print(f"[I] [x] start proxy success: http://127.0.0.1:{{door.getsockname()[1]}}", flush=True)

def pump(source, target):
    while part := source.recv(65536):
        target.sendall(part)
    target.shutdown(socket.SHUT_WR)

while True:
    outer, _ = door.accept()
    inner = socket.create_connection((given["-i"], int(given["-l"])))
    for pair in ((outer, inner), (inner, outer)):
        threading.Thread(target=pump, args=pair, daemon=True).start()
"""
Program = Callable[[str], Path]


@pytest.fixture
def program(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Program:
    """Puts a script where the tunnel program belongs."""
    path = tmp_path / "frpc"
    monkeypatch.setattr("gradio.tunneling.BINARY_PATH", str(path))

    def put(script: str) -> Path:
        path.write_text(script, encoding="utf-8")
        path.chmod(0o755)
        return path

    return put


def link(tmp_path: Path, port: int = 9) -> ShareLink:
    return open_link("127.0.0.1", port, server="127.0.0.1:7000", folder=tmp_path, token="t")


def refusal(tmp_path: Path) -> UserError:
    with pytest.raises(UserError) as caught:
        link(tmp_path)
    for language in LANGUAGES:
        assert "\n" not in load_messages().error(language, caught.value)
    return caught.value


def test_a_link_is_open_until_it_is_closed(tmp_path: Path, program: Program) -> None:
    program(STAND_IN)
    made = link(tmp_path)
    assert made.url.startswith("http://127.0.0.1:")
    assert made.open
    assert made.ends is None, "nobody knows how long a server of one's own keeps it"
    made.close()
    assert not made.open


def test_the_program_is_told_what_to_lead_where(tmp_path: Path, program: Program) -> None:
    program('#!/bin/sh\necho "start proxy success: http://x.example/?$*"\nsleep 60\n')
    made = link(tmp_path, 4321)
    made.close()
    assert made.url == "http://x.example/?http"
    program('#!/bin/sh\necho "start proxy success: http://x.example/$(echo $* | tr " " _)"\nsleep 60\n')
    made = link(tmp_path, 4321)
    made.close()
    for part in ("-l_4321", "-i_127.0.0.1", "--server_addr_127.0.0.1:7000", "-n_t"):
        assert part in made.url


@pytest.mark.parametrize(
    ("script", "key"),
    [
        ("#!/bin/sh\necho 'login to server failed: no such host'\nsleep 60\n", "error.share_refused"),
        ("#!/bin/sh\nexit 1\n", "error.share_refused"),
        ("#!/bin/sh\necho 'start proxy success: nothing to see'\n", "error.share_refused"),
        ("no program at all", "error.share_blocked"),
    ],
)
def test_why_there_is_no_link_is_one_sentence(tmp_path: Path, program: Program, script: str, key: str) -> None:
    program(script)
    assert refusal(tmp_path).key == key


def test_a_program_that_may_not_run_is_said(tmp_path: Path, program: Program) -> None:
    program(STAND_IN).chmod(0o644)
    assert refusal(tmp_path).key == "error.share_blocked"


def test_a_program_that_cannot_be_fetched_is_said(
    tmp_path: Path, program: Program, monkeypatch: pytest.MonkeyPatch, free_port: Callable[[], int]
) -> None:
    assert program  # nothing is put there
    monkeypatch.setattr("gradio.tunneling.BINARY_URL", f"http://127.0.0.1:{free_port()}/frpc")
    assert refusal(tmp_path).key == "error.share_program_missing"


def test_the_page_shows_the_link_its_code_and_its_end() -> None:
    say = load_messages().translator("en")
    ends = datetime.now(UTC) + timedelta(days=7)
    shown = render_sharing(Settings(share=True), (), LinkView("https://a.gradio.live", ends, open=True), say)
    assert 'href="https://a.gradio.live"' in shown
    assert "<svg" in shown
    assert ends.astimezone().strftime("%Y-%m-%d") in shown
    gone = render_sharing(Settings(share=True), (), LinkView("https://a.gradio.live", ends), say)
    assert "gradio.live" not in gone
    assert say.text("sharing.link.ended") in gone
    failed = render_sharing(Settings(share=True), (), LinkView(problem=UserError("error.share_no_network")), say)
    assert say.text("error.share_no_network") in failed


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """A home for the libraries, with the stand-in where the tunnel program belongs."""
    from gradio.tunneling import BINARY_FILENAME

    folder = tmp_path / "hf" / "gradio" / "frpc"
    folder.mkdir(parents=True)
    (folder / BINARY_FILENAME).write_text(STAND_IN, encoding="utf-8")
    (folder / BINARY_FILENAME).chmod(0o755)
    return tmp_path / "hf"


@pytest.fixture
def said(tmp_path: Path, home: Path) -> Iterator[list[str]]:
    """What `diffuscope serve --share-server` prints; the server runs as long as the test."""
    process = subprocess.Popen(
        [sys.executable, "-m", "webui", "--data-dir", str(tmp_path), "serve", "--port", "0",
         "--share-server", "127.0.0.1:7000"],
        cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=os.environ | {"HF_HOME": str(home)},
    )  # fmt: skip
    watchdog = threading.Timer(120, process.kill)
    watchdog.start()
    assert process.stdout is not None
    lines: list[str] = []
    for line in process.stdout:
        lines.append(line)
        if "Ctrl-C" in line:
            break
    yield lines
    process.terminate()
    process.wait(60)
    watchdog.cancel()
    process.stdout.close()


def test_whoever_has_the_link_and_the_login_sees_the_page(said: list[str]) -> None:
    told = "".join(said)
    url = re.search(r"Anyone with the login can reach it at (\S+)", told)
    login = re.search(r"Log in as (\S+) with the password (\S+)", told)
    assert url, told
    assert login, told
    with httpx.Client(base_url=url[1], timeout=60) as visitor:
        assert visitor.get("/config").status_code == 401
        form = {"username": login[1], "password": login[2]}
        assert visitor.post("/login", data=form).status_code == 303
        shown = visitor.get("/config").json()
    assert "components" in shown
    assert told.count(login[2]) == 1, "the password is printed once"


def test_a_taken_away_server_leaves_no_tunnel(tmp_path: Path, program: Program) -> None:
    program(STAND_IN)
    made = link(tmp_path)
    port = int(made.url.rpartition(":")[2])
    made.close()
    with pytest.raises(ConnectionRefusedError), socket.create_connection(("127.0.0.1", port), 5):
        pass
