"""Inside a Vision Transformer: what each patch becomes, who looks at whom, and one row of it worked out in numbers.

Everything comes from a forward pass of its own over a twin of the model with eager attention (`eager_twin`): the shared
model is only read.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Final, cast

import numpy as np
import numpy.typing as npt
import torch

from webui.clip.similarity import Matrix, softmax
from webui.errors import UserError
from webui.vision.patches import PatchGrid
from webui.vision.pictures import Note, PictureFile
from webui.vision.saliency import rollout
from webui.vision.twin import eager_twin
from webui.vision.vit import ClassifiedPicture, Classifier, pixel_batch, prepare, probabilities

Floats = npt.NDArray[np.float32]

TOLERANCE: Final = 1e-5
"""How far a number worked out by hand may be from the model's own."""

ALL_ROWS_LIMIT: Final = 400_000
"""Attention weights that go to a browser in one piece; a model with more sends one query's rows at a time."""

CLS: Final = 0
"""The place of [CLS] among the tokens; patch n is token n + 1."""


@dataclass(frozen=True, slots=True, eq=False)
class AttentionRows:
    """`weights` (layers, heads, len(queries), tokens) float32: how much each query looks at every token; rows sum to 1.

    `queries` are token numbers, 0 for [CLS]; all tokens for a small model, one for a large one.
    """

    queries: tuple[int, ...]
    weights: Floats


@dataclass(frozen=True, slots=True, eq=False)
class SeenPicture:
    """One picture the whole way through the model, with N patches, T = N + 1 tokens of width D, C labels.

    `model_view` is a PNG of what the model sees; `patch_values` (N, 3 * patch_size**2) the normalised numbers of each
    patch as one flat vector (channel, row, column), `patch_embeddings` (N, D) what the projection makes of them;
    `class_token` (D,) is learned; `positions` (T, D) are added; `tokens` (T, D) enter the first layer. `rollout` (T, T)
    float64 has rows that sum to 1. `weights_shape` and `bias_shape` are the projection's.
    """

    name: str
    width: int
    height: int
    notes: tuple[Note, ...]
    model_view: bytes
    grid: PatchGrid
    patch_values: Floats
    patch_embeddings: Floats
    class_token: Floats
    positions: Floats
    tokens: Floats
    rows: AttentionRows
    rollout: Matrix
    layers: int
    heads: int
    classified: ClassifiedPicture

    @property
    def embedding_width(self) -> int:
        """D."""
        return int(self.patch_embeddings.shape[1])

    @property
    def rollout_patches(self) -> Matrix:
        """(rows, columns): how much of [CLS] comes from each patch by rollout, without [CLS]'s own share."""
        return self.rollout[CLS, 1:].reshape(self.grid.rows, self.grid.columns)


@dataclass(frozen=True, slots=True, eq=False)
class WorkedAttention:
    """One row of one head, worked out in float64 from the layer's own q, k and v (T tokens, head width d).

    `query` (d,), `keys` (T, d), `values` (T, d); `dots` (T,) = keys · query; `scaled` = dots / sqrt(d); `weights` =
    softmax(scaled), which sum to 1; `output` (d,) = the sum of weights * values. `model_weights` and `model_output` are
    what the model itself computed.
    """

    layer: int
    head: int
    token: int
    grid: PatchGrid
    query: Matrix
    keys: Matrix
    values: Matrix
    dots: Matrix
    scaled: Matrix
    weights: Matrix
    output: Matrix
    model_weights: Matrix
    model_output: Matrix

    @property
    def difference(self) -> float:
        """The largest distance between a number here and the model's own."""
        rows = np.abs(self.weights - self.model_weights).max()
        return float(max(rows, np.abs(self.output - self.model_output).max()))

    @property
    def passed(self) -> bool:
        """Whether the row is the model's own to `TOLERANCE`."""
        return self.difference <= TOLERANCE * max(1.0, float(np.abs(self.model_output).max()))


def see(classifier: Classifier, picture: PictureFile) -> SeenPicture:
    """Everything between the picture and its probabilities. Raises UserError when it cannot be read."""
    prepared = prepare(classifier, picture)
    batch = pixel_batch(classifier, [prepared])
    twin = eager_twin(classifier.model)
    embeddings = twin.vit.embeddings
    with torch.inference_mode():
        output = twin(pixel_values=batch, output_attentions=True)
        embedded = embeddings.patch_embeddings(batch)[0]
        class_token, positions = embeddings.cls_token[0, 0], embeddings.position_embeddings[0]
        attentions = _stacked(output.attentions)
    tokens = torch.cat([class_token[None], embedded]) + positions
    queries = _all_or_class(attentions)
    classified = ClassifiedPicture(0, picture.name, probabilities(classifier, batch)[0], prepared.notes)
    return SeenPicture(
        name=picture.name,
        width=prepared.width,
        height=prepared.height,
        notes=prepared.notes,
        model_view=prepared.view_png(),
        grid=classifier.grid,
        patch_values=_flat_patches(prepared.pixel_values, classifier.grid),
        patch_embeddings=_numpy(embedded),
        class_token=_numpy(class_token),
        positions=_numpy(positions),
        tokens=_numpy(tokens),
        rows=AttentionRows(queries, attentions[:, :, list(queries)]),
        rollout=rollout(attentions),
        layers=attentions.shape[0],
        heads=attentions.shape[1],
        classified=classified,
    )


def attention_rows(classifier: Classifier, picture: PictureFile, token: int) -> AttentionRows:
    """One query's rows in every layer and head. Raises UserError for a token that there is not."""
    _check_place("token", token, classifier.grid.count + 1)
    batch = pixel_batch(classifier, [prepare(classifier, picture)])
    with torch.inference_mode():
        output = eager_twin(classifier.model)(pixel_values=batch, output_attentions=True)
        return AttentionRows((token,), _stacked(output.attentions)[:, :, [token]])


def work_out_attention(
    classifier: Classifier, picture: PictureFile, layer: int, head: int, token: int
) -> WorkedAttention:
    """The row of `token` in a layer and head (numbers from 0), by hand and by the model.

    q, k and v are what the layer's projections gave in the model's own pass; `model_output` is what it handed to its
    output projection. Raises UserError for a place that there is not.
    """
    config = classifier.model.config
    _check_place("layer", layer, config.num_hidden_layers)
    _check_place("head", head, config.num_attention_heads)
    _check_place("token", token, classifier.grid.count + 1)
    batch = pixel_batch(classifier, [prepare(classifier, picture)])
    twin = eager_twin(classifier.model)
    attention = twin.vit.layers[layer].attention
    with torch.inference_mode(), _overheard(attention) as heard:
        output = twin(pixel_values=batch, output_attentions=True)
    width = attention.head_dim
    mine = slice(head * width, (head + 1) * width)
    query, keys, values = (_numpy(heard[name][0])[:, mine].astype(np.float64) for name in ("q", "k", "v"))
    dots = keys @ query[token]
    scaled = dots / np.sqrt(width)
    weights = softmax(scaled, axis=0)
    return WorkedAttention(
        layer=layer,
        head=head,
        token=token,
        grid=classifier.grid,
        query=query[token],
        keys=keys,
        values=values,
        dots=dots,
        scaled=scaled,
        weights=weights,
        output=weights @ values,
        model_weights=_numpy(output.attentions[layer][0, head, token]).astype(np.float64),
        model_output=_numpy(heard["o"][0])[token, mine].astype(np.float64),
    )


@contextmanager
def _overheard(attention: Any) -> Iterator[dict[str, torch.Tensor]]:
    """What the projections q, k and v of a layer give, and what its output projection is given ("o")."""
    heard: dict[str, torch.Tensor] = {}

    def gives(name: str) -> Any:
        return lambda _module, _arguments, output: heard.__setitem__(name, output)

    hooks = [getattr(attention, f"{name}_proj").register_forward_hook(gives(name)) for name in ("q", "k", "v")]
    hooks.append(attention.o_proj.register_forward_pre_hook(lambda _module, given: heard.__setitem__("o", given[0])))
    try:
        yield heard
    finally:
        for hook in hooks:
            hook.remove()


def _all_or_class(attentions: Floats) -> tuple[int, ...]:
    tokens = attentions.shape[-1]
    return tuple(range(tokens)) if attentions.size <= ALL_ROWS_LIMIT else (CLS,)


def _flat_patches(pixel_values: Floats, grid: PatchGrid) -> Floats:
    """(N, 3 * patch_size**2) from (3, H, W): each patch as the projection reads it, channel by channel, row by row."""
    side = grid.patch_size
    cut = pixel_values[:, : grid.rows * side, : grid.columns * side]
    cut = cut.reshape(3, grid.rows, side, grid.columns, side).transpose(1, 3, 0, 2, 4)
    return np.ascontiguousarray(cut.reshape(grid.count, -1))


def _stacked(attentions: Sequence[torch.Tensor]) -> Floats:
    """(layers, heads, tokens, tokens) of the one picture in the batch."""
    return np.stack([_numpy(layer[0]) for layer in attentions])


def _numpy(tensor: torch.Tensor) -> Floats:
    return cast(Floats, tensor.detach().float().cpu().numpy())


def _check_place(what: str, place: int, count: int) -> None:
    if not 0 <= place < count:
        raise UserError("error.attention_place", what=what, value=place, last=count - 1)
