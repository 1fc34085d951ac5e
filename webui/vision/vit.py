"""What a Vision Transformer sees in a picture: patches in, one probability a label out.

Dosovitskiy et al. 2020, "An Image is Worth 16x16 Words". From a notebook:

    parts = VitParts(ViTForImageClassification.from_pretrained(d).eval(), ViTImageProcessorPil.from_pretrained(d))
    found = classify(Classifier(parts, "mine"), [PictureFile("cat.png", Path("cat.png"))])
    found.pictures[0].top(5)
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Protocol, cast

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image

from webui.clip.preprocess import PreprocessPlan, fit, pixels, plan_for
from webui.clip.request import RefusedPicture
from webui.clip.similarity import Matrix, ranking
from webui.clip.watch import UNWATCHED, Watch
from webui.errors import UserError
from webui.vision.labels import LabelSet
from webui.vision.patches import PatchGrid
from webui.vision.pictures import MemoryGate, Note, PictureFile, PictureLimits, opened


class VitLike(Protocol):
    """A loaded model and its image processor: what the model manager leases for the task "vit"."""

    @property
    def model(self) -> Any:
        """A ViTForImageClassification in eval mode."""

    @property
    def image_processor(self) -> Any:
        """What resizes and normalises for it."""


@dataclass(frozen=True, slots=True)
class VitParts:
    """A ViTForImageClassification in eval mode with its image processor, for those who loaded them themselves."""

    model: Any
    image_processor: Any


@dataclass(frozen=True)
class Classifier:
    """A loaded ViT and what its labels mean. `title` is what people call it; `batch_size` counts pictures a pass."""

    vit: VitLike
    title: str
    labels: LabelSet | None = None
    limits: PictureLimits = field(default_factory=PictureLimits)
    batch_size: int = 16

    @property
    def model(self) -> Any:
        """The model itself."""
        return self.vit.model

    @cached_property
    def label_set(self) -> LabelSet:
        """The labels; the names in the model's own configuration when none were given."""
        return self.labels or LabelSet(label_names(self.model.config))

    @cached_property
    def plan(self) -> PreprocessPlan:
        """How a picture is prepared. Raises UserError for a recipe that is not known here, or another size."""
        try:
            plan = plan_for(self.vit.image_processor)
        except ValueError as error:
            raise UserError("error.vit_preprocessing", model=self.title, reason=str(error)) from error
        if (plan.height, plan.width) != _pair(self.model.config.image_size):
            sizes = f"{plan.height} x {plan.width}, {self.model.config.image_size}"
            raise UserError("error.vit_preprocessing", model=self.title, reason=sizes)
        return plan

    @cached_property
    def grid(self) -> PatchGrid:
        """How the model cuts its input."""
        height, width = _pair(self.model.config.image_size)
        return PatchGrid(width, height, _pair(self.model.config.patch_size)[0])


@dataclass(frozen=True, slots=True, eq=False)
class PreparedImage:
    """One picture as the model reads it: `view` is RGB at the model's size, `pixel_values` (3, H, W) float32.

    `width` and `height` are the file's, in pixels.
    """

    name: str
    view: Image.Image
    pixel_values: npt.NDArray[np.float32]
    width: int
    height: int
    notes: tuple[Note, ...]

    def view_png(self) -> bytes:
        """The view as a PNG file."""
        buffer = io.BytesIO()
        self.view.save(buffer, "PNG")
        return buffer.getvalue()


@dataclass(frozen=True, slots=True, eq=False)
class ClassifiedPicture:
    """`probabilities` (labels,) float64 sum to 1. `source` is the picture's place among the files given."""

    source: int
    name: str
    probabilities: Matrix
    notes: tuple[Note, ...] = ()

    def top(self, count: int) -> tuple[tuple[int, float], ...]:
        """The `count` likeliest labels as (index, probability), the best first."""
        order = ranking(self.probabilities, axis=0)[:count]
        return tuple((int(index), float(self.probabilities[index])) for index in order)


@dataclass(frozen=True, slots=True, eq=False)
class Classification:
    """What the model saw in each picture, and the files that could not be read."""

    model: str
    labels: LabelSet
    pictures: tuple[ClassifiedPicture, ...]
    refused: tuple[RefusedPicture, ...]


def classify(classifier: Classifier, files: Sequence[PictureFile], watch: Watch = UNWATCHED) -> Classification:
    """The probabilities of every label for every picture; what cannot be read is in `refused`, the rest goes on.

    Equal to the softmax over `ViTForImageClassification(...).logits` (tests/vision/test_vit.py).
    """
    _ = classifier.plan  # a recipe that is not known here is no fault of a picture
    done: list[ClassifiedPicture] = []
    refused: list[RefusedPicture] = []
    for start in range(0, len(files), classifier.batch_size):
        watch.check()
        prepared: list[tuple[int, PreparedImage]] = []
        for source, file in enumerate(files[start : start + classifier.batch_size], start):
            try:
                prepared.append((source, prepare(classifier, file)))
            except UserError as error:
                refused.append(RefusedPicture(source, file.name, error))
        if prepared:
            rows = probabilities(classifier, pixel_batch(classifier, [image for _, image in prepared]))
            done += [
                ClassifiedPicture(source, image.name, row, image.notes)
                for (source, image), row in zip(prepared, rows, strict=True)
            ]
        watch.progress(len(done) + len(refused), len(files), "phase.classifying")
    return Classification(classifier.title, classifier.label_set, tuple(done), tuple(refused))


def prepare(classifier: Classifier, file: PictureFile) -> PreparedImage:
    """Read one picture and make the model's input of it. Raises UserError when it cannot be read."""
    plan = classifier.plan
    with opened(file.name, file.read(classifier.limits), classifier.limits, MemoryGate()) as picture:
        view = fit(picture.image, plan)
        return PreparedImage(file.name, view, pixels(view, plan), picture.width, picture.height, picture.notes)


def pixel_batch(classifier: Classifier, prepared: Sequence[PreparedImage]) -> torch.Tensor:
    """(B, 3, H, W) on the model's device, in its dtype."""
    stacked = torch.from_numpy(np.stack([image.pixel_values for image in prepared]))
    return stacked.to(classifier.model.device, classifier.model.dtype)


def probabilities(classifier: Classifier, pixel_values: torch.Tensor) -> Matrix:
    """(B, labels) float64: the softmax over the model's logits, taken in float32 at least."""
    with torch.inference_mode():
        logits = classifier.model(pixel_values=pixel_values).logits.float()
        return cast(Matrix, logits.softmax(dim=-1).double().cpu().numpy())


def label_names(config: Any) -> tuple[str, ...]:
    """The model's own labels in the order of its logits: `id2label`, whose keys JSON made strings of."""
    named = {int(index): str(label) for index, label in config.id2label.items()}
    return tuple(named.get(index, f"LABEL_{index}") for index in range(config.num_labels))


def classification_as_dict(found: Classification, count: int) -> dict[str, Any]:
    """JSON-ready: `pictures`, each with its `labels` (`label`, `probability`), the likeliest first, and `refused`."""
    return {
        "model": found.model,
        "pictures": [
            {"picture": picture.name, "labels": labels_as_list(found.labels, picture, count)}
            for picture in found.pictures
        ],
        "refused": [{"name": refused.name, "error": refused.error.key} for refused in found.refused],
    }


def labels_as_list(labels: LabelSet, picture: ClassifiedPicture, count: int) -> list[dict[str, Any]]:
    """The `count` likeliest labels of one picture as JSON-ready values, each with its names in English and Thai."""
    return [
        {"label": labels.names[index], "probability": probability} | labels.spoken_names(index)
        for index, probability in picture.top(count)
    ]


def _pair(size: int | Sequence[int]) -> tuple[int, int]:
    """(height, width) from a configuration's number or pair."""
    return (size, size) if isinstance(size, int) else (int(size[0]), int(size[1]))
