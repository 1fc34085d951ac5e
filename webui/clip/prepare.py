"""From texts and picture files to the tensors that the model reads, in threads ahead of it."""

from __future__ import annotations

import io
from collections import deque
from collections.abc import Generator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import Any, Final, cast

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image

from webui.clip.cache import Embedded, EmbeddingCache, EmbeddingKey, PictureFacts
from webui.clip.encoder import Encoder
from webui.clip.preprocess import fit, pixels
from webui.clip.request import RefusedPicture
from webui.clip.watch import Watch
from webui.errors import UserError
from webui.vision.pictures import MemoryGate, OpenedPicture, PictureFile, content_hash, opened

THUMBNAIL: Final = 160
"""Longer side, pixels."""


@dataclass(frozen=True, slots=True)
class PreparedPicture:
    """What a decoding thread hands to the model: small arrays, never the decoded picture."""

    source: int
    name: str
    key: EmbeddingKey
    facts: PictureFacts
    inputs: dict[str, npt.NDArray[Any]]


@dataclass(frozen=True, slots=True)
class KnownPicture:
    """A picture whose vector was in the cache."""

    source: int
    name: str
    key: EmbeddingKey
    embedded: Embedded


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


def prepared_ahead(
    encoder: Encoder, files: Sequence[PictureFile], watch: Watch
) -> Generator[PreparedPicture | RefusedPicture | KnownPicture, None, None]:
    """The outcomes in the order of `files`, each from a thread, a bounded number of them ahead."""
    gate = MemoryGate()
    ahead: deque[Future[PreparedPicture | RefusedPicture | KnownPicture]] = deque()
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
) -> PreparedPicture | RefusedPicture | KnownPicture:
    try:
        data = file.read(encoder.limits)
        key = EmbeddingKey(content_hash(data), encoder.identity, _spelled_out(encoder))
        cached = encoder.cache.get(key)
        if cached is not None and cached.facts is not None:
            return KnownPicture(source, file.name, key, cached)
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
