from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.clip.samples import png
from tests.tiny import save_tiny_clip, save_tiny_vit
from webui.cli import run
from webui.errors import UserError
from webui.runtime.jobs import JobCancelled, JobContext
from webui.settings import load_settings
from webui.studio import Studio, open_studio
from webui.tasks.vision import (
    check_pictures,
    classify_pictures,
    explain_label,
    label_set,
    prompt_nouns,
    read_attention,
    see_picture,
    work_out_row,
)
from webui.vision.check import check_as_dict
from webui.vision.pictures import picture_from_image
from webui.vision.request import AttentionRequest, CheckRequest, ClassifyRequest, ExplainRequest, SeeRequest


@pytest.fixture(scope="module")
def models_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("models")
    save_tiny_vit(folder / "tiny-vit")
    save_tiny_clip(folder / "tiny-clip")
    return folder


@pytest.fixture
def studio(models_dir: Path, tmp_path: Path) -> Iterator[Studio]:
    studio = open_studio(load_settings(models_dir=models_dir, data_dir=tmp_path))
    yield studio
    studio.close()


def test_every_task_asks_the_one_loaded_model(studio: Studio, context: JobContext) -> None:
    found = classify_pictures(studio, ClassifyRequest((png(),), 2, "tiny-vit"), context)
    seen = see_picture(studio, SeeRequest(png(), "tiny-vit"), context)
    np.testing.assert_allclose(seen.classified.probabilities, found.pictures[0].probabilities, atol=1e-6)
    place = AttentionRequest(png(), 1, 2, 3, "tiny-vit")
    worked = work_out_row(studio, place, context)
    assert worked.passed
    np.testing.assert_allclose(read_attention(studio, place, context).weights[1, 2, 0], worked.weights, atol=1e-5)
    assert (
        explain_label(studio, ExplainRequest(png(), None, "tiny-vit"), context).label == found.pictures[0].top(1)[0][0]
    )
    assert [status.key.name for status in studio.manager.status()] == ["tiny-vit"]


def test_labels_are_read_without_a_model(studio: Studio) -> None:
    assert label_set(studio, "tiny-vit").names == ("cat", "dog", "car")
    assert [noun.written for noun in prompt_nouns(studio, "two dogs", "tiny-vit").found] == ["dogs"]
    assert studio.manager.status() == ()


def test_a_batch_is_checked_and_ranked(studio: Studio, context: JobContext) -> None:
    blue = picture_from_image("blue", Image.new("RGB", (32, 32), (50, 100, 210)))
    request = CheckRequest((png(40, 40, 0), blue, png(40, 40, 2)), "a dog and a zebra on a blue background", "tiny-vit")
    check = check_pictures(studio, request, context)
    assert [noun.written for noun in check.nouns.found] == ["dog"]
    assert check.nouns.unknown == ("zebra",)
    scores = [picture.cosine for picture in check.ranked]
    assert scores == sorted(scores, reverse=True)
    assert {picture.place for picture in check.ranked} == {0, 1, 2}
    for picture in check.pictures:
        (verdict,) = picture.verdicts
        dog = picture.classified.probabilities[1]
        assert verdict.probability == pytest.approx(dog)
        assert verdict.rank == 1 + int((picture.classified.probabilities > dog).sum())
    answer = check_as_dict(check)
    background = next(p for p in answer["pictures"] if p["picture"] == "blue")["background"]
    assert background == {"measured": "blue", "share": 1.0, "wanted": "blue", "matches": True}
    json.dumps(answer)


def test_weights_of_words_do_not_change_what_is_looked_for(studio: Studio, context: JobContext) -> None:
    plain, weighted = (
        check_pictures(studio, CheckRequest((png(40, 40, 0),), prompt, "tiny-vit"), context)
        for prompt in ("a dog on a blue background", "a (dog:1.3) on a [blue] background")
    )
    assert weighted.nouns == plain.nouns
    assert [picture.cosine for picture in weighted.pictures] == [picture.cosine for picture in plain.pictures]


def test_mistakes_are_told_before_a_model_is_loaded(studio: Studio, context: JobContext) -> None:
    for request, key in (
        (ClassifyRequest((), model="tiny-vit"), "error.nothing_to_classify"),
        (ClassifyRequest((png(),), 0, "tiny-vit"), "error.label_count"),
        (ClassifyRequest((png(),), model="none"), "error.unknown_model"),
    ):
        with pytest.raises(UserError) as error:
            classify_pictures(studio, request, context)
        assert error.value.key == key
    assert studio.manager.status() == ()


def test_a_cancelled_classification_leaves_no_result(studio: Studio) -> None:
    cancelled = threading.Event()
    cancelled.set()
    with pytest.raises(JobCancelled):
        classify_pictures(
            studio, ClassifyRequest((png(),), model="tiny-vit"), JobContext("cpu", cancelled, lambda event, kept: None)
        )


def test_the_command_prints_labels(models_dir: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    content = png(48, 40, 0).content
    assert isinstance(content, bytes)
    (tmp_path / "cat.png").write_bytes(content)
    flags = ["--models-dir", str(models_dir), "--data-dir", str(tmp_path), "--model", "tiny-vit"]
    assert run(["classify", str(tmp_path / "cat.png"), "--json", "--top", "2", *flags]) == 0
    labels = json.loads(capsys.readouterr().out)["labels"]
    assert [set(label) for label in labels] == [{"label", "probability"}] * 2
    assert labels[0]["probability"] > labels[1]["probability"]
    assert run(["classify", str(tmp_path / "cat.png"), *flags]) == 0
    assert labels[0]["label"] in capsys.readouterr().out.splitlines()[0]
    assert run(["classify", str(tmp_path / "no.png"), *flags]) == 2
    assert "no.png" in capsys.readouterr().err
