"""Makes any picture fit a VAE: what is scaled and what is cut is said. Pillow only."""

from __future__ import annotations

from dataclasses import dataclass

from PIL import Image

from webui.diffusion.request import GenerateLimits


@dataclass(frozen=True, slots=True)
class FittedPicture:
    """A picture whose sides a VAE can take, and how it came to them.

    `source_size`, `scaled_size` and `image.size` are (width, height) in pixels: as the file had it, after scaling, and
    after cutting the middle out of that.
    """

    image: Image.Image
    source_size: tuple[int, int]
    scaled_size: tuple[int, int]

    @property
    def scaled(self) -> bool:
        """Whether its pixels are new ones (Lanczos)."""
        return self.scaled_size != self.source_size

    @property
    def cropped(self) -> bool:
        """Whether its edges were cut off."""
        return self.image.size != self.scaled_size


def fit_to_size(image: Image.Image, width: int, height: int) -> FittedPicture:
    """Scale `image` until it just covers `width` x `height` pixels, and cut the middle out."""
    scale = max(width / image.width, height / image.height)
    return _fitted(image, scale, width, height)


def fit_to_limits(image: Image.Image, multiple: int, limits: GenerateLimits) -> FittedPicture:
    """Keep the picture's own size where that is possible: shrink it into `limits`, cut it to `multiple` pixels.

    A picture with a side shorter than `multiple` is enlarged until that side is one `multiple` long.
    """
    largest = limits.max_side // multiple * multiple
    shrink = min(1.0, largest / max(image.size), (limits.max_pixels / (image.width * image.height)) ** 0.5)
    scale = max(shrink, multiple / min(image.size))
    width, height = (min(round(side * scale), largest) // multiple * multiple for side in image.size)
    return _fitted(image, scale, max(width, multiple), max(height, multiple))


def _fitted(image: Image.Image, scale: float, width: int, height: int) -> FittedPicture:
    scaled_size = (max(width, round(image.width * scale)), max(height, round(image.height * scale)))
    scaled = image if scaled_size == image.size else image.resize(scaled_size, Image.Resampling.LANCZOS)
    left, top = (scaled.width - width) // 2, (scaled.height - height) // 2
    return FittedPicture(scaled.crop((left, top, left + width, top + height)), image.size, scaled_size)
