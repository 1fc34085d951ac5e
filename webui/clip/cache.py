"""Vectors that were computed once, kept by what they depend on."""

from __future__ import annotations

import hashlib
import threading
from collections import OrderedDict
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from webui.vision.pictures import Note

Vector = npt.NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class EmbeddingKey:
    """Everything a vector depends on.

    `content` is the SHA-256 of the file or of the text's UTF-8 bytes, `model` names the weights with their revision and
    dtype, `preprocessing` spells out what happens before the model (size, crop, filter, mean; or token limit).
    """

    content: str
    model: str
    preprocessing: str


@dataclass(frozen=True, slots=True)
class PictureFacts:
    """What is known of a picture without opening it again. `thumbnail` is a JPEG; sizes are pixels, upright."""

    width: int
    height: int
    format: str
    notes: tuple[Note, ...]
    thumbnail: bytes


@dataclass(frozen=True, slots=True)
class Embedded:
    """A projected vector, (D,) float32, not normalised; with `facts` when it came from a picture."""

    vector: Vector
    facts: PictureFacts | None = None

    @property
    def size(self) -> int:
        """Bytes it takes, roughly."""
        return self.vector.nbytes + (len(self.facts.thumbnail) if self.facts else 0) + 512


class EmbeddingCache:
    """Keeps vectors by `EmbeddingKey` under a limit of bytes, forgetting the least recently used. Thread-safe."""

    def __init__(self, max_bytes: int = 128 * 1024 * 1024) -> None:
        self._max_bytes = max_bytes
        self._bytes = 0
        self._kept: OrderedDict[EmbeddingKey, Embedded] = OrderedDict()
        self._lock = threading.Lock()

    def get(self, key: EmbeddingKey) -> Embedded | None:
        """What was put under `key`, if it is still kept."""
        with self._lock:
            found = self._kept.get(key)
            if found is not None:
                self._kept.move_to_end(key)
            return found

    def put(self, key: EmbeddingKey, embedded: Embedded) -> None:
        """Keep `embedded`, and drop the oldest ones that no longer fit."""
        with self._lock:
            replaced = self._kept.pop(key, None)
            self._bytes += embedded.size - (replaced.size if replaced else 0)
            self._kept[key] = embedded
            while self._bytes > self._max_bytes:
                _, oldest = self._kept.popitem(last=False)
                self._bytes -= oldest.size

    def clear(self) -> None:
        """Forget everything."""
        with self._lock:
            self._kept.clear()
            self._bytes = 0

    def __len__(self) -> int:
        return len(self._kept)


def text_hash(text: str) -> str:
    """SHA-256 of the UTF-8 bytes."""
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()
