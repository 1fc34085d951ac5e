"""Draws scenes: colour emoji of NotoColorEmoji on a coloured background, as uint8 arrays (height, width, 3).

The font is not part of this repository: Debian's package fonts-noto-color-emoji has it (OFL-1.1).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from models.recipes.concepts import Concept
from models.recipes.scenes import BACKGROUNDS, Placed, Scene

DEBIAN_FONT = Path("/usr/share/fonts/truetype/noto/NotoColorEmoji.ttf")
BITMAP_SIZE = 109  # the only size that NotoColorEmoji's CBDT bitmaps have
PICTURE_SIZE = 128

OBJECT_PIXELS = {"small": 46, "normal": 74, "big": 106}
PAIR_PIXELS = 54


@dataclass(frozen=True)
class Jitter:
    """How far drawings of one scene differ: background by channel, place and size in pixels."""

    colour: int = 10
    shift: int = 3
    sizes: tuple[int, ...] = (-4, -2, 0, 2, 4)


DEFAULT_JITTER = Jitter()


def require_font(path: Path | None) -> Path:
    """The font file to draw with. Raises FileNotFoundError that says how to get it."""
    font = path or DEBIAN_FONT
    if not font.is_file():
        raise FileNotFoundError(f"{font} is missing: `apt install fonts-noto-color-emoji`, or pass --font FILE")
    return font


@dataclass(frozen=True)
class Sprite:
    """A glyph at one size, ready to be composited: colour times alpha, and one minus alpha, float32."""

    premultiplied: np.ndarray  # (height, width, 3)
    transparency: np.ndarray  # (height, width, 1)


class SpriteSheet:
    """All glyphs of the concepts, rendered once and kept at each size that was asked for."""

    def __init__(self, concepts: Sequence[Concept], font: Path) -> None:
        bitmap_font = ImageFont.truetype(str(font), BITMAP_SIZE)
        self._glyphs = [_render_glyph(concept.emoji, bitmap_font) for concept in concepts]
        self._sprites: dict[tuple[int, int], Sprite] = {}

    def __len__(self) -> int:
        return len(self._glyphs)

    def sprite(self, concept: int, pixels: int) -> Sprite:
        """The glyph scaled so that its longer side is `pixels` long."""
        key = (concept, pixels)
        if key not in self._sprites:
            self._sprites[key] = _scale(self._glyphs[concept], pixels)
        return self._sprites[key]


def _render_glyph(emoji: str, font: ImageFont.FreeTypeFont) -> Image.Image:
    canvas = Image.new("RGBA", (2 * BITMAP_SIZE, 2 * BITMAP_SIZE))
    ImageDraw.Draw(canvas).text((20, 20), emoji, font=font, embedded_color=True)
    box = canvas.getbbox()
    if box is None:
        raise ValueError(f"the font has no glyph for {emoji!r}")
    return canvas.crop(box)


def _scale(glyph: Image.Image, pixels: int) -> Sprite:
    ratio = pixels / max(glyph.size)
    size = (max(1, round(glyph.width * ratio)), max(1, round(glyph.height * ratio)))
    rgba = np.asarray(glyph.resize(size, Image.Resampling.LANCZOS), np.float32)
    alpha = rgba[..., 3:] / 255
    return Sprite(rgba[..., :3] * alpha, 1 - alpha)


def draw(scene: Scene, sheet: SpriteSheet, rng: np.random.Generator, jitter: Jitter = DEFAULT_JITTER) -> np.ndarray:
    """The scene as (PICTURE_SIZE, PICTURE_SIZE, 3) uint8; the generator's state decides the jitter."""
    colour = np.array(BACKGROUNDS[scene.background].rgb) + rng.integers(-jitter.colour, jitter.colour + 1, size=3)
    canvas = np.empty((PICTURE_SIZE, PICTURE_SIZE, 3), np.float32)
    canvas[:] = colour.clip(0, 255)
    for placed in scene.objects:
        base = PAIR_PIXELS if scene.is_pair else OBJECT_PIXELS[placed.size]
        pixels = base + int(rng.choice(jitter.sizes))
        center = _center(placed, pixels) + rng.integers(-jitter.shift, jitter.shift + 1, size=2)
        _composite(canvas, sheet.sprite(placed.concept, pixels), center)
    return (canvas + 0.5).clip(0, 255).astype(np.uint8)


def _center(placed: Placed, pixels: int) -> np.ndarray:
    """Where the object's middle goes, (y, x), so that it lies `margin` off the edge that its place names."""
    middle, margin = PICTURE_SIZE / 2, 5
    near, far = margin + pixels / 2, PICTURE_SIZE - margin - pixels / 2
    return {
        "center": np.array([middle, middle]),
        "left": np.array([middle, near]),
        "right": np.array([middle, far]),
        "top": np.array([near, middle]),
        "bottom": np.array([far, middle]),
    }[placed.place]


def _composite(canvas: np.ndarray, sprite: Sprite, center: np.ndarray) -> None:
    """Lay the sprite over the canvas in place; what sticks out is cut off."""
    height, width = sprite.transparency.shape[:2]
    top, left = (np.round(center - np.array([height, width]) / 2)).astype(int)
    rows = slice(max(top, 0), min(top + height, canvas.shape[0]))
    columns = slice(max(left, 0), min(left + width, canvas.shape[1]))
    inside = (slice(rows.start - top, rows.stop - top), slice(columns.start - left, columns.stop - left))
    region = canvas[rows, columns]
    region *= sprite.transparency[inside]
    region += sprite.premultiplied[inside]
