"""Texts and pictures to vectors: batched, decoded ahead of the model, encoded once.

`Encoder` names the model and carries the cache; everything else is functions. From a notebook:

    encoder = Encoder(ClipParts(CLIPModel.from_pretrained(d).eval(), CLIPProcessor.from_pretrained(d)), "emoji")
    texts = embed_texts(encoder, ["a cat", "a dog"])
    pictures = embed_pictures(encoder, [PictureFile("cat.png", Path("cat.png"))])
"""

from __future__ import annotations

import io
import os
from collections import deque
from collections.abc import Generator, Iterable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any, Protocol, cast

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image

from webui.clip.cache import Embedded, EmbeddingCache, EmbeddingKey, PictureFacts, Vector, text_hash
from webui.clip.preprocess import PreprocessPlan, fit, pixels, plan_for
from webui.clip.request import RefusedPicture
from webui.clip.similarity import ScoreHead
from webui.clip.tokens import token_limit
from webui.clip.watch import UNWATCHED, Watch
from webui.errors import UserError
from webui.vision.pictures import MemoryGate, OpenedPicture, PictureFile, PictureLimits, content_hash, opened

THUMBNAIL = 160  # longer side, pixels


class ClipLike(Protocol):
    """A loaded model and its processor: what the model manager leases for the task "clip"."""

    @property
    def model(self) -> Any:
        """A CLIPModel, SiglipModel or Siglip2Model in eval mode."""

    @property
    def processor(self) -> Any:
        """Its `tokenizer` and `image_processor`."""


@dataclass(frozen=True, slots=True)
class ClipParts:
    """A CLIPModel or SiglipModel in eval mode with its processor, for those who loaded them themselves."""

    model: Any
    processor: Any


@dataclass(frozen=True)
class Encoder:
    """A loaded CLIP or SigLIP and where its vectors are kept.

    `identity` names the weights with revision and dtype; two models must never share one, or the cache mixes their
    vectors. `title` is what people call the model (`identity` without one). `draft` lets JPEGs be decoded at a reduced
    size (faster, the vectors drift a little). `batch_size` counts pictures in one forward pass (four times as many
    texts); `threads` decode pictures beside the model.
    """

    clip: ClipLike
    identity: str
    cache: EmbeddingCache = field(default_factory=EmbeddingCache)
    title: str | None = None
    draft: bool = False
    batch_size: int = 16
    threads: int = field(default_factory=lambda: min(8, os.cpu_count() or 1))
    limits: PictureLimits = field(default_factory=PictureLimits)

    @property
    def model(self) -> Any:
        """The model itself."""
        return self.clip.model

    @property
    def name(self) -> str:
        """What the model is called in results and messages."""
        return self.title or self.identity

    @property
    def tokenizer(self) -> Any:
        """What cuts texts into pieces."""
        return self.clip.processor.tokenizer

    @property
    def is_siglip(self) -> bool:
        """Whether pooling and padding follow SigLIP rather than CLIP."""
        return str(self.model.config.model_type).startswith("siglip")

    @cached_property
    def text_limit(self) -> int:
        """How many tokens a text may have, start and end included."""
        return token_limit(self.model.config)

    @cached_property
    def plan(self) -> PreprocessPlan | None:
        """How a picture is prepared, or None when only the model's own image processor knows."""
        try:
            return plan_for(self.clip.processor.image_processor, self.draft)
        except ValueError:
            return None

    @property
    def head(self) -> ScoreHead:
        """What turns a cosine into this model's score."""
        bias = getattr(self.model, "logit_bias", None)
        scale = float(self.model.logit_scale.detach().double().exp())
        return ScoreHead("softmax", scale) if bias is None else ScoreHead("sigmoid", scale, float(bias.detach()))

    @property
    def width(self) -> int:
        """Number of components of a vector."""
        config = self.model.config
        return int(getattr(config, "projection_dim", None) or config.text_config.projection_size)


@dataclass(frozen=True, slots=True, eq=False)
class EmbeddedTexts:
    """`vectors` (T, D) float32, not normalised, in the order of the texts; `encoded` of them were not in the cache."""

    vectors: npt.NDArray[np.float32]
    encoded: int


@dataclass(frozen=True, slots=True)
class EmbeddedPicture:
    """One picture whose vector is known. `source` is its place among the files that were given."""

    source: int
    name: str
    content: str
    facts: PictureFacts


@dataclass(frozen=True, slots=True, eq=False)
class EmbeddedPictures:
    """`vectors` (P, D) float32, not normalised, one a picture; what could not be read is in `refused`.

    `encoded` of the pictures were not in the cache.
    """

    vectors: npt.NDArray[np.float32]
    pictures: tuple[EmbeddedPicture, ...]
    refused: tuple[RefusedPicture, ...]
    encoded: int


def text_inputs(encoder: Encoder, texts: Sequence[str], full_length: bool = False) -> dict[str, torch.Tensor]:
    """Token ids as the model was trained on: padded to the longest text, or to every position (`full_length`, SigLIP).

    Over-long texts are cut to the limit, the end token kept. SigLIP was trained on lower-case text, and not every
    tokenizer that comes with it sees to that.
    """
    if encoder.is_siglip:
        texts = [text.lower() for text in texts]
    to_limit = full_length or encoder.is_siglip
    inputs = encoder.tokenizer(
        list(texts),
        padding="max_length" if to_limit else True,
        truncation=True,
        max_length=encoder.text_limit,
        return_tensors="pt",
    )
    device = encoder.model.device
    return {name: value.to(device) for name, value in inputs.items()}


def picture_inputs(encoder: Encoder, prepared: Sequence[PreparedPicture]) -> dict[str, torch.Tensor]:
    """A batch of prepared pictures on the model's device, in its dtype."""
    names = prepared[0].inputs.keys()
    device, dtype = encoder.model.device, encoder.model.dtype
    stacked = {name: torch.from_numpy(np.stack([p.inputs[name] for p in prepared])) for name in names}
    return {name: v.to(device, dtype if v.is_floating_point() else v.dtype) for name, v in stacked.items()}


def embed_texts(encoder: Encoder, texts: Sequence[str], watch: Watch = UNWATCHED) -> EmbeddedTexts:
    """Vectors of `texts`; each different text that is not in the cache is encoded once.

    Equal to `CLIPModel.get_text_features(...).pooler_output`, as float32 on the CPU.
    """
    spelled_out = f"text:{encoder.text_limit}"
    keys = {text: EmbeddingKey(text_hash(text), encoder.identity, spelled_out) for text in texts}
    found: dict[str, Vector] = {}
    for text, key in keys.items():
        if (cached := encoder.cache.get(key)) is not None:
            found[text] = cached.vector
    missing = [text for text in keys if text not in found]
    for batch in _batches(missing, encoder.batch_size * 4):  # a text costs far less than a picture
        watch.check()
        with torch.inference_mode():
            features = encoder.model.get_text_features(**text_inputs(encoder, batch)).pooler_output
        for text, vector in zip(batch, _to_numpy(features), strict=True):
            found[text] = vector
            encoder.cache.put(keys[text], Embedded(vector))
        watch.progress(len(found), len(keys), "phase.encoding_texts")
    vectors = np.stack([found[text] for text in texts]) if texts else np.empty((0, encoder.width), np.float32)
    return EmbeddedTexts(vectors, len(missing))


@dataclass(frozen=True, slots=True)
class PreparedPicture:
    """What a decoding thread hands to the model: small arrays, never the decoded picture."""

    source: int
    name: str
    key: EmbeddingKey
    facts: PictureFacts
    inputs: dict[str, npt.NDArray[Any]]


@dataclass(frozen=True, slots=True)
class _Known:
    """A picture whose vector was in the cache."""

    source: int
    name: str
    key: EmbeddingKey
    embedded: Embedded


def embed_pictures(encoder: Encoder, files: Sequence[PictureFile], watch: Watch = UNWATCHED) -> EmbeddedPictures:
    """Vectors of the pictures in the order given; a file that cannot be read is named in `refused`, the rest goes on.

    Threads read, decode and prepare pictures ahead of the model, at most four batches ahead and never more decoded
    pixels at a time than `MemoryGate` lets pass. Equal to `CLIPModel.get_image_features(...).pooler_output`.
    """
    done: dict[int, _Known] = {}
    refused: list[RefusedPicture] = []
    waiting: list[PreparedPicture] = []
    encoded = 0

    def encode() -> None:
        nonlocal encoded
        for prepared, vector in zip(waiting, _encode_pictures(encoder, waiting), strict=True):
            embedded = Embedded(vector, prepared.facts)
            encoder.cache.put(prepared.key, embedded)
            done[prepared.source] = _Known(prepared.source, prepared.name, prepared.key, embedded)
            encoded += 1
        waiting.clear()

    with closing(_prepared_ahead(encoder, files, watch)) as outcomes:
        for outcome in outcomes:
            match outcome:
                case _Known():
                    done[outcome.source] = outcome
                case RefusedPicture():
                    refused.append(outcome)
                case PreparedPicture():
                    waiting.append(outcome)
            if len(waiting) == encoder.batch_size:
                encode()
            watch.progress(len(done) + len(refused), len(files), "phase.encoding_pictures")
    if waiting:
        watch.check()
        encode()
        watch.progress(len(files), len(files), "phase.encoding_pictures")
    rows = [done[source] for source in sorted(done)]
    return EmbeddedPictures(
        vectors=np.stack([r.embedded.vector for r in rows]) if rows else np.empty((0, encoder.width), np.float32),
        pictures=tuple(
            EmbeddedPicture(row.source, row.name, row.key.content, cast(PictureFacts, row.embedded.facts))
            for row in rows
        ),
        refused=tuple(refused),
        encoded=encoded,
    )


def prepare_picture(encoder: Encoder, file: PictureFile) -> PreparedPicture:
    """Read and prepare one picture. Raises UserError when it cannot be read."""
    outcome = _prepare(replace(encoder, cache=EmbeddingCache(0)), MemoryGate(), 0, file)
    if isinstance(outcome, RefusedPicture):
        raise outcome.error
    return cast(PreparedPicture, outcome)


def seen_size(encoder: Encoder, inputs: Mapping[str, npt.NDArray[Any]]) -> tuple[int, int]:
    """(width, height) in pixels of what the model sees of the picture that became `inputs`."""
    if encoder.plan is not None:
        return encoder.plan.width, encoder.plan.height
    vision = encoder.model.config.vision_config
    if "spatial_shapes" in inputs:  # NaFlex: as many patches each way as the picture's shape asks for
        rows, columns = (int(count) for count in inputs["spatial_shapes"])
        return columns * int(vision.patch_size), rows * int(vision.patch_size)
    return int(vision.image_size), int(vision.image_size)


def view_of(encoder: Encoder, file: PictureFile) -> Image.Image:
    """The part of a picture that the model sees, at its size, 8-bit RGB. Raises UserError as `prepare_picture`."""
    plan = encoder.plan
    with opened(
        file.name, file.read(encoder.limits), encoder.limits, MemoryGate(), plan.draft_size if plan else None
    ) as picture:
        if plan is not None:
            return fit(picture.image, plan)
        width, height = seen_size(encoder, _inputs(encoder, picture.image))
        return picture.image.resize((width, height), Image.Resampling.BICUBIC)


def view_png(encoder: Encoder, file: PictureFile) -> bytes:
    """`view_of` as a PNG file."""
    buffer = io.BytesIO()
    view_of(encoder, file).save(buffer, "PNG")
    return buffer.getvalue()


def _prepared_ahead(
    encoder: Encoder, files: Sequence[PictureFile], watch: Watch
) -> Generator[PreparedPicture | RefusedPicture | _Known, None, None]:
    """The outcomes in the order of `files`, each from a thread, a bounded number of them ahead."""
    gate = MemoryGate()
    ahead: deque[Future[PreparedPicture | RefusedPicture | _Known]] = deque()
    with ThreadPoolExecutor(encoder.threads, thread_name_prefix="decode") as pool:
        try:
            for source, file in enumerate(files):
                ahead.append(pool.submit(_prepare, encoder, gate, source, file))
                if len(ahead) >= 4 * encoder.batch_size:
                    watch.check()
                    yield ahead.popleft().result()
            while ahead:
                watch.check()
                yield ahead.popleft().result()
        finally:
            pool.shutdown(wait=True, cancel_futures=True)


def _prepare(
    encoder: Encoder, gate: MemoryGate, source: int, file: PictureFile
) -> PreparedPicture | RefusedPicture | _Known:
    try:
        data = file.read(encoder.limits)
        key = EmbeddingKey(content_hash(data), encoder.identity, _spelled_out(encoder))
        cached = encoder.cache.get(key)
        if cached is not None and cached.facts is not None:
            return _Known(source, file.name, key, cached)
        plan = encoder.plan
        with opened(file.name, data, encoder.limits, gate, plan.draft_size if plan else None) as picture:
            return PreparedPicture(source, file.name, key, _facts(picture), _inputs(encoder, picture.image))
    except UserError as error:
        return RefusedPicture(source, file.name, error)


def _spelled_out(encoder: Encoder) -> str:
    return repr(encoder.plan) if encoder.plan is not None else repr(encoder.clip.processor.image_processor.to_dict())


def _inputs(encoder: Encoder, image: Image.Image) -> dict[str, npt.NDArray[Any]]:
    if encoder.plan is not None:
        return {"pixel_values": pixels(fit(image, encoder.plan), encoder.plan)}
    batch = encoder.clip.processor.image_processor(images=[image], return_tensors="np")
    return {name: np.asarray(value[0]) for name, value in batch.items()}


def _facts(picture: OpenedPicture) -> PictureFacts:
    small = picture.image.copy() if max(picture.image.size) <= THUMBNAIL else _thumbnail(picture.image)
    buffer = io.BytesIO()
    small.save(buffer, "JPEG", quality=85)
    return PictureFacts(picture.width, picture.height, picture.format, picture.notes, buffer.getvalue())


def _thumbnail(image: Image.Image) -> Image.Image:
    ratio = THUMBNAIL / max(image.size)
    size = (max(1, round(image.width * ratio)), max(1, round(image.height * ratio)))
    return image.resize(size, Image.Resampling.BILINEAR, reducing_gap=1.5)


def _encode_pictures(encoder: Encoder, prepared: Sequence[PreparedPicture]) -> npt.NDArray[np.float32]:
    with torch.inference_mode():
        return _to_numpy(encoder.model.get_image_features(**picture_inputs(encoder, prepared)).pooler_output)


def _to_numpy(features: torch.Tensor) -> npt.NDArray[np.float32]:
    return cast(npt.NDArray[np.float32], features.float().cpu().numpy())


def _batches(items: Sequence[str], size: int) -> Iterable[Sequence[str]]:
    return (items[start : start + size] for start in range(0, len(items), size))
