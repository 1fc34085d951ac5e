from __future__ import annotations

import io
import json
import time
from typing import Any

import pytest
from PIL import Image
from starlette.applications import Starlette
from starlette.testclient import TestClient

from webui.api.routes import MAX_BODY_BYTES, api_routes
from webui.i18n import accepted_language
from webui.store.infotext import read_infotext
from webui.studio import Studio

CAT: dict[str, Any] = {"prompt": "a cat", "model": "tiny", "steps": 2, "seed": 7}


@pytest.fixture
def client(studio: Studio) -> TestClient:
    return TestClient(Starlette(routes=api_routes(studio)))


def finished(client: TestClient, url: str) -> dict[str, Any]:
    """The job's answer once it has ended."""
    while True:
        answer: dict[str, Any] = client.get(url).json()
        if answer["state"] in ("done", "failed", "cancelled"):
            return answer
        time.sleep(0.05)


def test_what_there_is_to_ask_for(client: TestClient) -> None:
    models = client.get("/api/v1/models").json()["models"]
    assert "tiny" in [model["id"] for model in models if model["usable"]]
    assert "Euler a" in client.get("/api/v1/samplers").json()["samplers"]


def test_a_job_draws_pictures_that_can_be_fetched_as_they_were_saved(client: TestClient) -> None:
    answer = client.post("/api/v1/generate", json=CAT | {"batch_count": 2})
    assert answer.status_code == 202
    assert answer.json()["parameters"]["seed"] == 7
    done = finished(client, answer.headers["location"])
    assert (done["state"], done["error"]) == ("done", None)
    assert [picture["seed"] for picture in done["pictures"]] == [7, 8]
    content = client.get(done["pictures"][1]["url"]).content
    assert read_infotext(io.BytesIO(content)) == done["pictures"][1]["infotext"]
    with Image.open(io.BytesIO(content)) as image:
        assert image.size == (16, 16)
    missing = client.get(answer.headers["location"] + "/pictures/2")
    assert (missing.status_code, missing.json()["error"]["key"]) == (404, "error.unknown_picture")


@pytest.mark.parametrize(
    ("values", "key"),
    [
        ({"steps": 0}, "error.steps_out_of_range"),
        ({"steps": 10_000}, "error.steps_out_of_range"),
        ({"steps": "many"}, "error.not_a_number"),
        ({"steps": True}, "error.not_a_number"),
        ({"steps": 10**400}, "error.number_too_large"),
        ({"width": 15}, "error.size_not_possible"),
        ({"height": 10**6}, "error.size_not_possible"),
        ({"width": 2048, "height": 2048}, "error.too_many_pixels"),
        ({"seed": 2**32}, "error.seed_out_of_range"),
        ({"seed": 1.5}, "error.not_a_whole_number"),
        ({"guidance_scale": float("nan")}, "error.guidance_scale_out_of_range"),
        ({"guidance_scale": 10**400}, "error.number_too_large"),
        ({"sampler": "Magic"}, "error.unknown_sampler"),
        ({"model": "../../etc/passwd"}, "error.unknown_model"),
        ({"prompt": "word " * 10_000}, "error.prompt_too_long"),
        ({"prompt": "a\u0000b"}, "error.control_character"),
        ({"prompt": ["a"]}, "error.not_text"),
        ({"batch_size": 99}, "error.batch_size_out_of_range"),
        ({"password": "x"}, "error.unknown_field"),
    ],
)
def test_bad_input_is_refused_with_a_sentence(client: TestClient, values: dict[str, Any], key: str) -> None:
    answer = client.post("/api/v1/generate", content=json.dumps(CAT | values))
    error = answer.json()["error"]
    assert (answer.status_code, error["key"]) == (400, key)
    assert error["message"].endswith(".")
    assert "\n" not in error["message"]
    assert len(error["message"]) < 1000
    assert client.get("/api/v1/samplers").status_code == 200


@pytest.mark.parametrize("body", [b"", b"{", b"[]", b"3", b"\xff\xfe", b"[" * 100_000])
def test_what_is_no_json_object_is_refused(client: TestClient, body: bytes) -> None:
    answer = client.post("/api/v1/generate", content=body)
    assert (answer.status_code, answer.json()["error"]["key"]) == (400, "error.not_json")


def test_a_prompt_is_required_and_a_body_has_an_end(client: TestClient) -> None:
    assert client.post("/api/v1/generate", json={}).json()["error"]["key"] == "error.field_missing"
    answer = client.post("/api/v1/generate", content=b" " * (MAX_BODY_BYTES + 1))
    assert (answer.status_code, answer.json()["error"]["key"]) == (413, "error.body_too_large")


def test_errors_speak_the_callers_language(client: TestClient, studio: Studio) -> None:
    answer = client.get("/api/v1/jobs/none", headers={"accept-language": "th-TH,th;q=0.9,en;q=0.5"})
    assert answer.status_code == 404
    assert answer.json()["error"]["message"] == studio.messages.text("th", "error.unknown_job", job="none")


def test_a_job_can_be_cancelled(client: TestClient) -> None:
    answer = client.post("/api/v1/generate", json=CAT | {"steps": 150, "batch_count": 16})
    url = answer.headers["location"]
    assert client.post(url + "/cancel").status_code == 202
    assert len(finished(client, url)["pictures"]) < 16
    assert client.post("/api/v1/jobs/none/cancel").status_code == 404


@pytest.mark.parametrize(
    ("header", "language"),
    [("", "en"), ("th", "th"), ("de,th;q=0.5", "th"), ("en;q=0.1,th;q=0.9", "th"), ("th;q=0", "en"), ("th;q=x", "en")],
)
def test_the_highest_ranked_language_of_ours_is_taken(header: str, language: str) -> None:
    assert accepted_language(header, "en") == language
