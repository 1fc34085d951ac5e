from __future__ import annotations

import io
import struct
import threading
import time
import zlib
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from webui.errors import UserError
from webui.vision.pictures import (
    MemoryGate,
    OpenedPicture,
    PictureFile,
    PictureLimits,
    content_hash,
    opened,
    picture_from_image,
)

LIMITS = PictureLimits()


def encoded(image: Image.Image, form: str = "PNG", **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, form, **options)
    return buffer.getvalue()


def read(data: bytes, limits: PictureLimits = LIMITS) -> OpenedPicture:
    with opened("p", data, limits, MemoryGate()) as picture:
        return picture


def notes(picture: OpenedPicture) -> list[str]:
    return [note.key for note in picture.notes]


def refusal(data: bytes, limits: PictureLimits = LIMITS) -> str:
    with pytest.raises(UserError) as error, opened("holiday.png", data, limits, MemoryGate()):
        pass
    assert error.value.values["name"] == "holiday.png"
    return error.value.key


def gradient(width: int = 12, height: int = 8) -> Image.Image:
    return Image.fromarray(np.arange(width * height * 3, dtype=np.uint8).reshape(height, width, 3))


def test_an_rgb_png_comes_out_as_it_went_in() -> None:
    picture = read(encoded(gradient()))
    assert picture.image.tobytes() == gradient().tobytes()
    assert (picture.width, picture.height, picture.format, picture.notes) == (12, 8, "PNG", ())


@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_rotation_is_respected(orientation: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    source = Image.new("RGB", (40, 20), "white")
    source.paste("red", (0, 0, 10, 10))
    picture = read(encoded(source, "JPEG", exif=exif, quality=95))
    corners = {1: (0, 0), 2: (1, 0), 3: (1, 1), 4: (0, 1), 5: (0, 0), 6: (1, 0), 7: (1, 1), 8: (0, 1)}
    across, down = corners[orientation]
    red, green, _ = picture.image.getpixel((across * (picture.width - 5) + 2, down * (picture.height - 5) + 2))
    assert (red > 200, green < 90) == (True, True)
    assert (picture.width, picture.height) == ((20, 40) if orientation > 4 else (40, 20))
    assert picture.image.size == (picture.width, picture.height)
    assert notes(picture) == (["note.rotated"] if orientation > 1 else [])


def test_broken_exif_is_said_and_the_picture_still_opens() -> None:
    picture = read(encoded(gradient(), "JPEG", exif=b"Exif\0\0MM\0*\xff\xff\xff\xff" + b"\xff" * 40))
    assert picture.image.size == (12, 8)


def test_cmyk_becomes_rgb_and_is_said() -> None:
    picture = read(encoded(Image.new("CMYK", (9, 9), (0, 255, 255, 0)), "JPEG", quality=95))
    red, green, blue = picture.image.getpixel((4, 4))
    assert (red > 200, green < 60, blue < 60) == (True, True, True)
    assert notes(picture) == ["note.cmyk"]


def test_sixteen_bit_greys_keep_their_tones() -> None:
    values = np.array([[0, 0x8000, 0xFFFF]], dtype=np.uint16)
    picture = read(encoded(Image.fromarray(values)))
    assert [picture.image.getpixel((x, 0)) for x in range(3)] == [(0,) * 3, (128,) * 3, (255,) * 3]
    assert notes(picture) == ["note.sixteen_bit"]


def test_floating_point_greys_are_stretched_and_said() -> None:
    values = np.array([[-1.0, 0.0, 1.0]], dtype=np.float32)
    picture = read(encoded(Image.fromarray(values), "TIFF"))
    assert [picture.image.getpixel((x, 0))[0] for x in range(3)] == [0, 128, 255]
    assert notes(picture) == ["note.stretched"]


@pytest.mark.parametrize("mode", ["RGBA", "LA"])
def test_transparency_lies_on_white_and_is_said(mode: str) -> None:
    source = Image.new(mode, (4, 4), (0, 0, 0, 0) if mode == "RGBA" else (0, 0))
    picture = read(encoded(source))
    assert picture.image.getpixel((1, 1)) == (255, 255, 255)
    assert notes(picture) == ["note.on_white"]


def test_an_opaque_alpha_channel_needs_no_words() -> None:
    assert notes(read(encoded(gradient().convert("RGBA")))) == []


def test_a_palette_with_transparency_lies_on_white() -> None:
    source = Image.new("P", (4, 4), 0)
    source.putpalette([0, 0, 0, 255, 0, 0])
    source.putpixel((0, 0), 1)
    picture = read(encoded(source, transparency=0))
    assert picture.image.getpixel((0, 0)) == (255, 0, 0)
    assert picture.image.getpixel((2, 2)) == (255, 255, 255)


def test_of_an_animation_the_first_frame_is_taken_and_said() -> None:
    frames = [Image.new("RGB", (8, 8), colour) for colour in ("red", "green", "blue")]
    for form in ("GIF", "WEBP", "PNG"):
        picture = read(encoded(frames[0], form, save_all=True, append_images=frames[1:]))
        red, green, _ = picture.image.getpixel((4, 4))
        assert (red > 200, green < 60) == (True, True)
        assert notes(picture) == ["note.first_frame"]


@pytest.mark.parametrize("size", [(1, 1), (20_000, 10), (10, 20_000)])
def test_odd_sizes_open(size: tuple[int, int]) -> None:
    assert read(encoded(Image.new("RGB", size, "red"))).image.size == size


def test_what_is_no_picture_is_refused_by_name() -> None:
    assert refusal(b"hello, world" * 9) == "error.picture_unknown"
    assert refusal(b"<?xml version='1.0'?><svg xmlns='http://www.w3.org/2000/svg'/>") == "error.picture_is_svg"
    assert refusal(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 1 1\n") == "error.picture_unknown"


@pytest.mark.parametrize("form", ["PNG", "JPEG", "WEBP", "GIF", "BMP", "TIFF"])
def test_truncated_pictures_are_refused_by_name(form: str) -> None:
    whole = encoded(gradient(64, 48), form)
    assert refusal(whole[: len(whole) // 2]) in {"error.picture_damaged", "error.picture_unknown"}


def test_too_many_pixels_are_refused_before_they_are_decoded() -> None:
    assert refusal(_png_header(20_000, 5_000)) == "error.picture_too_many_pixels"


def test_a_decompression_bomb_is_refused_before_it_is_decoded() -> None:
    assert refusal(_png_header(60_000, 60_000)) == "error.picture_bomb"


def test_empty_missing_and_huge_files_are_refused(tmp_path: Path) -> None:
    (tmp_path / "empty.png").touch()
    (tmp_path / "large.png").write_bytes(b"x" * 2_000_000)
    limits = PictureLimits(max_file_bytes=1_000_000)
    cases = {
        "empty.png": "error.picture_empty",
        "no.png": "error.picture_missing",
        "large.png": "error.picture_file_too_large",
    }
    for name, key in cases.items():
        with pytest.raises(UserError) as error:
            PictureFile(name, tmp_path / name).read(limits)
        assert (error.value.key, error.value.values["name"]) == (key, name)
    with pytest.raises(UserError, match=r"error\.picture_missing"):
        PictureFile("folder", tmp_path).read(limits)
    with pytest.raises(UserError, match=r"error\.picture_empty"):
        PictureFile("nothing", b"").read(limits)


@settings(max_examples=150, deadline=None)
@given(st.data())
def test_damaged_files_open_or_are_refused_and_nothing_else(data: st.DataObject) -> None:
    form = data.draw(st.sampled_from(["PNG", "JPEG", "WEBP", "GIF", "BMP", "TIFF", "ICO", "PPM"]))
    damaged = bytearray(encoded(gradient(32, 32), form))
    for _ in range(data.draw(st.integers(1, 6))):
        damaged[data.draw(st.integers(0, len(damaged) - 1))] = data.draw(st.integers(0, 255))
    try:
        picture = read(bytes(damaged), PictureLimits(max_pixels=1_000_000))
    except UserError as error:
        told = error.key
        assert told.startswith("error.picture_")
    else:
        assert picture.image.mode == "RGB"


def test_a_pillow_picture_becomes_a_file_without_loss() -> None:
    file = picture_from_image("drawn", gradient())
    assert read(file.read(LIMITS)).image.tobytes() == gradient().tobytes()
    assert content_hash(file.read(LIMITS)) == content_hash(picture_from_image("again", gradient()).read(LIMITS))


def test_the_memory_gate_never_lets_more_in_than_it_holds() -> None:
    gate, together, most = MemoryGate(100), [], []
    lock = threading.Lock()

    def work(size: int) -> None:
        with gate.hold(size):
            with lock:
                together.append(size)
                most.append(sum(together))
            time.sleep(0.005)
            with lock:
                together.remove(size)

    threads = [threading.Thread(target=work, args=(size,)) for size in [40, 50, 30, 60, 90, 20] * 3]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(10)
    assert len(most) == 18
    assert max(most) <= 100


def test_one_picture_larger_than_the_gate_passes_alone() -> None:
    gate = MemoryGate(10)
    with gate.hold(1000):
        pass
    with gate.hold(5), gate.hold(5):
        pass


def _png_header(width: int, height: int) -> bytes:
    """A PNG that claims a size and holds next to nothing."""

    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"\0")) + chunk(b"IEND", b"")
