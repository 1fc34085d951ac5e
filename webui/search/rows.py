"""What the index keeps of a picture, and which model its vector belongs to. Plain data: numpy only."""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

Vector = npt.NDArray[np.float32]

FULL_DECODE: Final = "full-1"
"""Pictures decoded at their full size; the number rises when our preparation of pictures changes."""


@dataclass(frozen=True, slots=True)
class ModelIdentity:
    """What makes vectors comparable: the model's id, the revision of its files, and how pictures are prepared.

    The revision covers the model's own preprocessing configuration, which lies beside its weights.
    """

    model: str
    revision: str
    preprocessing: str = FULL_DECODE

    @property
    def table(self) -> str:
        """The name of its table: readable, and different for every identity."""
        readable = re.sub(r"[^a-z0-9]+", "-", self.model.lower()).strip("-")[:40] or "model"
        spelled_out = "\0".join((self.model, self.revision, self.preprocessing))
        return f"{readable}-{hashlib.sha256(spelled_out.encode('utf-8', 'surrogatepass')).hexdigest()[:12]}"


@dataclass(frozen=True, slots=True, eq=False)
class PictureRow:
    """One picture in the index.

    `path` is absolute with links resolved; `folder` the id of the owner's folder it was found in; `content` the SHA-256
    of the file; `size` its bytes and `modified_ns` its time, by which a change is noticed. `width` and `height` are
    pixels, upright. `look` are the mean colours of an 8 x 8 grid (192 bytes, see `similar.look_of`). `vector` is (D,)
    float32 of length 1.
    """

    path: str
    folder: str
    content: str
    size: int
    modified_ns: int
    width: int
    height: int
    prompt: str
    look: bytes
    vector: Vector

    @property
    def id(self) -> str:
        """The key of the row."""
        return picture_id(self.path)


@dataclass(frozen=True, slots=True)
class KnownPicture:
    """What tells whether a file is the one that was indexed."""

    id: str
    folder: str
    content: str
    size: int
    modified_ns: int


def picture_id(path: str) -> str:
    """32 hexadecimal digits that stand for a path: safe in a query, and they tell nothing of it."""
    return hashlib.blake2b(path.encode("utf-8", "surrogateescape"), digest_size=16).hexdigest()
