"""Trains the ViT of the emoji suite from scratch: which of the concepts does a picture show?

    python -m models.recipes.train_vit --minutes 60 --work-dir models/recipes/work

A `ViTForImageClassification` (Dosovitskiy et al. 2021, https://arxiv.org/abs/2010.11929). It shares nothing with CLIP
but the drawings, and `augment` changes those, so that it can judge what the U-Net draws. The target of a picture with
two objects is half of each, so that both come out first. For most of the time half of the patches are left out
(patch dropout, Liu et al. 2023, https://arxiv.org/abs/2208.07220): that costs less and hides parts of the object, as
cutting out rectangles would.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from accelerate import Accelerator
from torch import Tensor
from torch.nn import functional
from transformers import ViTForImageClassification

from models.recipes.augment import augment
from models.recipes.concepts import load_concepts
from models.recipes.draw import Jitter, SpriteSheet, draw, require_font
from models.recipes.optimizers import MuonAdamW
from models.recipes.pictures import to_pixels
from models.recipes.scenes import BACKGROUNDS, Scene, random_scene, single
from models.recipes.shapes import VitShape, build_vit
from models.recipes.training import (
    LearningRate,
    MovingAverage,
    Progress,
    Run,
    averaged_state,
    load_averaged_state,
    run_arguments,
    run_from,
    run_task,
    step_all,
)

MUCH_JITTER = Jitter(colour=16, shift=6, sizes=(-10, -6, -3, 0, 3, 6, 10))
KEPT_PATCHES = 0.5
ALL_PATCHES_AFTER = 0.75  # of the time
EDGES = ("patch_embeddings", "position_embeddings", "cls_token", "classifier")
EVERYTHING_AFTER = 0.6  # of the time: until then pictures get harder
RATE = LearningRate(3e-3, warmup=50)
SHAPE = VitShape()


def targets_of(scenes: list[Scene], classes: int) -> Tensor:
    """(scenes, classes), rows that sum to 1: all of one object, or half of each."""
    targets = torch.zeros(len(scenes), classes)
    for row, scene in zip(targets, scenes, strict=True):
        for placed in scene.objects:
            row[placed.concept] += 1 / len(scene.objects)
    return targets


def logits_of_some_patches(vit: ViTForImageClassification, pixels: Tensor, share: float) -> Tensor:
    """(batch, classes) from [CLS] and a random `share` of each picture's patches."""
    tokens = vit.vit.embeddings(pixels)
    patches = tokens.shape[1] - 1
    kept = torch.rand(len(tokens), patches, device=tokens.device).argsort(dim=1)[:, : round(share * patches)]
    chosen = tokens[:, 1:].gather(1, kept[..., None].expand(-1, -1, tokens.shape[-1]))
    tokens = torch.cat([tokens[:, :1], chosen], dim=1)
    for layer in vit.vit.layers:
        tokens = layer(tokens)
    return vit.classifier(vit.vit.layernorm(tokens)[:, 0])


@torch.no_grad()
def start_well(vit: ViTForImageClassification, pixels: Tensor) -> None:
    """Give the patch embedding and the positions a start that saves hundreds of steps.

    Patches are projected on the main components of the patches in `pixels`, scaled to like variance, as in the first
    layer of fast convolutional networks (Jordan 2024, https://arxiv.org/abs/2404.00498): otherwise the mean colour
    drowns the shapes. Positions start as sines and cosines of row and column (Vaswani et al. 2017).
    """
    embeddings = vit.vit.embeddings
    projection = embeddings.patch_embeddings.projection
    width, patch = projection.weight.shape[0], projection.weight.shape[-1]
    patches = functional.unfold(pixels, patch, stride=patch).transpose(1, 2).flatten(0, 1)
    mean = patches.mean(dim=0)
    variances, directions = torch.linalg.eigh(torch.cov(patches.T))
    variances, directions = variances[-width:], directions[:, -width:]
    rows = (directions / (variances + 0.02 * variances.mean()).sqrt()).T
    projection.weight.copy_(rows.view_as(projection.weight))
    projection.bias.copy_(-rows @ mean)
    side = vit.config.image_size // patch
    frequencies = 0.05 ** torch.linspace(0, 1, width // 4)
    angles = torch.arange(side)[:, None] * frequencies
    waves = torch.cat([angles.sin(), angles.cos()], dim=-1)
    down, across = waves[:, None].expand(-1, side, -1), waves[None].expand(side, -1, -1)
    embeddings.position_embeddings[0, 1:] = torch.cat([down, across], dim=-1).flatten(0, 1)


@torch.no_grad()
def ranks(vit: ViTForImageClassification, pixels: Tensor, batch: int = 64) -> Tensor:
    """(pictures, classes): class numbers, the most probable first."""
    device = next(vit.parameters()).device
    logits = [vit(pixel_values=part.to(device)).logits.cpu() for part in pixels.split(batch)]
    return torch.cat(logits).argsort(dim=-1, descending=True)


def found(ranking: Tensor, scenes: list[Scene], among: int) -> float:
    """Share of scenes all of whose objects are among the first `among` classes."""
    first = ranking[:, :among].tolist()
    return float(
        np.mean([{p.concept for p in scene.objects} <= set(row) for scene, row in zip(scenes, first, strict=True)])
    )


@dataclass(frozen=True)
class VitTraining:
    """Everything about the training but its time and place."""

    rate: LearningRate = RATE
    weight_decay: float = 0.02
    shape: VitShape = SHAPE
    pair_share: float = 0.35
    seed: int = 6


class VitTask:
    """The ViT under training (see `training.Task`)."""

    name = "vit"
    phase = "drawings"

    def __init__(self, config: VitTraining, run: Run, accelerator: Accelerator) -> None:
        self._config = config
        self._accelerator = accelerator
        concepts = load_concepts()
        self._classes = len(concepts)
        self._sheet = SpriteSheet(concepts, require_font(run.font))
        torch.manual_seed(config.seed)
        self._bare = build_vit([concept.name("en") for concept in concepts], config.shape)
        start_well(self._bare, self._drawn(random_scenes(97, self._classes, config.pair_share, False, 256))[1])
        self._vit = accelerator.prepare(self._bare)
        self._average = MovingAverage(self._bare)
        self.optimizer = MuonAdamW(self._bare, config.rate.peak, config.weight_decay, adamw_layers=EDGES)
        self.batch_size = run.batch or (512 if accelerator.device.type == "cuda" else 64)
        self._held_out = [self._drawn(random_scenes(99, self._classes, pairs, True)) for pairs in (0, 1)]
        self._reseed(0)

    def _drawn(self, scenes: list[Scene]) -> tuple[list[Scene], Tensor]:
        rng = np.random.default_rng(98)
        return scenes, to_pixels(np.stack([draw(scene, self._sheet, rng) for scene in scenes]))

    def _reseed(self, step: int) -> None:
        """Other pictures in each process, and after each break."""
        self._rng = np.random.default_rng([self._config.seed, self._accelerator.process_index, step])
        torch.manual_seed(int(self._rng.integers(2**32)))

    def step(self, progress: float) -> dict[str, float]:
        """See `training.Task`."""
        strength = min(1.0, progress / EVERYTHING_AFTER)
        scenes = [self._scene(strength) for _ in range(self.batch_size)]
        pictures = np.stack([draw(scene, self._sheet, self._rng, MUCH_JITTER) for scene in scenes])
        pixels = augment(to_pixels(pictures), self._rng, strength).to(self._accelerator.device)
        targets = targets_of(scenes, self._classes).to(self._accelerator.device)
        with self._accelerator.autocast():
            if progress < ALL_PATCHES_AFTER:
                logits = logits_of_some_patches(self._bare, pixels, KEPT_PATCHES)
            else:
                logits = self._vit(pixel_values=pixels).logits
        loss = functional.cross_entropy(logits.float(), targets)
        step_all(self._accelerator, self.optimizer, self._bare, self._average, loss)
        named = targets.gather(1, logits.argmax(-1, keepdim=True)) > 0
        return {"loss": loss.item(), "named": named.float().mean().item()}

    def _scene(self, strength: float) -> Scene:
        """At first seven of ten are a single object in the middle, of one size; then more and more are anything."""
        if self._rng.random() < 0.7 * (1 - strength):
            return single(int(self._rng.integers(self._classes)), int(self._rng.integers(len(BACKGROUNDS))))
        return random_scene(self._rng, self._classes, strength * self._config.pair_share)

    def probe(self) -> dict[str, float]:
        """See `training.Task`."""
        self._bare.eval()
        with self._average.swapped_into(self._bare):
            one, two = (
                found(ranks(self._bare, pixels), scenes, among)
                for (scenes, pixels), among in zip(self._held_out, (1, 5), strict=True)
            )
        self._bare.train()
        return {"held-out top-1": one, "pairs in top 5": two}

    def state_dict(self) -> dict[str, Any]:
        """See `training.Task`."""
        return averaged_state(self._bare, self._average, self.optimizer, self._config.shape)

    def load_state_dict(self, state: dict[str, Any], same_phase: bool) -> None:
        """See `training.Task`."""
        load_averaged_state(state, self._bare, self._average, self.optimizer, same_phase)
        self._reseed(state["progress"]["step"])


def random_scenes(seed: int, concepts: int, pair_share: float, held_out: bool, count: int = 128) -> list[Scene]:
    """Scenes of one side of the split."""
    rng = np.random.default_rng(seed)
    return [random_scene(rng, concepts, pair_share, held_out) for _ in range(count)]


def train(config: VitTraining, run: Run) -> Progress:
    """Train, or go on training, until the time budget is used."""
    return run_task(lambda accelerator: VitTask(config, run, accelerator), run, config.rate)


if __name__ == "__main__":
    train(VitTraining(), run_from(run_arguments(__doc__, minutes=60).parse_args()))
