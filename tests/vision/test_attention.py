from __future__ import annotations

import numpy as np
import pytest
import torch

from tests.clip.samples import png
from webui.errors import UserError
from webui.vision import attention
from webui.vision.attention import TOLERANCE, attention_rows, see, work_out_attention
from webui.vision.saliency import explain_class, rollout
from webui.vision.vit import Classifier, pixel_batch, prepare


def models_own(classifier: Classifier) -> tuple[np.ndarray, torch.Tensor]:
    """Attentions (layers, heads, tokens, tokens) by the model itself, switched to eager, and its pixels."""
    pixels = pixel_batch(classifier, [prepare(classifier, png(60, 40))])
    classifier.model.set_attn_implementation("eager")
    try:
        with torch.no_grad():
            output = classifier.model(pixel_values=pixels, output_attentions=True)
        return np.stack([layer[0].numpy() for layer in output.attentions]), pixels
    finally:
        classifier.model.set_attn_implementation("sdpa")


def test_rows_of_attention_and_rollout_sum_to_one(classifier: Classifier) -> None:
    seen = see(classifier, png(60, 40))
    np.testing.assert_allclose(seen.rows.weights.sum(-1), 1, atol=1e-5)
    np.testing.assert_allclose(seen.rollout.sum(-1), 1, atol=1e-9)
    for fusion in ("min", "max"):
        np.testing.assert_allclose(rollout(seen.rows.weights, fusion).sum(-1), 1, atol=1e-9)
    assert seen.rollout_patches.shape == (4, 4)


def test_every_station_has_its_shape_and_the_models_numbers(classifier: Classifier) -> None:
    seen = see(classifier, png(60, 40))
    attentions, pixels = models_own(classifier)
    assert (seen.grid.count, seen.patch_values.shape, seen.patch_embeddings.shape) == (16, (16, 192), (16, 32))
    assert (seen.layers, seen.heads, seen.rows.queries) == (2, 4, tuple(range(17)))
    np.testing.assert_allclose(seen.rows.weights, attentions, atol=1e-6)
    with torch.no_grad():
        entering = classifier.model.vit.embeddings(pixels)[0].numpy()
    np.testing.assert_allclose(seen.tokens, entering, atol=1e-6)
    projection = classifier.model.vit.embeddings.patch_embeddings.projection
    by_hand = seen.patch_values @ projection.weight.detach().flatten(1).numpy().T + projection.bias.detach().numpy()
    np.testing.assert_allclose(seen.patch_embeddings, by_hand, atol=1e-5)


@pytest.mark.parametrize(("layer", "head", "token"), [(0, 0, 0), (1, 3, 0), (1, 2, 7)])
def test_a_row_worked_out_by_hand_is_the_models(classifier: Classifier, layer: int, head: int, token: int) -> None:
    worked = work_out_attention(classifier, png(60, 40), layer, head, token)
    attentions, _ = models_own(classifier)
    np.testing.assert_allclose(worked.weights, attentions[layer, head, token], atol=TOLERANCE)
    assert worked.weights.sum() == pytest.approx(1)
    assert worked.scaled == pytest.approx(worked.dots / np.sqrt(8))
    assert worked.passed


def test_a_large_model_gives_one_query_at_a_time(classifier: Classifier, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = see(classifier, png(60, 40)).rows
    monkeypatch.setattr(attention, "ALL_ROWS_LIMIT", 100)
    assert see(classifier, png(60, 40)).rows.queries == (0,)
    row = attention_rows(classifier, png(60, 40), 5)
    assert row.queries == (5,)
    np.testing.assert_allclose(row.weights[:, :, 0], whole.weights[:, :, 5], atol=1e-6)


def test_the_shared_model_is_only_read(classifier: Classifier) -> None:
    hooks = [len(module._forward_hooks) for module in classifier.model.modules()]
    see(classifier, png())
    work_out_attention(classifier, png(), 0, 0, 0)
    explain_class(classifier, png(), steps=2, random_orders=1)
    assert classifier.model.config._attn_implementation == "sdpa"
    assert [len(module._forward_hooks) for module in classifier.model.modules()] == hooks
    assert all(parameter.grad is None for parameter in classifier.model.parameters())


def test_places_that_there_are_not_are_refused(classifier: Classifier) -> None:
    for place in ((2, 0, 0), (0, 4, 0), (0, 0, 17), (-1, 0, 0)):
        with pytest.raises(UserError, match=r"error\.attention_place"):
            work_out_attention(classifier, png(), *place)


def test_relevance_equals_a_plain_recomputation_and_its_curve_starts_at_the_probability(classifier: Classifier) -> None:
    explained = explain_class(classifier, png(60, 40), 1, steps=4, random_orders=2)
    pixels = pixel_batch(classifier, [prepare(classifier, png(60, 40))])
    classifier.model.set_attn_implementation("eager")
    output = classifier.model(pixel_values=pixels, output_attentions=True)
    gradients = torch.autograd.grad(output.logits[0, 1], output.attentions)
    classifier.model.set_attn_implementation("sdpa")
    found = torch.eye(17)
    for layer, gradient in zip(output.attentions, gradients, strict=True):
        found = found + (gradient * layer).clamp(min=0).mean(dim=1)[0] @ found
    np.testing.assert_allclose(explained.relevance.ravel(), found[0, 1:].detach().numpy(), rtol=1e-3, atol=1e-7)
    curve = explained.curve
    assert curve.relevant[0] == pytest.approx(explained.probability, abs=1e-6)
    assert curve.random.shape == (2, 5)
    assert curve.others.shape == (1, 5)
    np.testing.assert_allclose(curve.others[0, [0, -1]], curve.relevant[[0, -1]], atol=1e-6)
    with pytest.raises(UserError, match=r"error\.no_such_label"):
        explain_class(classifier, png(), 3)
