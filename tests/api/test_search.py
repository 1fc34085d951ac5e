"""POST /api/v1/search and the pictures that its results name, for the owner and for visitors from other machines."""

from __future__ import annotations

import base64
import json
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from starlette.applications import Starlette
from starlette.testclient import TestClient

from tests.tiny import save_tiny_clip
from webui.api.pictures import picture_routes
from webui.api.routes import api_routes
from webui.settings import Settings
from webui.studio import Studio, open_studio
from webui.tasks.search import start_index

Open = Callable[..., "Opened"]
COLOURS = ("red", "lime", "blue")


@dataclass(frozen=True)
class Opened:
    studio: Studio
    client: TestClient

    def search(self, **asked: object) -> dict[str, Any]:
        """What the job has found."""
        accepted = self.client.post("/api/v1/search", json={"model": "tiny-clip"} | asked)
        assert accepted.status_code == 202, accepted.text
        while True:
            job = self.client.get(accepted.headers["location"]).json()
            if job["state"] in ("done", "failed", "cancelled"):
                assert job["state"] == "done", job
                return dict(job["search"])
            assert job["search"] is None
            time.sleep(0.05)

    def refused(self, **asked: object) -> dict[str, str]:
        answer = self.client.post("/api/v1/search", content=json.dumps({"model": "tiny-clip"} | asked))
        assert answer.status_code == 400, answer.text
        return dict(answer.json()["error"])


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two indexed folders with three plain pictures each: one is shared, the other is not."""
    place = tmp_path_factory.mktemp("place")
    save_tiny_clip(place / "models" / "tiny-clip")
    with closing(open_studio(Settings(data_dir=place))) as studio:
        for name in ("shared", "private"):
            (place / name).mkdir()
            for number, colour in enumerate(COLOURS):
                size = (60 + number, 50) if name == "shared" else (70 + number, 50)
                Image.new("RGB", size, colour).save(place / name / f"{colour}.png")
            added = studio.search.folders.add(place / name)
            studio.search.folders.share(added.id, name == "shared")
        start_index(studio, "tiny-clip")
        assert [status.counts.done for status in studio.search.board.follow(timeout=120)][-1] == 6
    return place


@pytest.fixture
def opened(place: Path) -> Iterator[Open]:
    with ExitStack() as stack:

        def make(host: str = "127.0.0.1") -> Opened:
            studio = stack.enter_context(closing(open_studio(Settings(data_dir=place, host=host))))
            app = Starlette(routes=[*api_routes(studio), *picture_routes(studio)])
            return Opened(studio, TestClient(app))

        yield make


def test_the_owner_finds_every_picture_by_a_picture_and_by_its_id(opened: Open, place: Path) -> None:
    owner = opened()
    content = base64.b64encode((place / "private" / "red.png").read_bytes()).decode()
    answer = owner.search(picture={"name": "red.png", "content": content}, query="- 0.2 แมว")
    assert answer["searched"] == 6
    assert answer["exact"] is True
    named = [path for result in answer["results"] for path in (result["path"], *result["near_duplicates"])]
    assert sorted(named) == sorted(str(path.resolve()) for path in place.glob("*/*.png"))
    wanted = next(r for r in answer["results"] if Path(r["path"]).name == "blue.png")
    alike = owner.search(like=wanted["id"], folders=["private"], limit=1)
    assert [Path(result["path"]).parts[-2:] for result in alike["results"]] == [("private", "blue.png")]
    assert alike["results"][0]["score"] == pytest.approx(1, abs=1e-4)


def test_a_visitor_searches_what_is_shared_and_sees_no_path(opened: Open, place: Path) -> None:
    visitor = opened("0.0.0.0")
    answer = visitor.search(query="red")
    assert answer["searched"] == 3
    named = [path for result in answer["results"] for path in (result["path"], *result["near_duplicates"])]
    assert sorted(named) == [f"shared/{colour}.png" for colour in sorted(COLOURS)]
    assert str(place) not in json.dumps(answer)
    for folder in ("private", str(place / "private"), str(place / "shared"), str(place)):
        error = visitor.refused(query="red", folders=[folder])
        assert error["key"] == "error.search_folder_unknown"
        assert "private" not in error["message"].replace(folder, "")
    secret = next(r["id"] for r in opened().search(query="red", folders=["private"])["results"])
    job = visitor.client.post("/api/v1/search", json={"model": "tiny-clip", "like": secret}).headers["location"]
    while (told := visitor.client.get(job).json())["state"] not in ("done", "failed"):
        time.sleep(0.05)
    assert told["error"]["key"] == "error.search_picture_gone"


def test_pictures_are_shown_at_signed_addresses_only(opened: Open) -> None:
    visitor, owner = opened("0.0.0.0"), opened()
    result = visitor.search(query="red", limit=1)["results"][0]
    shown = visitor.client.get(result["thumbnail"])
    assert (shown.status_code, shown.headers["content-type"]) == (200, "image/webp")
    address, _, signature = result["thumbnail"].rpartition("/")
    other = ("0" if signature[0] != "0" else "1") + signature[1:]
    assert visitor.client.get(f"{address}/{other}").status_code == 404
    assert visitor.client.get(result["thumbnail"].replace("thumbnail", "full")).status_code == 404
    private = owner.search(query="red", folders=["private"], limit=1)["results"][0]
    assert owner.client.get(private["thumbnail"]).status_code == 200
    assert visitor.client.get(private["thumbnail"]).status_code == 404, "another program's signature"
    table = address.split("/")[-2]
    visitor.search(query="red")
    ours = "/" + visitor.studio.links.address("thumbnail", table, private["id"])
    assert visitor.client.get(ours).status_code == 404, "not shared, whoever signed"


@pytest.mark.parametrize(
    ("asked", "key"),
    [
        ({}, "error.search_empty"),
        ({"query": 3}, "error.not_text"),
        ({"query": "a", "path": "/etc"}, "error.unknown_field"),
        ({"query": "a", "limit": 5000}, "error.search_limit"),
        ({"query": "a", "limit": float("inf")}, "error.search_not_number"),
        ({"query": "a", "min_side": "big"}, "error.search_not_number"),
        ({"query": "a", "since": "yesterday"}, "error.search_date"),
        ({"query": "a", "folders": "private"}, "error.not_a_list"),
        ({"query": "a", "folders": ["nowhere"]}, "error.search_folder_unknown"),
        ({"query": "a", "model": "none"}, "error.unknown_model"),
        ({"picture": {"content": "%%"}}, "error.not_base64"),
        ({"query": "1000 * a"}, "error.search_weight"),
    ],
)
def test_bad_requests_are_refused_with_a_sentence(opened: Open, asked: dict[str, Any], key: str) -> None:
    error = opened().refused(**asked)
    assert error["key"] == key
    assert error["message"].endswith(".")
