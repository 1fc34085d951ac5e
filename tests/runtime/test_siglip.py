"""SigLIP folders dropped into models/: found, loaded, scored and worked out as the stock classes do."""

from __future__ import annotations

import io
import json
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from transformers import PreTrainedTokenizerFast, Siglip2ImageProcessorPil, Siglip2Model, SiglipImageProcessorPil
from transformers import SiglipModel as StockSiglip

from tests.clip.samples import png
from tests.tiny_siglip import BIAS, SCALE, Kind, save_tiny_siglip
from webui.clip.request import CellRequest, ScoreRequest
from webui.clip.similarity import ScoreHead
from webui.errors import UserError
from webui.runtime.entries import CLIP
from webui.runtime.jobs import JobContext
from webui.settings import load_settings
from webui.studio import Studio, open_studio
from webui.tasks.clip import explain_score, score_pictures, work_out

TEXTS = ("a cat", "a dog", "แมว")
KINDS: tuple[Kind, ...] = ("siglip", "siglip2-fixed", "siglip2-naflex")


@pytest.fixture(scope="module")
def models_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("models")
    for kind in KINDS:
        save_tiny_siglip(folder / kind, kind)
    return folder


@pytest.fixture(scope="module")
def studio(models_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Studio]:
    studio = open_studio(load_settings(models_dir=models_dir, data_dir=tmp_path_factory.mktemp("data")))
    yield studio
    studio.close()


@pytest.fixture
def context() -> JobContext:
    return JobContext("cpu", threading.Event(), lambda event, kept: None)


def stock_logits(folder: Path, kind: Kind) -> np.ndarray:
    """What the stock class and the files' own tokenizer and image processor give, padded to 64, without a mask."""
    tokenizer: Any = PreTrainedTokenizerFast.from_pretrained(folder)
    ids = tokenizer(list(TEXTS), padding="max_length", max_length=64, truncation=True, return_tensors="pt").input_ids
    naflex = kind == "siglip2-naflex"
    model = (Siglip2Model if naflex else StockSiglip).from_pretrained(folder).eval()
    processor = (Siglip2ImageProcessorPil if naflex else SiglipImageProcessorPil).from_pretrained(folder)
    rows = []
    for file in (png(48, 40, 0), png(40, 64, 1)):
        image = Image.open(io.BytesIO(file.content))
        with torch.no_grad():
            rows.append(model(input_ids=ids, **processor(images=[image], return_tensors="pt")).logits_per_image[0])
    return torch.stack(rows).numpy()


@pytest.mark.parametrize("kind", KINDS)
def test_scores_equal_the_stock_class(studio: Studio, models_dir: Path, context: JobContext, kind: Kind) -> None:
    assert kind in [entry.id for entry in studio.catalog.entries(CLIP)]
    result = score_pictures(studio, ScoreRequest((png(48, 40, 0), png(40, 64, 1)), TEXTS, kind), context)
    expected = stock_logits(models_dir / kind, kind)
    np.testing.assert_allclose(result.similarity.logit, expected, atol=1e-5, rtol=1e-5)
    np.testing.assert_allclose(result.similarity.sigmoid, 1 / (1 + np.exp(-expected)), atol=1e-5)
    assert list(result.similarity.measures) == ["cosine", "logit", "sigmoid"]


@pytest.mark.parametrize("kind", KINDS)
def test_the_arithmetic_has_scale_and_bias_and_meets_the_model(studio: Studio, context: JobContext, kind: Kind) -> None:
    worked = work_out(studio, CellRequest(png(96, 48), "a cat", kind), context)
    assert worked.check.passed
    assert worked.head == ScoreHead("sigmoid", pytest.approx(np.exp(SCALE)), BIAS)
    assert worked.logit == pytest.approx(np.exp(SCALE) * worked.cosine + BIAS)
    assert (worked.pooled_position, worked.image_pooling, worked.tokens.limit) == (63, "attention", 64)
    wide = kind == "siglip2-naflex"  # keeps the shape of the picture, 2 to 1
    assert (worked.patches.columns, worked.patches.rows) == ((5, 3) if wide else (4, 4))
    with Image.open(io.BytesIO(worked.model_view)) as view:
        assert view.size == (worked.patches.width, worked.patches.height)


@pytest.mark.parametrize("kind", KINDS)
def test_texts_are_read_as_the_model_was_trained(studio: Studio, context: JobContext, kind: Kind) -> None:
    result = score_pictures(studio, ScoreRequest((png(),), ("a cat", "A CAT", "a cat!"), kind), context)
    cosine = result.similarity.cosine[0]
    assert cosine[0] == pytest.approx(cosine[1], abs=1e-6)
    # Only the first SigLIP was trained without punctuation.
    assert (abs(cosine[0] - cosine[2]) < 1e-6) == (kind == "siglip")
    letters = ["".join(letter.character for letter in text.letters) for text in result.tokens]
    assert letters[0] == letters[1] == "a cat"
    assert not any(piece.is_special for piece in result.tokens[0].pieces[:-1]), "every piece has its letters"


def test_thai_falls_back_on_bytes_that_share_letters(studio: Studio, context: JobContext) -> None:
    worked = work_out(studio, CellRequest(png(), "แมว", "siglip2-fixed"), context)
    pieces = worked.tokens.pieces[:-1]
    assert [piece.raw for piece in pieces] == [bytes([byte]) for byte in "แมว".encode()]
    assert [piece.continues_letter for piece in pieces] == [False, True, True] * 3


@pytest.mark.parametrize(
    ("break_it", "key"),
    [
        (lambda folder: (folder / "tokenizer.json").unlink(), "error.model_file_missing"),
        (lambda folder: (folder / "config.json").write_text('{"model_type": "blip"}'), None),
        (lambda folder: (folder / "tokenizer.json").write_text("{}"), "error.model_file_broken"),
    ],
)
def test_a_broken_folder_is_refused_in_words(tmp_path: Path, context: JobContext, break_it: Any, key: str) -> None:
    save_tiny_siglip(tmp_path / "broken", "siglip")
    break_it(tmp_path / "broken")
    studio = open_studio(load_settings(models_dir=tmp_path, data_dir=tmp_path / "data"))
    try:
        with pytest.raises(UserError) as error:
            score_pictures(studio, ScoreRequest((png(),), ("a cat",), "broken"), context)
    finally:
        studio.close()
    assert error.value.key == (key or "error.unknown_model")


def test_a_vocabulary_that_is_too_large_is_refused(tmp_path: Path, context: JobContext) -> None:
    save_tiny_siglip(tmp_path / "other", "siglip2-fixed")
    tokenizer = json.loads((tmp_path / "other" / "tokenizer.json").read_text())
    tokenizer["model"]["vocab"]["extra"] = len(tokenizer["model"]["vocab"])
    (tmp_path / "other" / "tokenizer.json").write_text(json.dumps(tokenizer))
    studio = open_studio(load_settings(models_dir=tmp_path, data_dir=tmp_path / "data"))
    try:
        with pytest.raises(UserError, match="tokenizer_mismatch"):
            score_pictures(studio, ScoreRequest((png(),), ("a cat",), "other"), context)
    finally:
        studio.close()


def test_relevance_knows_pictures_of_one_size(studio: Studio, context: JobContext) -> None:
    explained = explain_score(studio, CellRequest(png(), "a cat", "siglip2-fixed"), context)
    assert explained.relevance.patches.shape == (4, 4)
    with pytest.raises(UserError, match="relevance_needs_one_size"):
        explain_score(studio, CellRequest(png(), "a cat", "siglip2-naflex"), context)
