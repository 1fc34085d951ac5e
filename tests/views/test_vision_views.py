from __future__ import annotations

import base64
import json
import re

import numpy as np
import pytest
import torch
from transformers import ViTForImageClassification, ViTImageProcessorPil

from tests.clip.samples import png
from tests.tiny import save_tiny_vit
from webui.i18n import Translator, load_messages
from webui.views.attention import LEVELS, render_attention, render_worked_attention
from webui.views.class_relevance import render_class_relevance, render_rollout
from webui.views.vision_stations import (
    STATIONS,
    render_classes,
    render_embedding,
    render_empty_vision,
    render_patches,
    render_pipeline,
    render_tokens,
)
from webui.vision.attention import SeenPicture, see, work_out_attention
from webui.vision.saliency import explain_class
from webui.vision.vit import Classifier, VitParts


@pytest.fixture(scope="module")
def classifier(tmp_path_factory: pytest.TempPathFactory) -> Classifier:
    folder = tmp_path_factory.mktemp("vit") / "tiny"
    save_tiny_vit(folder, ("<b>cat</b>", "dog", "car"))
    model = ViTForImageClassification.from_pretrained(folder, dtype=torch.float32).eval()
    return Classifier(VitParts(model, ViTImageProcessorPil.from_pretrained(folder)), "tiny")


@pytest.fixture(scope="module")
def seen(classifier: Classifier) -> SeenPicture:
    return see(classifier, png(60, 40))


@pytest.fixture(params=["en", "th"])
def say(request: pytest.FixtureRequest) -> Translator:
    return load_messages().translator(request.param)


def test_the_pipeline_names_every_station_with_its_shape(
    classifier: Classifier, seen: SeenPicture, say: Translator
) -> None:
    shown = render_pipeline(seen, classifier.label_set, say)
    assert re.findall(r'data-station="(\w+)"', shown) == list(STATIONS)
    for shape in ("4 × 4 = 16", "16 × 32", "17 × 32", "2 × 4 × 17 × 17"):
        assert shape in shown
    assert "<b>cat" not in shown + render_classes(seen, classifier.label_set, say)


def test_patches_and_vectors_show_the_models_numbers(seen: SeenPicture, say: Translator) -> None:
    assert render_patches(seen, say).count("data-patch=") == 16
    assert "32 px / 8 px = 4" in render_patches(seen, say)
    embedding = render_embedding(seen, 5, say)
    assert f"{seen.patch_values[5][0]:+.4f}" in embedding
    assert f"{seen.patch_embeddings[5][31]:+.4f}" in embedding
    tokens = render_tokens(seen, 5, say)
    assert "[CLS]" in tokens
    assert f"{seen.tokens[6][0]:+.4f}" in tokens
    assert "ViT" in render_empty_vision(say, able=False)


def test_the_browser_gets_every_row_to_five_digits(seen: SeenPicture, say: Translator) -> None:
    shown = render_attention(seen, seen.rows, say, 1, -1, 0)
    packed = re.search(r'data-weights="([^"]+)"', shown)
    assert packed is not None
    weights = np.frombuffer(base64.b64decode(packed[1]), "<u2").reshape(2, 4, 17, 17) / LEVELS
    np.testing.assert_allclose(weights, seen.rows.weights, atol=1 / LEVELS)
    said = re.search(r'data-said="([^"]+)"', shown)
    assert said is not None
    assert set(re.findall(r"\{(\w+)\}", said[1])) == {"layer", "head", "query", "most", "share", "class_share"}
    state = re.search(r'data-state="([^"]+)"', shown)
    assert state is not None
    assert json.loads(state[1]) == [1, -1, 0]


def test_a_worked_row_has_every_token_and_its_check(classifier: Classifier, say: Translator) -> None:
    worked = work_out_attention(classifier, png(60, 40), 1, 2, 6)
    shown = render_worked_attention(worked, say)
    assert "check passed" in shown
    assert "Σ weight = 1.000000" in shown
    for weight in worked.weights:
        assert f"{weight:.6f}" in shown


def test_relevance_comes_with_its_deletion_curve(classifier: Classifier, seen: SeenPicture, say: Translator) -> None:
    explained = explain_class(classifier, png(60, 40), steps=4, random_orders=2)
    shown = render_class_relevance(explained, seen, classifier.label_set, say)
    assert shown.count("<polyline") == 3
    assert f"{explained.curve.relevant_area:.4f}" in shown
    assert "<svg" in render_rollout(seen, say)
