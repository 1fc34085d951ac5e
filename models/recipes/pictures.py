"""Pictures as tensors."""

import numpy as np
import torch
from torch import Tensor


def to_pixels(pictures: np.ndarray | Tensor) -> Tensor:
    """(batch, height, width, 3) uint8 -> (batch, 3, height, width) float in [-1, 1], where `pictures` lie."""
    return torch.as_tensor(pictures).permute(0, 3, 1, 2).float().div_(127.5).sub_(1)


def to_pictures(pixels: Tensor) -> np.ndarray:
    """The way back, clamped."""
    return pixels.float().clamp(-1, 1).add(1).mul(127.5).round().byte().permute(0, 2, 3, 1).cpu().numpy()
