"""One picture and one text, the whole way to their score, with every number kept so that it can be checked by hand."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal, cast

import numpy as np
import numpy.typing as npt
import torch

from webui.clip.encoder import Encoder
from webui.clip.prepare import picture_inputs, prepare_picture, seen_size, text_inputs, view_png
from webui.clip.similarity import Matrix, ScoreHead
from webui.clip.tokens import TokenizedText, tokenize
from webui.vision.patches import PatchGrid
from webui.vision.pictures import Note, PictureFile

TOLERANCE = 1e-5  # relative and absolute, of the check line


@dataclass(frozen=True, slots=True)
class ModelCheck:
    """The score computed by hand beside the model's own `logits_per_image` on the same inputs.

    `passed` means |ours - model| <= TOLERANCE + TOLERANCE * |model|.
    """

    ours: float
    model: float

    @property
    def difference(self) -> float:
        """How far the two are apart."""
        return abs(self.ours - self.model)

    @property
    def allowed(self) -> float:
        """How far they may be apart."""
        return TOLERANCE + TOLERANCE * abs(self.model)

    @property
    def passed(self) -> bool:
        """Whether the two are the same score."""
        return self.difference <= self.allowed


@dataclass(frozen=True, slots=True, eq=False)
class WorkedExample:
    """The stations of one score.

    Text: `tokens`, then `text_states` (positions, width) float32, the text transformer's output after its last layer
    norm (what Stable Diffusion reads, all positions of it), of which position `pooled_position` is projected to
    `text_vector` (D,). Picture: `model_view`, a PNG of what the model sees, cut into `patches`; `image_tokens` vectors
    of `image_width` leave the transformer; `image_pooling` is "cls" (the first one is projected) or "attention"
    (SigLIP: a learned query looks at all of them); then `image_vector` (D,). `terms` (D,) are the products
    image_vector * text_vector, whose sum is `dot`. Everything from the two vectors on is float64.
    """

    name: str
    tokens: TokenizedText
    text_states: npt.NDArray[np.float32]
    pooled_position: int
    model_view: bytes
    notes: tuple[Note, ...]
    patches: PatchGrid
    image_tokens: int
    image_width: int
    image_pooling: Literal["cls", "attention"]
    image_vector: Matrix
    text_vector: Matrix
    terms: Matrix
    dot: float
    image_norm: float
    text_norm: float
    cosine: float
    head: ScoreHead
    logit: float
    check: ModelCheck

    def largest_terms(self, count: int) -> npt.NDArray[np.intp]:
        """Indices of the `count` largest positive and the `count` largest negative terms, largest term first."""
        order = np.argsort(-self.terms, kind="stable")
        positive = [i for i in order[:count] if self.terms[i] > 0]
        negative = [i for i in order[-count:] if self.terms[i] < 0]
        return np.array([*positive, *negative], dtype=np.intp)


def worked_example(encoder: Encoder, picture: PictureFile, text: str) -> WorkedExample:
    """Work one score out in the open. Raises UserError when the picture cannot be read."""
    prepared = prepare_picture(encoder, picture)
    inputs = {**text_inputs(encoder, [text], full_length=True), **picture_inputs(encoder, [prepared])}
    model = encoder.model
    text_names = {"input_ids", "attention_mask", "position_ids", "token_type_ids"}
    with torch.inference_mode():
        text_output = model.get_text_features(**{k: v for k, v in inputs.items() if k in text_names})
        image_output = model.get_image_features(**{k: v for k, v in inputs.items() if k not in text_names})
        model_logit = float(model(**inputs).logits_per_image[0, 0])
    image_vector, text_vector = _vector(image_output.pooler_output), _vector(text_output.pooler_output)
    terms = image_vector * text_vector
    dot = float(terms.sum())
    image_norm, text_norm = float(np.linalg.norm(image_vector)), float(np.linalg.norm(text_vector))
    cosine = dot / (image_norm * text_norm)
    head = encoder.head
    logit = head.scale * cosine + head.bias
    states = image_output.last_hidden_state[0]
    return WorkedExample(
        name=picture.name,
        tokens=tokenize(encoder.tokenizer, text, encoder.text_limit),
        text_states=text_output.last_hidden_state[0].float().cpu().numpy(),
        pooled_position=pooled_position(encoder, inputs["input_ids"][0]),
        model_view=view_png(encoder, picture),
        notes=prepared.facts.notes,
        patches=PatchGrid(*seen_size(encoder, prepared.inputs), int(model.config.vision_config.patch_size)),
        image_tokens=int(states.shape[0]),
        image_width=int(states.shape[1]),
        image_pooling="attention" if encoder.is_siglip else "cls",
        image_vector=image_vector,
        text_vector=text_vector,
        terms=terms,
        dot=dot,
        image_norm=image_norm,
        text_norm=text_norm,
        cosine=cosine,
        head=head,
        logit=logit,
        check=ModelCheck(ours=logit, model=model_logit),
    )


def pooled_position(encoder: Encoder, input_ids: torch.Tensor) -> int:
    """Which position of one text's ids (L,) is pooled: the first end token, the only one that saw the whole text.

    Configurations older than transformers 4.31 name 2 as their end token; the model then takes the largest id
    (CLIPTextModel.forward). SigLIP takes the last position.
    """
    if encoder.is_siglip:
        return int(input_ids.shape[0]) - 1
    end = encoder.model.config.text_config.eos_token_id
    return int(input_ids.argmax()) if end == 2 else int((input_ids == end).int().argmax())


def _vector(features: Any) -> Matrix:
    return cast(Matrix, features[0].double().cpu().numpy())
