"""A shared page, really served, with two people who may log in."""

from __future__ import annotations

import shutil
import socket
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest

from webui.security.logins import hash_password
from webui.server import RunningServer, running_server
from webui.settings import Settings
from webui.studio import Studio, open_studio

PASSWORDS = {"ann": "ann's own words", "bob": "รหัสของบ๊อบ"}


@dataclass(frozen=True)
class Shared:
    """The server as other machines see it."""

    url: str
    studio: Studio
    server: RunningServer

    def call(self, name: str, data: list[object], session: str) -> dict[str, object]:
        """What the page sends for the event whose handler has this name."""
        event = next(fn for fn in self.server.blocks.fns.values() if fn.name == name)
        return {"data": data, "fn_index": event._id, "session_hash": session}


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory, tiny_pipeline_folder: Path) -> Iterator[Shared]:
    folder = tmp_path_factory.mktemp("shared")
    shutil.copytree(tiny_pipeline_folder, folder / "models" / "tiny")
    lines = [f"{name}:{hash_password(password)}" for name, password in PASSWORDS.items()]
    (folder / "logins").write_text("# who may come\n\n" + "\n".join(lines), encoding="utf-8")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    studio = open_studio(
        Settings(data_dir=folder, host="0.0.0.0", port=port, auth_file=folder / "logins", max_upload_mb=1)
    )
    with running_server(studio) as server:
        yield Shared(f"http://127.0.0.1:{port}/", studio, server)
    studio.close()


@pytest.fixture
def browser_of(shared: Shared) -> Iterator[Callable[[str], httpx.Client]]:
    """A browser in which this person has logged in; nobody has for ""."""
    opened: list[httpx.Client] = []

    def make(name: str) -> httpx.Client:
        client = httpx.Client(base_url=shared.url, timeout=60)
        opened.append(client)
        if name:
            answer = client.post("login", data={"username": name, "password": PASSWORDS[name]})
            assert answer.status_code == 303, answer.text
        return client

    yield make
    for client in opened:
        client.close()
