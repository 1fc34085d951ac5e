"""Searching and indexing through the queue and the command line."""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from PIL import Image

from tests.tiny import save_tiny_clip
from webui.cli import run
from webui.diffusion.request import GenerateRequest
from webui.search.query import SearchRequest, Term
from webui.search.service import IndexPhase
from webui.settings import Settings
from webui.studio import Studio, open_studio
from webui.tasks.search import search_pictures, start_index, store_of
from webui.tasks.txt2img import draw_pictures, prepare_request

PATIENCE = 120.0


@pytest.fixture
def studio(tmp_path: Path, tiny_pipeline_folder: Path) -> Iterator[Studio]:
    shutil.copytree(tiny_pipeline_folder, tmp_path / "models" / "tiny")
    save_tiny_clip(tmp_path / "models" / "a-clip")
    opened = open_studio(Settings(data_dir=tmp_path))
    yield opened
    opened.close()


def draw(studio: Studio, seed: int) -> Path:
    request = prepare_request(studio, GenerateRequest(f"a cat {seed}", model="tiny", steps=2, seed=seed))
    job = studio.jobs.submit(lambda context: draw_pictures(studio, request, context), owner="me", kind="txt2img")
    return job.result(PATIENCE).pictures[0].path


def found(studio: Studio, prompt: str = "cat", model: str = "a-clip") -> list[str]:
    request = SearchRequest((Term(text=prompt),), model=model)
    job = studio.jobs.submit(
        lambda context: search_pictures(studio, request, context, owner=True), owner="me", kind="search"
    )
    return sorted(hit.row.prompt for hit in job.result(PATIENCE).hits)


def test_what_was_drawn_is_found_at_once_and_indexed_by_itself(studio: Studio) -> None:
    draw(studio, 1)
    assert found(studio) == ["a cat 1"], "before the run that follows by itself"
    path = draw(studio, 2)
    model = next(entry.id for entry in studio.catalog.entries("clip") if entry.problem is None)
    deadline = time.monotonic() + PATIENCE
    while str(path.resolve()) not in store_of(studio, model).known():
        assert time.monotonic() < deadline, "nobody searched, and it was never indexed"
        time.sleep(0.1)
    path.unlink()
    start_index(studio, "a-clip")
    assert [status.phase for status in studio.search.board.follow(PATIENCE)][-1] is IndexPhase.DONE
    assert found(studio) == ["a cat 1"], "a vanished file is dropped"


def test_the_commands_speak_json(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    save_tiny_clip(tmp_path / "models" / "a-clip")
    folder = tmp_path / "holiday"
    folder.mkdir()
    for colour in ("red", "blue"):
        Image.new("RGB", (64, 48), colour).save(folder / f"{colour}.png")
    (folder / "broken.jpg").write_text("no picture")
    common = ["--data-dir", str(tmp_path), "--model", "a-clip", "--json"]

    assert run(["index", str(folder), *common]) == 0
    told = capsys.readouterr()
    answer = json.loads(told.out)
    assert (answer["embedded"], answer["refused"], answer["done"]) == (2, 1, 3)
    assert [problem["name"] for problem in answer["problems"]] == ["holiday/broken.jpg"]
    assert answer["missing_folders"] == []
    assert answer["pictures_per_second"] > 0
    assert answer["device"] == "cpu"
    assert "broken.jpg" in told.err

    assert run(["search", "a red thing", "--folder", "holiday", *common]) == 0
    results = json.loads(capsys.readouterr().out)["results"]
    assert sorted(result["path"] for result in results) == sorted(str(p.resolve()) for p in folder.glob("*.png"))
    assert all(-1 <= result["score"] <= 1 for result in results)

    assert run(["search", "a red thing", "--folder", "nowhere", *common]) == 2
    assert "holiday" in capsys.readouterr().err
    folder.rename(tmp_path / "elsewhere")
    assert run(["index", *common]) == 0
    told = capsys.readouterr()
    assert json.loads(told.out)["missing_folders"] == [str(folder.resolve())]
    assert str(folder) in told.err
