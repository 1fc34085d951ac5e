"""The ViT as the judge of pictures: of drawings, which tells how good it is, and of what the U-Net draws."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from transformers import AutoImageProcessor, ViTForImageClassification

from models.recipes.draw import SpriteSheet, draw
from models.recipes.train_vit import found, random_scenes


class VitJudge:
    """The exported ViT in float32, which was trained apart from what it judges."""

    def __init__(self, folder: Path) -> None:
        self.vit = ViTForImageClassification.from_pretrained(folder, local_files_only=True, dtype=torch.float32).eval()
        self._processor = AutoImageProcessor.from_pretrained(folder, local_files_only=True)

    def rank(self, pictures: Sequence[Image.Image]) -> Tensor:
        """(pictures, classes): class numbers, the most probable first."""
        return self.probabilities(pictures).argsort(dim=-1, descending=True)

    @torch.no_grad()
    def probabilities(self, pictures: Sequence[Image.Image]) -> Tensor:
        """(pictures, classes), rows that sum to 1."""
        pixels = self._processor(list(pictures), return_tensors="pt").pixel_values
        return torch.cat([self.vit(pixel_values=part).logits for part in pixels.split(64)]).softmax(dim=-1)


def measure_vit(judge: VitJudge, sheet: SpriteSheet, seed: int, count: int = 500) -> tuple[float, float]:
    """Held-out drawings: one object named first; both of two among the first five."""
    shares = []
    for pair_share, among in ((0, 1), (1, 5)):
        scenes = random_scenes(seed, len(sheet), pair_share, True, count)
        rng = np.random.default_rng(seed + 1)
        pictures = [Image.fromarray(draw(scene, sheet, rng)) for scene in scenes]
        shares.append(found(judge.rank(pictures), scenes, among))
    return shares[0], shares[1]
