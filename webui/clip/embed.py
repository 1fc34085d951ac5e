"""Texts and pictures to vectors: batched, decoded ahead of the model, encoded once.

`encoder.py` says what an `Encoder` is, `prepare.py` makes the model's inputs. From a notebook:

    encoder = Encoder(ClipParts(CLIPModel.from_pretrained(d).eval(), CLIPProcessor.from_pretrained(d)), "emoji")
    texts = embed_texts(encoder, ["a cat", "a dog"])
    pictures = embed_pictures(encoder, [PictureFile("cat.png", Path("cat.png"))])
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from contextlib import closing
from dataclasses import dataclass
from typing import cast

import numpy as np
import numpy.typing as npt
import torch

from webui.clip.cache import Embedded, EmbeddingKey, PictureFacts, Vector, text_hash
from webui.clip.encoder import ClipParts, Encoder
from webui.clip.prepare import KnownPicture, PreparedPicture, picture_inputs, prepared_ahead, text_inputs
from webui.clip.request import RefusedPicture
from webui.clip.watch import UNWATCHED, Watch
from webui.vision.pictures import PictureFile

__all__ = [
    "ClipParts",
    "EmbeddedPicture",
    "EmbeddedPictures",
    "EmbeddedTexts",
    "Encoder",
    "embed_pictures",
    "embed_texts",
]


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


def embed_pictures(encoder: Encoder, files: Sequence[PictureFile], watch: Watch = UNWATCHED) -> EmbeddedPictures:
    """Vectors of the pictures in the order given; a file that cannot be read is named in `refused`, the rest goes on.

    Threads read, decode and prepare pictures ahead of the model, at most four batches ahead and never more decoded
    pixels at a time than `MemoryGate` lets pass. Equal to `CLIPModel.get_image_features(...).pooler_output`.
    """
    done: dict[int, KnownPicture] = {}
    refused: list[RefusedPicture] = []
    waiting: list[PreparedPicture] = []
    encoded = 0

    def encode() -> None:
        nonlocal encoded
        for prepared, vector in zip(waiting, _encode_pictures(encoder, waiting), strict=True):
            embedded = Embedded(vector, prepared.facts)
            encoder.cache.put(prepared.key, embedded)
            done[prepared.source] = KnownPicture(prepared.source, prepared.name, prepared.key, embedded)
            encoded += 1
        waiting.clear()

    with closing(prepared_ahead(encoder, files, watch)) as outcomes:
        for outcome in outcomes:
            match outcome:
                case KnownPicture():
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


def _encode_pictures(encoder: Encoder, prepared: Sequence[PreparedPicture]) -> npt.NDArray[np.float32]:
    with torch.inference_mode():
        return _to_numpy(encoder.model.get_image_features(**picture_inputs(encoder, prepared)).pooler_output)


def _to_numpy(features: torch.Tensor) -> npt.NDArray[np.float32]:
    return cast(npt.NDArray[np.float32], features.float().cpu().numpy())


def _batches(items: Sequence[str], size: int) -> Iterable[Sequence[str]]:
    return (items[start : start + size] for start in range(0, len(items), size))
