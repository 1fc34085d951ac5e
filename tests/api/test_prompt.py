"""POST /prompt/{task} and the switch of POST /generate that translates first."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from starlette.applications import Starlette
from starlette.testclient import TestClient

from webui.api.routes import api_routes
from webui.settings import load_settings
from webui.studio import Studio, open_studio

THAI = "แมว พื้นหลังสีน้ำเงิน"
ENGLISH = "a cat on a blue background"

pytestmark = pytest.mark.usefixtures("emoji_suite")


@pytest.fixture(scope="module")
def studio(tmp_path_factory: pytest.TempPathFactory, tiny_pipeline_folder: Path) -> Iterator[Studio]:
    folder = tmp_path_factory.mktemp("rest")
    shutil.copytree(tiny_pipeline_folder, folder / "models" / "tiny")
    studio = open_studio(load_settings(data_dir=folder, models_dir=folder / "models"))
    yield studio
    studio.close()


@pytest.fixture(scope="module")
def client(studio: Studio) -> TestClient:
    return TestClient(Starlette(routes=api_routes(studio)))


def finished(client: TestClient, studio: Studio, answer: Any) -> dict[str, Any]:
    assert answer.status_code == 202, answer.text
    studio.jobs.get(answer.json()["job"], "api").result(120)
    found: dict[str, Any] = client.get(answer.json()["url"]).json()
    return found


def test_candidates_come_with_their_scores(client: TestClient, studio: Studio) -> None:
    asked = client.post("/api/v1/prompt/translate", json={"text": THAI, "candidates": 2})
    answer = finished(client, studio, asked)["answer"]
    assert answer["candidates"][0]["text"] == ENGLISH
    assert answer["original"] == {"text": THAI, "tokens": answer["original"]["tokens"], "token_limit": 77}
    for candidate in answer["candidates"]:
        assert -1 <= candidate["clip_similarity"] <= 1
        assert candidate["log_probability"] <= 0
        assert candidate["fits"]


def test_a_prompt_is_translated_before_it_is_drawn(client: TestClient, studio: Studio) -> None:
    body = {"prompt": THAI, "translate": True, "model": "tiny", "steps": 1, "seed": 1}
    asked = client.post("/api/v1/generate", json=body)
    (picture,) = finished(client, studio, asked)["pictures"]
    assert picture["infotext"].startswith(f"{ENGLISH}\n")
    assert f"Original prompt: {THAI}" in picture["infotext"]


@pytest.mark.parametrize(
    ("path", "body", "key"),
    [
        ("prompt/sing", {"text": "a"}, "error.unknown_prompt_task"),
        ("prompt/expand", {"text": ""}, "error.prompt_empty"),
        ("prompt/expand", {"text": "a", "beams": 99}, "error.writing_out_of_range"),
        ("prompt/repair", {"text": "a", "model": "none"}, "error.unknown_model"),
        ("prompt/translate", {"text": "a", "direction": "th-de"}, "error.no_model_for_prompt"),
        ("generate", {"prompt": "a", "translate": "yes"}, "error.not_true_or_false"),
    ],
)
def test_mistakes_are_told_at_once(client: TestClient, path: str, body: dict[str, Any], key: str) -> None:
    answer = client.post(f"/api/v1/{path}", json=body, headers={"accept-language": "th"})
    assert (answer.status_code, answer.json()["error"]["key"]) == (400, key)
