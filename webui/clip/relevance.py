"""Why this score: gradient relevance over patches and words, and the deletion curve that says what it is worth.

Chefer, Gur and Wolf 2021 (`webui.vision.twin.gradient_relevance`) with the cosine as the score; a positive factor such
as exp(logit_scale) changes no ranking. `webui.vision.deletion` says what the map is worth.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch

from webui.clip.encoder import Encoder
from webui.clip.prepare import picture_inputs, prepare_picture, text_inputs
from webui.clip.similarity import Matrix
from webui.clip.tokens import TokenizedText, tokenize
from webui.clip.watch import UNWATCHED, Watch
from webui.clip.worked import pooled_position
from webui.errors import UserError
from webui.vision.deletion import DeletionCurve, measure_deletion
from webui.vision.pictures import PictureFile
from webui.vision.twin import eager_twin, gradient_relevance, start_gradient


@dataclass(frozen=True, slots=True, eq=False)
class Relevance:
    """`patches` (rows, columns), at least 0, of what the model saw; `pieces` the same for `tokens.pieces`.

    Only the order and the proportions mean something. `cosine` is the score that was explained.
    """

    name: str
    tokens: TokenizedText
    cosine: float
    patches: Matrix
    pieces: Matrix

    @property
    def left_share(self) -> float:
        """Share of the patches' relevance left of the middle; a middle column counts half. 0.5 when there is none."""
        rows = self.patches.sum(axis=0)
        half, middle = len(rows) // 2, len(rows) % 2
        left = rows[:half].sum() + (rows[half] / 2 if middle else 0.0)
        return float(left / rows.sum()) if rows.sum() > 0 else 0.5


def explain(encoder: Encoder, picture: PictureFile, text: str, last_layers: int | None = None) -> Relevance:
    """Relevance of the patches and words for the cosine of `picture` and `text`.

    Runs a forward and backward pass of its own over a twin of the model (`eager_twin`); the shared model is only read,
    so others may use it at the same time. `last_layers` counts the layers, from the last, that contribute; None is all.
    CLIP's first token stands for the picture; SigLIP pools its patches by one more attention, which is one more layer
    here. Raises UserError when the picture cannot be read, or the model takes pictures of any shape (NaFlex).
    """
    if encoder.model.config.model_type == "siglip2":
        raise UserError("error.relevance_needs_one_size", model=encoder.name)
    prepared = prepare_picture(encoder, picture)
    inputs = {**text_inputs(encoder, [text]), **picture_inputs(encoder, [prepared])}
    twin = eager_twin(encoder.model)
    for tower in (twin.vision_model, twin.text_model):
        tower.embeddings.register_forward_hook(start_gradient)
    pooling = _OpenPooling(twin.vision_model.head.attention) if encoder.is_siglip else None
    if pooling is not None:
        twin.vision_model.head.attention = pooling
    with torch.inference_mode(False), torch.enable_grad():
        output = twin(**inputs, output_attentions=True)
        cosine = (output.image_embeds.float() * output.text_embeds.float()).sum()
        image_attentions = output.vision_model_output.attentions
        text_attentions = output.text_model_output.attentions
        pooled_by = () if pooling is None else (pooling.weights,)
        gradients = torch.autograd.grad(cosine, (*image_attentions, *text_attentions, *pooled_by))
    image = gradient_relevance(image_attentions, gradients[: len(image_attentions)], last_layers)
    text_gradients = gradients[len(image_attentions) : len(image_attentions) + len(text_attentions)]
    words = gradient_relevance(text_attentions, text_gradients, last_layers)
    if pooling is None:
        patches = image[0, 1:]
    else:
        share = (gradients[-1] * pooling.weights)[0].clamp(min=0).mean(dim=0).double().cpu().detach().numpy()
        patches = (share @ image)[0]
    rows, columns = _grid(encoder)
    pooled = pooled_position(encoder, inputs["input_ids"][0])
    tokens = tokenize(encoder.tokenizer, text, encoder.text_limit)
    return Relevance(
        name=picture.name,
        tokens=tokens,
        cosine=float(cosine.detach()),
        patches=patches.reshape(rows, columns),
        pieces=words[pooled, : len(tokens.pieces)],
    )


class _OpenPooling(torch.nn.Module):
    """SigLIP's pooling attention (`torch.nn.MultiheadAttention`) computed in the open, its weights kept.

    The library's own gives out a copy of the weights that the score does not depend on.
    """

    weights: torch.Tensor

    def __init__(self, shared: torch.nn.MultiheadAttention) -> None:
        super().__init__()
        self.shared = shared

    def forward(
        self, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, attn_mask: torch.Tensor | None = None
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """(1, 1, D), (1, N, D), (1, N, D) -> (1, 1, D) and the weights (1, heads, 1, N)."""
        shared, width = self.shared, self.shared.embed_dim
        rows = shared.in_proj_weight.split(width), shared.in_proj_bias.split(width)
        q, k, v = (
            torch.nn.functional.linear(given, weight, bias).unflatten(-1, (shared.num_heads, -1)).transpose(1, 2)
            for given, weight, bias in zip((query, key, value), *rows, strict=True)
        )
        scores = q @ k.transpose(-1, -2) / (width // shared.num_heads) ** 0.5
        self.weights = (scores if attn_mask is None else scores + attn_mask).softmax(dim=-1)
        return shared.out_proj((self.weights @ v).transpose(1, 2).flatten(2)), self.weights


def deletion_curve(
    encoder: Encoder,
    picture: PictureFile,
    text: str,
    relevance: Matrix,
    *,
    steps: int = 16,
    random_orders: int = 4,
    seed: int = 0,
    watch: Watch = UNWATCHED,
) -> DeletionCurve:
    """Paint patches over with the picture's median colour, `relevance` (rows, columns) first, and in random orders.

    At most `steps` + 1 points from nothing to everything removed.
    """
    pixel_values = picture_inputs(encoder, [prepare_picture(encoder, picture)])["pixel_values"][0]
    with torch.inference_mode():
        text_vector = encoder.model.get_text_features(**text_inputs(encoder, [text])).pooler_output[0].float()

    @torch.inference_mode()
    def cosines(batch: torch.Tensor) -> Any:
        vectors = encoder.model.get_image_features(pixel_values=batch).pooler_output.float()
        return torch.cosine_similarity(vectors, text_vector[None]).cpu().numpy()

    return measure_deletion(
        cosines, pixel_values, relevance, steps=steps, random_orders=random_orders, seed=seed, watch=watch
    )


def _grid(encoder: Encoder) -> tuple[int, int]:
    """(rows, columns) of patches."""
    vision = encoder.model.config.vision_config
    side = int(vision.image_size) // int(vision.patch_size)
    return side, side
