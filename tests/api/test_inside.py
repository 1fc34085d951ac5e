from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from starlette.applications import Starlette
from starlette.testclient import TestClient

from webui.api.routes import api_routes
from webui.diffusion.trace import open_trace
from webui.studio import Studio

BODY = {"prompt": "a cat", "model": "tiny", "steps": 2, "seed": 3, "all_heads": True}


@pytest.fixture
def client(studio: Studio) -> Iterator[TestClient]:
    with TestClient(Starlette(routes=api_routes(studio))) as opened:
        yield opened


def ended(client: TestClient, location: str) -> dict[str, Any]:
    while True:
        job: dict[str, Any] = client.get(location).json()
        if job["state"] in ("done", "failed", "cancelled"):
            return job
        time.sleep(0.05)


def test_a_run_is_recorded_and_fetched(client: TestClient, tmp_path: Path) -> None:
    answer = client.post("/api/v1/trace", json=BODY)
    assert answer.status_code == 202, answer.text
    assert ended(client, answer.headers["location"])["state"] == "done"
    fetched = client.get(answer.json()["trace"])
    assert fetched.headers["content-disposition"] == 'attachment; filename="run-3.safetensors"'
    (tmp_path / "run.safetensors").write_bytes(fetched.content)
    trace = open_trace(tmp_path / "run.safetensors")
    assert trace.header.request.prompt == "a cat"
    assert trace.head_maps


@pytest.mark.parametrize(
    ("change", "key"),
    [
        ({"all_heads": 1}, "error.not_true_or_false"),
        ({"batch_size": 2}, "error.trace_one_picture"),
        ({"model": "gone"}, "error.unknown_model"),
        ({"heads": True}, "error.unknown_field"),
    ],
)
def test_what_cannot_be_recorded_is_refused(client: TestClient, change: dict[str, object], key: str) -> None:
    answer = client.post("/api/v1/trace", json={**BODY, **change})
    assert answer.status_code == 400
    assert answer.json()["error"]["key"] == key


def test_a_job_without_a_recording_says_so(client: TestClient) -> None:
    body = {name: value for name, value in BODY.items() if name != "all_heads"}
    location = client.post("/api/v1/generate", json=body).headers["location"]
    ended(client, location)
    answer = client.get(f"{location}/trace")
    assert answer.status_code == 404
    assert answer.json()["error"]["key"] == "error.no_recording"
