"""Opening pictures that come from anywhere: 8-bit RGB out, what was changed on the way said, refusals by name.

Imports Pillow and numpy only, so the page can look at a picture before any model library is loaded.
"""

from __future__ import annotations

import hashlib
import io
import struct
import threading
import zlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import numpy as np
from PIL import Image

from webui.errors import UserError

# Decoders that are part of Pillow itself. Left out on purpose: EPS and PDF (they call or are another program),
# and everything rare enough that nobody has looked at its decoder for years.
READABLE_FORMATS: Final = ("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF", "MPO", "PPM", "ICO", "AVIF")

# What Pillow's decoders raise for damaged files, found by feeding them damaged files (tests/vision/test_pictures.py).
_DECODER_ERRORS: Final = (
    OSError, SyntaxError, ValueError, EOFError, IndexError, KeyError, TypeError, OverflowError, AssertionError,
    ZeroDivisionError, NotImplementedError, struct.error, zlib.error,
)  # fmt: skip
_BOMBS: Final = (Image.DecompressionBombError, Image.DecompressionBombWarning)

_WHITE: Final = (255, 255, 255)
_ORIENTATION_TAG: Final = 0x0112
_UPRIGHT: Final = {  # EXIF orientation -> what makes it upright
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
_BYTES_A_PIXEL: Final = 8  # the decoded picture, its RGB copy, and the rotated one while both exist


@dataclass(frozen=True, slots=True)
class PictureLimits:
    """The largest picture that is opened: bytes of the file, and pixels, checked before anything is decoded."""

    max_file_bytes: int = 64 * 1024 * 1024
    max_pixels: int = 80_000_000


@dataclass(frozen=True, slots=True)
class Note:
    """Something that was done to a picture or a text and is said: a message key and the values that fill it in."""

    key: str
    values: Mapping[str, object] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class PictureFile:
    """A picture that was not opened yet: the name it is called by, and its path or its bytes."""

    name: str
    content: Path | bytes

    def read(self, limits: PictureLimits) -> bytes:
        """The file's bytes. Raises UserError when it is missing, empty or larger than `limits` allow."""
        size = len(self.content) if isinstance(self.content, bytes) else self._size_on_disk(self.content)
        if size == 0:
            raise UserError("error.picture_empty", name=self.name)
        if size > limits.max_file_bytes:
            raise UserError(
                "error.picture_file_too_large", name=self.name, size=size >> 20, limit=limits.max_file_bytes >> 20
            )
        return self.content if isinstance(self.content, bytes) else self.content.read_bytes()

    def _size_on_disk(self, path: Path) -> int:
        try:
            return path.stat().st_size if path.is_file() else self._refuse_missing()
        except OSError as error:
            raise UserError("error.picture_missing", name=self.name) from error

    def _refuse_missing(self) -> int:
        raise UserError("error.picture_missing", name=self.name)


@dataclass(frozen=True, slots=True)
class OpenedPicture:
    """A decoded picture: 8-bit RGB, upright. `width` and `height` are the file's, in pixels, after rotation."""

    image: Image.Image
    width: int
    height: int
    format: str
    notes: tuple[Note, ...]


class MemoryGate:
    """Lets threads decode side by side only while their pictures fit into `limit` bytes together.

    A single picture that is larger than the limit passes alone.
    """

    def __init__(self, limit: int = 384 * 1024 * 1024) -> None:
        self._limit = limit
        self._used = 0
        self._changed = threading.Condition()

    @contextmanager
    def hold(self, size: int) -> Iterator[None]:
        """Wait until `size` bytes are free and hold them for the block."""
        with self._changed:
            self._changed.wait_for(lambda: self._used == 0 or self._used + size <= self._limit)
            self._used += size
        try:
            yield
        finally:
            with self._changed:
                self._used -= size
                self._changed.notify_all()


def picture_from_image(name: str, image: Image.Image) -> PictureFile:
    """A Pillow picture (just generated, or from a notebook) as a file in memory: PNG, so no pixel changes."""
    buffer = io.BytesIO()
    image.save(buffer, "PNG", compress_level=1)
    return PictureFile(name, buffer.getvalue())


def content_hash(data: bytes) -> str:
    """SHA-256 of a file's bytes, the name-independent half of every cache key."""
    return hashlib.sha256(data).hexdigest()


@contextmanager
def opened(
    name: str, data: bytes, limits: PictureLimits, gate: MemoryGate, draft: tuple[int, int] | None = None
) -> Iterator[OpenedPicture]:
    """Decode the picture `data`, called `name` in messages, and hold its memory in `gate` until the block ends.

    `draft` asks the JPEG decoder for a picture reduced by 2, 4 or 8 that is still at least this (width, height):
    faster, and not the same pixels. Raises UserError for what is not a picture, is damaged, or is too large.
    """
    with _open_header(name, data) as source:
        width, height = source.size
        if width * height > limits.max_pixels:
            raise UserError(
                "error.picture_too_many_pixels",
                name=name,
                width=width,
                height=height,
                limit=limits.max_pixels // 1_000_000,
            )
        if draft is not None:
            source.draft("RGB", draft)
        with gate.hold(source.width * source.height * _BYTES_A_PIXEL):
            try:
                image, notes = _upright_rgb(source)
            except _DECODER_ERRORS as error:
                raise UserError("error.picture_damaged", name=name) from error
            if image.size != source.size:  # turned by a quarter
                width, height = height, width
            yield OpenedPicture(image, width, height, source.format or "", notes)


def _open_header(name: str, data: bytes) -> Image.Image:
    """Read the header only. A picture whose header already claims too much is refused here."""
    try:
        return Image.open(io.BytesIO(data), formats=READABLE_FORMATS)
    except _BOMBS as error:
        raise UserError("error.picture_bomb", name=name) from error
    except _DECODER_ERRORS as error:
        if b"<svg" in data[:4096].lower():
            raise UserError("error.picture_is_svg", name=name) from error
        raise UserError("error.picture_unknown", name=name, formats=", ".join(READABLE_FORMATS)) from error


def _upright_rgb(source: Image.Image) -> tuple[Image.Image, tuple[Note, ...]]:
    notes: list[Note] = []
    if getattr(source, "is_animated", False) and source.format != "MPO":  # an MPO's second frame is a depth map or eye
        source.seek(0)
        notes.append(Note("note.first_frame"))
    source.load()
    orientation = _orientation(source, notes)
    image = _rgb(source, notes)
    if orientation in _UPRIGHT:
        image = image.transpose(_UPRIGHT[orientation])
        notes.append(Note("note.rotated"))
    return image, tuple(notes)


def _orientation(source: Image.Image, notes: list[Note]) -> int:
    try:
        return int(source.getexif().get(_ORIENTATION_TAG, 1))
    except _DECODER_ERRORS:
        notes.append(Note("note.exif_unreadable"))
        return 1


def _rgb(source: Image.Image, notes: list[Note]) -> Image.Image:
    """8-bit RGB; what is more than a change of notation is appended to `notes`."""
    if source.mode.startswith("I;16"):
        notes.append(Note("note.sixteen_bit"))
        return Image.fromarray((np.asarray(source) >> 8).astype(np.uint8)).convert("RGB")
    if source.mode in ("I", "F"):
        notes.append(Note("note.stretched"))
        return _stretched(source).convert("RGB")
    if source.has_transparency_data:
        return _on_white(source.convert("RGBA"), notes)
    if source.mode == "CMYK":
        notes.append(Note("note.cmyk"))
    return source.convert("RGB")


def _stretched(source: Image.Image) -> Image.Image:
    """32-bit greys, whose range the file does not tell, mapped from their minimum and maximum to 0..255."""
    values = np.nan_to_num(np.asarray(source, dtype=np.float32))
    low, high = float(values.min()), float(values.max())
    span = high - low if high > low else 1.0
    return Image.fromarray(((values - low) * (255.0 / span)).round().astype(np.uint8))


def _on_white(source: Image.Image, notes: list[Note]) -> Image.Image:
    alpha = source.getchannel("A")
    if alpha.getextrema() == (255, 255):
        return source.convert("RGB")
    notes.append(Note("note.on_white"))
    canvas = Image.new("RGB", source.size, _WHITE)
    canvas.paste(source, mask=alpha)
    return canvas
