from __future__ import annotations

import dataclasses
from collections.abc import Callable

import gradio as gr
import httpx
from PIL import Image

from webui.pages.frame import build_page
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


def test_of_the_disk_only_pictures_of_the_gallery_are_taken(studio: Studio, free_port: Callable[[], int]) -> None:
    mine = studio.gallery.save(Image.new("RGB", (8, 8)), "a cat\nSteps: 2, Seed: 5", seed=5)
    for host, taken in (("127.0.0.1", (1, 0, 0)), ("0.0.0.0", (0, 0, 0))):
        settings = studio.settings.model_copy(update={"host": host})
        blocks = build_page(dataclasses.replace(studio, settings=settings))
        take = next(fn for fn in blocks.fns.values() if fn.name == "_take")
        for path, count in zip((str(mine.path), "/etc/passwd", __file__), taken, strict=True):
            assert take.fn is not None
            event = gr.EventData(None, {"file": path})
            updates = take.fn(event, gr.Request(session_hash=f"{host}{path}"))
            assert str(updates).count("data-remove") == count
