from __future__ import annotations

import numpy as np
import pytest
import torch

from tests.clip.samples import png
from webui.clip.encoder import Encoder
from webui.clip.prepare import picture_inputs, prepare_picture
from webui.clip.relevance import Relevance, deletion_curve, explain
from webui.clip.score import score
from webui.vision.deletion import DeletionCurve
from webui.vision.twin import eager_twin


@pytest.fixture
def relevance(encoder: Encoder) -> Relevance:
    return explain(encoder, png(60, 40), "a cat")


def test_relevance_has_a_value_for_each_patch_and_piece(encoder: Encoder, relevance: Relevance) -> None:
    assert relevance.patches.shape == (4, 4)
    assert (relevance.patches >= 0).all()
    assert relevance.patches.sum() > 0
    assert relevance.pieces.shape == (len(relevance.tokens.pieces),)
    assert relevance.cosine == pytest.approx(score(encoder, [png(60, 40)], ["a cat"]).similarity.cosine[0, 0], abs=1e-5)


def test_relevance_equals_a_plain_recomputation(encoder: Encoder, relevance: Relevance) -> None:
    """The paper's rule written out for the vision tower, with the model itself switched to eager and back."""
    model = encoder.model
    tokens = encoder.tokenizer(["a cat"], return_tensors="pt")
    images = picture_inputs(encoder, [prepare_picture(encoder, png(60, 40))])
    model.set_attn_implementation("eager")
    try:
        output = model(**tokens, **images, output_attentions=True)
        (output.image_embeds @ output.text_embeds.T).sum()
        attentions = output.vision_model_output.attentions
        gradients = torch.autograd.grad((output.image_embeds * output.text_embeds).sum(), attentions)
    finally:
        model.set_attn_implementation("sdpa")
    found = torch.eye(17)
    for attention, gradient in zip(attentions, gradients, strict=True):
        found = found + (gradient * attention).clamp(min=0).mean(dim=1)[0] @ found
    np.testing.assert_allclose(relevance.patches.ravel(), found[0, 1:].detach().numpy(), rtol=1e-3, atol=1e-9)


def test_the_shared_model_is_not_touched(encoder: Encoder) -> None:
    model = encoder.model
    before = {name: parameter.clone() for name, parameter in model.named_parameters()}
    hooks = [len(module._forward_hooks) for module in model.modules()]
    explain(encoder, png(60, 40), "a cat")
    assert model.config._attn_implementation == "sdpa"
    assert model.vision_model.config._attn_implementation == "sdpa"
    for name, parameter in model.named_parameters():
        assert parameter.grad is None
        assert parameter.requires_grad
        assert torch.equal(parameter, before[name])
    assert [len(module._forward_hooks) for module in model.modules()] == hooks


def test_a_twin_shares_the_weights(encoder: Encoder) -> None:
    twin = eager_twin(encoder.model)
    for ours, theirs in zip(twin.parameters(), encoder.model.parameters(), strict=True):
        assert ours.data_ptr() == theirs.data_ptr()
    assert twin.config is not encoder.model.config


def test_a_frozen_model_is_explained_too(encoder: Encoder, relevance: Relevance) -> None:
    encoder.model.requires_grad_(False)
    try:
        again = explain(encoder, png(60, 40), "a cat")
    finally:
        encoder.model.requires_grad_(True)
    np.testing.assert_allclose(again.patches, relevance.patches, rtol=1e-5)


def test_fewer_layers_explain_less(encoder: Encoder, relevance: Relevance) -> None:
    last = explain(encoder, png(60, 40), "a cat", last_layers=1)
    assert last.patches.sum() < relevance.patches.sum()


def test_a_siglip_is_explained_through_its_pooling(siglip_encoder: Encoder) -> None:
    """The opened pooling gives the cosine of the stock class."""
    found = explain(siglip_encoder, png(60, 40), "a cat")
    assert found.cosine == pytest.approx(
        score(siglip_encoder, [png(60, 40)], ["a cat"]).similarity.cosine[0, 0], abs=1e-5
    )
    assert found.patches.shape == (4, 4)
    assert (found.patches >= 0).all()
    assert found.patches.sum() > 0
    assert found.pieces.shape == (len(found.tokens.pieces),)
    curve = deletion_curve(siglip_encoder, png(60, 40), "a cat", found.patches, steps=4, random_orders=2)
    assert curve.relevant[0] == pytest.approx(found.cosine, abs=1e-5)


def test_deletion_curves_start_and_end_together(encoder: Encoder, relevance: Relevance) -> None:
    curve = deletion_curve(encoder, png(60, 40), "a cat", relevance.patches, steps=8, random_orders=3)
    assert curve.shares.tolist() == [i / 8 for i in range(9)]
    assert curve.relevant[0] == pytest.approx(relevance.cosine, abs=1e-5)
    np.testing.assert_allclose(curve.random[:, [0, -1]], np.tile(curve.relevant[[0, -1]], (3, 1)), atol=1e-6)
    again = deletion_curve(encoder, png(60, 40), "a cat", relevance.patches, steps=8, random_orders=3)
    np.testing.assert_array_equal(again.random, curve.random)


def test_the_areas_are_trapezoids() -> None:
    shares = np.array([0.0, 0.5, 1.0])
    curve = DeletionCurve(shares, np.array([1.0, 0.0, 0.0]), np.array([[1.0, 1.0, 0.0], [1.0, 0.0, 0.0]]))
    assert curve.relevant_area == pytest.approx(0.25)
    assert curve.random_area == pytest.approx(0.5)
    assert curve.holds


def test_the_left_share_splits_a_middle_column(relevance: Relevance) -> None:
    even = np.array([[3.0, 0, 1.0, 0]])
    odd = np.array([[1.0, 2.0, 1.0]])

    def share(patches: np.ndarray) -> float:
        return Relevance("", relevance.tokens, 0.0, patches, relevance.pieces).left_share

    assert (share(even), share(odd), share(np.zeros((2, 2)))) == (0.75, 0.5, 0.5)
