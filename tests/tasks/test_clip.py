from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from PIL import Image
from typer.testing import CliRunner

from tests.clip.conftest import clip, tokenizer
from tests.clip.samples import picture, png
from webui.cli import build_app, run
from webui.clip.encoder import ClipParts
from webui.clip.request import CellRequest, NearestRequest, ScoreRequest, ZeroShotRequest
from webui.errors import UserError
from webui.i18n import load_messages
from webui.runtime.jobs import JobCancelled, JobContext
from webui.settings import load_settings
from webui.studio import Studio, open_studio
from webui.tasks.clip import classify_pictures, explain_score, find_nearest, score_pictures, work_out
from webui.vision.pictures import PictureFile

__all__ = ["clip", "tokenizer"]


@pytest.fixture(scope="module")
def models_dir(clip: ClipParts, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("models")
    clip.model.save_pretrained(folder / "tiny-clip")
    clip.processor.save_pretrained(folder / "tiny-clip")
    return folder


@pytest.fixture
def studio(models_dir: Path, tmp_path: Path) -> Iterator[Studio]:
    studio = open_studio(load_settings(models_dir=models_dir, data_dir=tmp_path))
    yield studio
    studio.close()


def test_a_score_through_a_job_is_cached_in_the_studio(studio: Studio, context: JobContext) -> None:
    request = ScoreRequest((png(48, 40, 0), png(40, 40, 1)), ("a cat", "แมว"), "tiny-clip")
    job = studio.jobs.submit(lambda context: score_pictures(studio, request, context), owner="me", kind="clip")
    first = job.result(60)
    assert (first.model, first.encoded_pictures, first.encoded_texts) == ("tiny-clip", 2, 2)
    again = score_pictures(studio, ScoreRequest(request.pictures, ("a cat", "a dog"), "tiny-clip"), context)
    assert (again.encoded_pictures, again.encoded_texts) == (0, 1)


def test_a_cell_is_worked_out_and_explained(studio: Studio, context: JobContext) -> None:
    cell = CellRequest(png(), "a cat", "tiny-clip")
    worked = work_out(studio, cell, context)
    explained = explain_score(studio, cell, context)
    assert worked.check.passed
    assert explained.relevance.cosine == pytest.approx(worked.cosine, abs=1e-5)
    assert explained.model_view == worked.model_view


def test_labels_and_nearest_texts(studio: Studio, context: JobContext) -> None:
    files = (png(), PictureFile("broken", b"x"))
    found = classify_pictures(studio, ZeroShotRequest(files, ("cat", "dog"), ("a {}",), "tiny-clip"), context)
    assert found.answers.labels == ("cat", "dog")
    assert [refused.name for refused in found.refused] == ["broken"]
    nearest = find_nearest(studio, NearestRequest(("dog",), ("cat", "dog"), 1, "tiny-clip"), context)
    assert nearest[0][0][0] == "dog"


def test_mistakes_are_told_before_a_model_is_loaded(studio: Studio, context: JobContext) -> None:
    for request, key in (
        (ScoreRequest((), ()), "error.nothing_to_score"),
        (ScoreRequest((), ("a",), "no-such-model"), "error.unknown_model"),
    ):
        with pytest.raises(UserError) as error:
            score_pictures(studio, request, context)
        assert error.value.key == key
    assert studio.manager.status() == ()


def test_a_cancelled_score_leaves_no_result(studio: Studio) -> None:
    cancelled = threading.Event()
    cancelled.set()
    context = JobContext("cpu", cancelled, lambda event, kept: None)
    with pytest.raises(JobCancelled):
        score_pictures(studio, ScoreRequest((png(),), ("a cat",), "tiny-clip"), context)


def test_the_command_prints_the_matrices(models_dir: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    picture(48, 40).save(tmp_path / "cat.png")
    Image.new("RGBA", (9, 9)).save(tmp_path / "clear.png")
    (tmp_path / "notes.txt").write_text("hello")
    flags = ["--models-dir", str(models_dir), "--data-dir", str(tmp_path), "--model", "tiny-clip"]
    pictures = [str(tmp_path / name) for name in ("cat.png", "clear.png", "notes.txt")]
    code = run(["score", *pictures, "--text", "a cat", "--text", "แมว", "--json", *flags])
    output = capsys.readouterr()
    answer = json.loads(output.out)
    assert code == 0
    assert answer["pictures"] == pictures[:2]
    assert answer["texts"] == ["a cat", "แมว"]
    for name in ("cosine", "logit", "softmax_texts", "softmax_pictures"):
        assert [len(row) for row in answer[name]] == [2, 2]
    assert "notes.txt" in output.err
    assert "white" in output.err


def test_the_command_without_a_readable_picture_fails_in_words(
    models_dir: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code = run(
        ["score", str(tmp_path / "no.png"), "--text", "a", "--model", "tiny-clip", "--models-dir", str(models_dir)]
    )
    assert code == 2
    assert "no.png" in capsys.readouterr().err


def test_the_command_describes_itself_in_thai() -> None:
    answer = CliRunner().invoke(build_app(load_messages().translator("th")), ["score", "--help"])
    assert "ภาพกับข้อความ" in answer.output
