"""What the ViT's training does to drawings, so that it knows things however they are drawn.

Unlike CLIP's training, which sees clean or blurred drawings, these pictures are turned, stretched, bent, mirrored,
recoloured, softened and spotted. That makes the ViT an independent judge of what the U-Net draws: whatever is wrong
with a generated picture, it was not learned from the same pictures.

All functions take and return pixels (batch, 3, height, width) in [-1, 1].
"""

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional


def augment(pixels: Tensor, rng: np.random.Generator, strength: float = 1.0) -> Tensor:
    """Every change, each picture by its own dice; with `strength` 0 nothing but mirroring."""
    pixels = recolour(bend(pixels, rng, strength), rng, strength)
    return spot(soften(pixels, rng, strength), rng, strength).clamp(-1, 1)


def bend(pixels: Tensor, rng: np.random.Generator, strength: float) -> Tensor:
    """Turn by up to 14 degrees, mirror half, scale, move, and push about smoothly; the border's colour fills up."""
    count = len(pixels)
    angle = _around(rng, count, 0, 0.25 * strength)
    scale, stretch = _around(rng, count, 1, 0.15 * strength), _around(rng, count, 1, 0.1 * strength)
    mirror = torch.from_numpy(rng.choice((-1.0, 1.0), size=count)).float()
    shifts = [_around(rng, count, 0, 0.08 * strength) for _ in range(2)]
    across = torch.stack([angle.cos() * scale * stretch * mirror, -angle.sin() * scale, shifts[0]], dim=-1)
    down = torch.stack([angle.sin() * scale * mirror, angle.cos() * scale / stretch, shifts[1]], dim=-1)
    grid = functional.affine_grid(torch.stack([across, down], dim=1), list(pixels.shape), align_corners=False)
    push = torch.from_numpy(rng.standard_normal((count, 2, 6, 6), dtype=np.float32))
    push = push * _around(rng, count, 0, 0.04 * strength)[:, None, None, None]
    push = functional.interpolate(push, size=pixels.shape[-2:], mode="bicubic", align_corners=False)
    return functional.grid_sample(pixels, grid + push.permute(0, 2, 3, 1), padding_mode="border", align_corners=False)


def recolour(pixels: Tensor, rng: np.random.Generator, strength: float) -> Tensor:
    """Change saturation and contrast, and the gain and the offset of each channel."""
    count = len(pixels)
    gray = pixels.mean(dim=1, keepdim=True)
    pixels = gray + (pixels - gray) * _around(rng, count, 1, 0.35 * strength)[:, None, None, None]
    gain, offset = (_around(rng, 3 * count, middle, far * strength) for middle, far in ((1, 0.2), (0, 0.1)))
    return pixels * gain.view(count, 3, 1, 1) + offset.view(count, 3, 1, 1)


def soften(pixels: Tensor, rng: np.random.Generator, strength: float, parts: int = 8) -> Tensor:
    """Make three of five parts of the batch smaller by up to four and large again."""
    return torch.cat([_blur(part, rng) if rng.random() < 0.6 * strength else part for part in pixels.chunk(parts)])


def _blur(pixels: Tensor, rng: np.random.Generator) -> Tensor:
    small = functional.interpolate(pixels, scale_factor=1 / float(rng.uniform(1.3, 4)), mode="area")
    return functional.interpolate(small, size=pixels.shape[-2:], mode="bilinear", align_corners=False)


def spot(pixels: Tensor, rng: np.random.Generator, strength: float) -> Tensor:
    """Add noise, fine (camera) and coarse (blotches of a bad decoder)."""
    count, _, height, width = pixels.shape
    fine = torch.from_numpy(rng.standard_normal(pixels.shape, dtype=np.float32))
    coarse = torch.from_numpy(rng.standard_normal((count, 3, height // 8, width // 8), dtype=np.float32))
    coarse = functional.interpolate(coarse, size=(height, width), mode="bilinear", align_corners=False)
    for noise, top in ((fine, 0.1), (coarse, 0.15)):
        pixels = pixels + noise * _around(rng, count, 0, top * strength)[:, None, None, None]
    return pixels


def _around(rng: np.random.Generator, count: int, middle: float, far: float) -> Tensor:
    return torch.from_numpy(rng.uniform(middle - far, middle + far, size=count)).float()
