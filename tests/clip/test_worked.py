from __future__ import annotations

import io

import numpy as np
import pytest
import torch
from PIL import Image

from tests.clip.samples import png
from webui.clip.encoder import Encoder
from webui.clip.similarity import ScoreHead
from webui.clip.worked import ModelCheck, PatchGrid, WorkedExample, worked_example


@pytest.fixture
def worked(encoder: Encoder) -> WorkedExample:
    return worked_example(encoder, png(60, 40), "a cat แมว")


def test_the_steps_equal_a_recomputation_in_float64(encoder: Encoder, worked: WorkedExample) -> None:
    model = encoder.model
    ids = encoder.tokenizer(["a cat แมว"], padding="max_length", max_length=77, return_tensors="pt")
    image = encoder.clip.processor.image_processor(
        images=[Image.open(io.BytesIO(png(60, 40).read(encoder.limits)))], return_tensors="pt"
    )
    with torch.no_grad():
        text = model.get_text_features(**ids).pooler_output[0].double().numpy()
        picture = model.get_image_features(**image).pooler_output[0].double().numpy()
    assert worked.dot == pytest.approx(sum(float(a) * float(b) for a, b in zip(picture, text, strict=True)), abs=1e-5)
    assert worked.image_norm == pytest.approx(sum(float(a) ** 2 for a in picture) ** 0.5, abs=1e-5)
    assert worked.text_norm == pytest.approx(sum(float(a) ** 2 for a in text) ** 0.5, abs=1e-5)
    cosine = worked.dot / (worked.image_norm * worked.text_norm)
    assert worked.cosine == pytest.approx(cosine, abs=1e-12)
    assert worked.logit == pytest.approx(float(model.logit_scale.detach().exp()) * cosine, abs=1e-5)
    np.testing.assert_allclose(worked.terms.sum(), worked.dot)


def test_the_check_line_compares_with_the_model_itself(encoder: Encoder, worked: WorkedExample) -> None:
    assert worked.check.passed
    assert worked.check.ours == worked.logit
    assert worked.check.difference < 1e-5
    assert not ModelCheck(ours=20.0, model=20.001).passed


def test_the_pooled_position_is_the_first_end_token(encoder: Encoder, worked: WorkedExample) -> None:
    assert worked.text_states.shape == (77, 32)
    assert worked.pooled_position == len(worked.tokens.pieces) - 1
    with torch.no_grad():
        pooled = torch.from_numpy(worked.text_states[worked.pooled_position])
        projected = encoder.model.text_projection(pooled).double().numpy()
    np.testing.assert_allclose(projected, worked.text_vector, atol=1e-6)


def test_a_siglip_is_worked_through_the_same_way(siglip_encoder: Encoder) -> None:
    worked = worked_example(siglip_encoder, png(60, 40), "a cat")
    assert worked.check.passed
    assert worked.head == ScoreHead("sigmoid", pytest.approx(np.exp(2.0)), -3.0)
    assert (worked.pooled_position, worked.image_pooling, worked.image_tokens) == (63, "attention", 16)


def test_patches_are_counted_right(worked: WorkedExample) -> None:
    assert (worked.patches.columns, worked.patches.rows, worked.patches.count) == (4, 4, 16)
    assert worked.image_tokens == 17
    assert PatchGrid(256, 256, 16).count == 256
    with Image.open(io.BytesIO(worked.model_view)) as view:
        assert view.size == (32, 32)


def test_the_largest_terms_are_sorted_and_signed(worked: WorkedExample) -> None:
    shown = worked.terms[worked.largest_terms(3)]
    assert (np.diff(shown) <= 0).all()
    assert (shown > 0).sum() <= 3
    assert (shown < 0).sum() <= 3
    assert shown[0] == worked.terms.max()
    assert shown[-1] == worked.terms.min()
