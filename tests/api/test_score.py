from __future__ import annotations

import base64
import io
import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from starlette.applications import Starlette
from starlette.testclient import TestClient

from tests.tiny import save_tiny_clip
from webui.api.routes import api_routes
from webui.settings import Settings
from webui.studio import Studio, open_studio


@pytest.fixture(scope="module")
def models_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("models")
    save_tiny_clip(folder / "tiny-clip")
    return folder


@pytest.fixture
def client(models_dir: Path, tmp_path: Path) -> Iterator[TestClient]:
    studio: Studio = open_studio(Settings(data_dir=tmp_path, models_dir=models_dir, max_upload_mb=1))
    yield TestClient(Starlette(routes=api_routes(studio)))
    studio.close()


def picture(colour: str) -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", (40, 30), colour).save(buffer, "PNG")
    return buffer.getvalue()


def scores(client: TestClient, answer: Any) -> dict[str, Any]:
    assert answer.status_code == 202, answer.text
    while True:
        job: dict[str, Any] = client.get(answer.headers["location"]).json()
        if job["state"] in ("done", "failed", "cancelled"):
            assert job["state"] == "done", job
            return dict(job["scores"])
        time.sleep(0.05)


def test_a_form_and_json_give_the_same_matrices(client: TestClient) -> None:
    form = client.post(
        "/api/v1/score",
        files=[("pictures", ("red.png", picture("red"))), ("pictures", ("broken.png", b"x"))],
        data={"texts": ["a cat", "แมว"], "model": "tiny-clip"},
    )
    content = base64.b64encode(picture("red")).decode()
    body = {"pictures": [{"name": "red.png", "content": content}], "texts": ["a cat", "แมว"], "model": "tiny-clip"}
    first, second = scores(client, form), scores(client, client.post("/api/v1/score", json=body))
    assert first["pictures"] == second["pictures"] == ["red.png"]
    assert first["texts"] == ["a cat", "แมว"]
    assert first["refused"][0]["name"] == "broken.png"
    for name in ("cosine", "logit", "softmax_texts", "softmax_pictures"):
        assert first[name] == second[name]
        assert [len(row) for row in first[name]] == [2]


def test_what_can_score_is_listed(client: TestClient) -> None:
    listed = client.get("/api/v1/models?task=clip").json()["models"]
    assert "tiny-clip" in [model["id"] for model in listed]


@pytest.mark.parametrize(
    ("body", "key"),
    [
        ({}, "error.nothing_to_score"),
        ({"texts": "a"}, "error.not_a_list"),
        ({"texts": [1]}, "error.not_text"),
        ({"texts": ["a"], "model": "none"}, "error.unknown_model"),
        ({"texts": ["a"], "model": 3}, "error.not_text"),
        ({"pictures": ["%%%"]}, "error.not_base64"),
        ({"pictures": [{"name": "a"}]}, "error.not_text"),
        ({"texts": ["a\u0007"]}, "error.text_control_character"),
        ({"texts": ["a"] * 501}, "error.too_many_texts"),
        ({"pictures": ["AAAA"] * 501}, "error.too_many_pictures"),
        ({"path": "/etc/passwd"}, "error.unknown_field"),
    ],
)
def test_bad_requests_are_refused_with_a_sentence(client: TestClient, body: dict[str, Any], key: str) -> None:
    answer = client.post("/api/v1/score", content=json.dumps({"model": "tiny-clip"} | body))
    assert (answer.status_code, answer.json()["error"]["key"]) == (400, key)
    assert answer.json()["error"]["message"].endswith(".")


def test_a_broken_form_and_a_body_without_end_are_refused(client: TestClient) -> None:
    broken = client.post("/api/v1/score", content=b"--x", headers={"content-type": "multipart/form-data"})
    assert (broken.status_code, broken.json()["error"]["key"]) == (400, "error.not_a_form")
    large = client.post("/api/v1/score", content=b" " * (2**20 + 1))
    assert (large.status_code, large.json()["error"]["key"]) == (413, "error.body_too_large")
