from __future__ import annotations

import base64
import io
import time
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from PIL import Image
from starlette.applications import Starlette
from starlette.testclient import TestClient

from webui.api.routes import api_routes
from webui.studio import Studio


@pytest.fixture
def client(studio: Studio) -> Iterator[TestClient]:
    with TestClient(Starlette(routes=api_routes(studio))) as opened:
        yield opened


def ended(client: TestClient, answer: Any) -> dict[str, Any]:
    assert answer.status_code == 202, answer.text
    while True:
        job: dict[str, Any] = client.get(answer.headers["location"]).json()
        if job["state"] in ("done", "failed", "cancelled"):
            return job
        time.sleep(0.05)


def png(width: int = 40, height: int = 24) -> bytes:
    pixels = np.random.default_rng(0).integers(0, 256, (height, width, 3), np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG")
    return buffer.getvalue()


def numbers(latent: dict[str, Any]) -> np.ndarray:
    return np.frombuffer(base64.b64decode(latent["content"]), "<f4").reshape(latent["shape"])


def test_a_picture_becomes_a_latent_and_the_latent_a_picture(client: TestClient) -> None:
    body = {"pictures": [base64.b64encode(png()).decode()], "model": "tiny", "keep_size": True}
    latent = ended(client, client.post("/api/v1/encode", json=body))["latent"]
    assert (latent["width"], latent["height"]) == (40, 24)
    channels, height, width = latent["shape"]
    assert (channels, 40 // width, 24 // height) == (4, 40 / width, 24 / height)
    assert np.isfinite(numbers(latent)).all()
    assert latent["psnr"] > 0

    form = client.post(
        "/api/v1/encode", files={"pictures": ("p.png", png())}, data={"model": "tiny", "keep_size": "true"}
    )
    assert np.array_equal(numbers(ended(client, form)["latent"]), numbers(latent))

    sent = {"latent": {name: latent[name] for name in ("shape", "content")}, "model": "tiny"}
    picture = ended(client, client.post("/api/v1/decode", json=sent))["picture"]
    with Image.open(io.BytesIO(base64.b64decode(picture["content"]))) as image:
        assert (image.format, image.size) == ("PNG", (40, 24))
        decoded = np.asarray(image)
    other = {**sent, "latent": {**sent["latent"], "content": base64.b64encode(numbers(latent) * -1).decode()}}  # type: ignore[dict-item]
    changed = ended(client, client.post("/api/v1/decode", json=other))["picture"]
    with Image.open(io.BytesIO(base64.b64decode(changed["content"]))) as image:
        assert not np.array_equal(np.asarray(image), decoded)


def latent_of(shape: list[int], value: float = 0.0) -> dict[str, Any]:
    return {"shape": shape, "content": base64.b64encode(np.full(shape, value, "<f4")).decode()}


@pytest.mark.parametrize(
    ("body", "key"),
    [
        ({}, "error.latent_form"),
        ({"latent": {"shape": [4, 2, True], "content": ""}}, "error.latent_form"),
        ({"latent": {**latent_of([4, 2, 2]), "shape": [4, 2, 3]}}, "error.latent_form"),
        ({"latent": {"shape": [4, 2, 2], "content": "?"}}, "error.not_base64"),
        ({"latent": latent_of([3, 2, 2])}, "error.latent_shape"),
        ({"latent": latent_of([4, 1, 5000])}, "error.latent_shape"),
        ({"latent": latent_of([4, 2, 2], np.nan)}, "error.latent_not_finite"),
        ({"latent": latent_of([4, 2, 2]), "model": "gone"}, "error.unknown_model"),
        ({"latent": latent_of([4, 2, 2]), "size": 1}, "error.unknown_field"),
    ],
)
def test_a_latent_that_cannot_be_decoded_is_refused(client: TestClient, body: dict[str, Any], key: str) -> None:
    answer = client.post("/api/v1/decode", json={"model": "tiny", **body})
    assert answer.status_code == 400
    assert answer.json()["error"]["key"] == key


def test_a_picture_that_cannot_be_encoded_is_refused(client: TestClient) -> None:
    picture = base64.b64encode(png()).decode()
    for body, key in (
        ({"pictures": []}, "error.one_picture_wanted"),
        ({"pictures": [picture, picture]}, "error.one_picture_wanted"),
        ({"pictures": [picture], "keep_size": 1}, "error.not_true_or_false"),
        ({"pictures": [picture], "model": "gone"}, "error.unknown_model"),
    ):
        answer = client.post("/api/v1/encode", json={"model": "tiny", **body})
        assert (answer.status_code, answer.json()["error"]["key"]) == (400, key)
