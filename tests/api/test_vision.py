from __future__ import annotations

import base64
from collections.abc import Iterator
from typing import Any

import pytest
from starlette.applications import Starlette
from starlette.testclient import TestClient

from tests.clip.samples import png
from tests.tiny import save_tiny_clip, save_tiny_vit
from webui.api.routes import api_routes
from webui.settings import load_settings
from webui.studio import Studio, open_studio


@pytest.fixture(scope="module")
def studio(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Studio]:
    folder = tmp_path_factory.mktemp("rest")
    save_tiny_vit(folder / "models" / "tiny-vit")
    save_tiny_clip(folder / "models" / "tiny-clip")
    studio = open_studio(load_settings(data_dir=folder, models_dir=folder / "models"))
    yield studio
    studio.close()


@pytest.fixture(scope="module")
def client(studio: Studio) -> TestClient:
    return TestClient(Starlette(routes=api_routes(studio)))


def content() -> bytes:
    data = png(48, 40, 0).content
    assert isinstance(data, bytes)
    return data


def finished(client: TestClient, studio: Studio, answer: Any) -> dict[str, Any]:
    assert answer.status_code == 202, answer.text
    studio.jobs.get(answer.json()["job"], "api").result(120)
    found: dict[str, Any] = client.get(answer.json()["url"]).json()
    return found


def test_a_form_and_json_get_the_same_labels(client: TestClient, studio: Studio) -> None:
    form = client.post(
        "/api/v1/classify", files={"pictures": ("cat.png", content())}, data={"count": "2", "model": "tiny-vit"}
    )
    body = {
        "pictures": [{"name": "cat.png", "content": base64.b64encode(content()).decode()}],
        "count": 2,
        "model": "tiny-vit",
    }
    by_form = finished(client, studio, form)["classes"]
    assert finished(client, studio, client.post("/api/v1/classify", json=body))["classes"] == by_form
    (picture,) = by_form["pictures"]
    assert picture["picture"] == "cat.png"
    assert len(picture["labels"]) == 2
    assert picture["labels"][0]["probability"] >= picture["labels"][1]["probability"]


def test_a_picture_is_checked_against_its_prompt(client: TestClient, studio: Studio) -> None:
    body = {"pictures": [base64.b64encode(content()).decode()], "prompt": "a dog and a zebra", "model": "tiny-vit"}
    check = finished(client, studio, client.post("/api/v1/check", json=body))["check"]
    assert check["not_checked"] == ["zebra"]
    assert [noun["noun"] for noun in check["pictures"][0]["nouns"]] == ["dog"]
    assert -1 <= check["pictures"][0]["clip_score"] <= 1


@pytest.mark.parametrize(
    ("body", "key"),
    [
        ({"pictures": [], "model": "tiny-vit"}, "error.nothing_to_classify"),
        ({"pictures": ["!"], "model": "tiny-vit"}, "error.not_base64"),
        ({"pictures": ["eA=="], "count": "many", "model": "tiny-vit"}, "error.not_a_whole_number"),
        ({"pictures": ["eA=="], "count": 0, "model": "tiny-vit"}, "error.label_count"),
        ({"pictures": ["eA=="], "prompt": "a cat"}, "error.unknown_field"),
        ({"pictures": ["eA=="], "model": "none"}, "error.unknown_model"),
    ],
)
def test_mistakes_are_told_at_once(client: TestClient, body: dict[str, Any], key: str) -> None:
    answer = client.post("/api/v1/classify", json=body)
    assert (answer.status_code, answer.json()["error"]["key"]) == (400, key)
