from __future__ import annotations

import dataclasses
from collections.abc import Callable

import httpx

from webui.server import running_server
from webui.studio import Studio


def test_only_files_that_were_uploaded_come_onto_the_desk(studio: Studio, free_port: Callable[[], int]) -> None:
    settings = studio.settings.model_copy(update={"port": free_port()})
    with running_server(dataclasses.replace(studio, settings=settings)) as server:
        for name in ("_upload", "_photograph"):
            event = next(fn for fn in server.blocks.fns.values() if fn.name == name)

            def send(path: str, several: bool, event_id: int = event._id) -> httpx.Response:
                value = {"path": path, "meta": {"_type": "gradio.FileData"}}
                body = {"data": [[value] if several else value], "fn_index": event_id, "session_hash": "s"}
                return httpx.post(server.url + "gradio_api/run/predict", json=body)

            given_out = httpx.post(server.url + "gradio_api/upload", files={"files": ("a.png", b"x")}).json()[0]
            assert send(given_out, name == "_upload").status_code == 200
            for path in ("/etc/passwd", __file__):
                assert send(path, name == "_upload").status_code >= 400
