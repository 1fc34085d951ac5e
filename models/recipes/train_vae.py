"""Trains the VAE of the emoji suite from scratch: 128x128x3 pictures <-> 16x16x4 latents.

    python -m models.recipes.train_vae --minutes 60 --work-dir models/recipes/work

An `AutoencoderKL` as in latent diffusion (Rombach et al. 2022, https://arxiv.org/abs/2112.10752), without its
adversarial and perceptual losses: L1 and MSE on pixels, L1 on their differences (edges), and a tiny KL term. It is
fully convolutional, so on a CPU most steps see 64x64 crops around objects, where the detail is; the rest see whole
pictures, because group normalisation averages over the picture, and a crop of a cat has other averages than a cat on a
large background. A GPU sees whole pictures only: there drawing and starting kernels take the time, not the pixels.

`--freeze-encoder` goes on with the decoder alone: the U-Net draws latents, which must not change under it.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from accelerate import Accelerator
from diffusers import AutoencoderKL
from torch import Tensor, nn
from torch.utils.data import DataLoader, IterableDataset, get_worker_info

from models.recipes.concepts import load_concepts
from models.recipes.draw import PICTURE_SIZE, SpriteSheet, draw, require_font
from models.recipes.optimizers import MuonAdamW
from models.recipes.pictures import to_pixels
from models.recipes.scenes import random_scene
from models.recipes.shapes import VaeShape, build_vae
from models.recipes.trained import is_trained, load_trained_vae
from models.recipes.training import (
    LearningRate,
    MovingAverage,
    Progress,
    Run,
    averaged_state,
    drawing_workers,
    load_averaged_state,
    prepared,
    run_arguments,
    run_from,
    run_task,
    step_all,
)

CROP_SIZE = 64
CROPS_PER_PICTURE = (PICTURE_SIZE // CROP_SIZE) ** 2  # as many pixels, so as much time


class Redrawing(nn.Module):
    """The VAE as a function of tensors: pixels to what it draws of them, and the posterior's mean and log variance."""

    def __init__(self, vae: AutoencoderKL) -> None:
        super().__init__()
        self.vae = vae

    def forward(self, pixels: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """(batch, 3, height, width) -> the same, and twice (batch, 4, height / 8, width / 8)."""
        posterior = self.vae.encode(pixels).latent_dist
        return self.vae.decode(posterior.sample()).sample, posterior.mean, posterior.logvar


def vae_loss(redraw: nn.Module, pixels: Tensor, kl_weight: float) -> tuple[Tensor, float]:
    """Loss of (batch, 3, height, width) pixels in [-1, 1], and their mean squared error on the [0, 1] scale."""
    decoded, mean, logvar = (tensor.float() for tensor in redraw(pixels))
    error = decoded - pixels
    edges = (error.diff(dim=-1).abs().mean() + error.diff(dim=-2).abs().mean()) / 2
    mse = error.square().mean()
    kl = 0.5 * (mean.square() + logvar.exp() - 1 - logvar).mean()
    return error.abs().mean() + edges + 2 * mse + kl_weight * kl, mse.item() / 4


class Pictures:
    """Draws batches for the VAE, as uint8: crops around objects, or whole pictures."""

    def __init__(self, sheet: SpriteSheet, rng: np.random.Generator, held_out: bool = False) -> None:
        self._sheet = sheet
        self._rng = rng
        self._held_out = held_out

    def whole(self, count: int) -> np.ndarray:
        """(count, 128, 128, 3)"""
        return np.stack([self._draw() for _ in range(count)])

    def crops(self, count: int) -> np.ndarray:
        """(count, 64, 64, 3), two a picture."""
        pictures = [self._draw() for _ in range((count + 1) // 2)]
        return np.stack([self._crop(picture) for picture in pictures for _ in range(2)][:count])

    def _draw(self) -> np.ndarray:
        scene = random_scene(self._rng, len(self._sheet), pair_share=0.3, held_out=self._held_out)
        return draw(scene, self._sheet, self._rng)

    def _crop(self, picture: np.ndarray) -> np.ndarray:
        """A crop around a random pixel of an object; every eighth is anywhere."""
        if self._rng.random() < 1 / 8:
            center = self._rng.integers(PICTURE_SIZE, size=2)
        else:
            corner = picture[0, 0].astype(int)
            foreground = np.argwhere(np.abs(picture - corner).max(axis=-1) > 8)
            center = foreground[self._rng.integers(len(foreground))]
        top, left = (center - CROP_SIZE // 2).clip(0, PICTURE_SIZE - CROP_SIZE)
        return picture[top : top + CROP_SIZE, left : left + CROP_SIZE]


class DrawnBatches(IterableDataset):
    """An endless stream of batches: `count` whole pictures, or as many pixels in crops. Each worker draws its own."""

    def __init__(self, sheet: SpriteSheet, seed: Sequence[int], count: int, whole: bool) -> None:
        self._sheet, self._seed, self._count, self._whole = sheet, seed, count, whole

    def __iter__(self) -> Iterator[np.ndarray]:
        worker = get_worker_info()
        rng = np.random.default_rng([*self._seed, self._whole, worker.id if worker else 0])
        pictures = Pictures(self._sheet, rng)
        while True:
            yield pictures.whole(self._count) if self._whole else pictures.crops(self._count)


@torch.no_grad()
def reconstruct(vae: AutoencoderKL, pixels: Tensor) -> Tensor:
    """Encode to the posterior's mean, decode, clamp to [-1, 1]."""
    return vae.decode(vae.encode(pixels).latent_dist.mean).sample.clamp(-1, 1)


def psnr(pixels: Tensor, reconstruction: Tensor) -> Tensor:
    """Peak signal-to-noise ratio of each picture in decibels; both (batch, 3, height, width) in [-1, 1]."""
    mse = (pixels - reconstruction).div(2).square().mean(dim=(1, 2, 3))
    return -10 * torch.log10(mse)


@torch.no_grad()
def normalise_latents(vae: AutoencoderKL, pixels: Tensor) -> float:
    """Give each latent channel mean 0 and variance 1 over `pixels`, without changing what the VAE draws.

    The shift and the scale are folded into the two 1x1 convolutions around the latent. Returns `scaling_factor`: one
    over the standard deviation of sampled latents, which is then near 1.
    """
    channels = vae.config.latent_channels
    latents = torch.cat([vae.encode(part).latent_dist.mean for part in pixels.split(16)])
    mean, std = latents.mean(dim=(0, 2, 3)), latents.std(dim=(0, 2, 3))
    into, out = vae.quant_conv, vae.post_quant_conv
    into.weight[:channels] /= std[:, None, None, None]
    into.bias[:channels] = (into.bias[:channels] - mean) / std
    into.bias[channels:] -= 2 * std.log()
    out.bias += out.weight[..., 0, 0] @ mean
    out.weight *= std[None, :, None, None]
    return latent_scale(vae, pixels.split(16))


@torch.no_grad()
def latent_scale(vae: AutoencoderKL, batches: Sequence[Tensor]) -> float:
    """One over the standard deviation of sampled latents: `scaling_factor`, so that the U-Net sees unit variance."""
    latents = torch.cat([vae.encode(pixels).latent_dist.sample().flatten() for pixels in batches])
    return 1 / latents.std().item()


RATE = LearningRate(2e-3, warmup=50)
DECODER_RATE = LearningRate(1e-3, warmup=50)
SHAPE = VaeShape()


@dataclass(frozen=True)
class VaeTraining:
    """Everything about the training but its time and place. `freeze_encoder` trains the decoder alone."""

    freeze_encoder: bool = False
    rate: LearningRate = RATE
    kl_weight: float = 5e-4
    shape: VaeShape = SHAPE
    seed: int = 2


class VaeTask:
    """The VAE under training (see `training.Task`)."""

    name = "vae"

    def __init__(self, config: VaeTraining, run: Run, accelerator: Accelerator) -> None:
        self.phase = "decoder" if config.freeze_encoder else "both halves"
        self._config = config
        self._accelerator = accelerator
        self._sheet = SpriteSheet(load_concepts(), require_font(run.font))
        torch.manual_seed(config.seed)
        self._scaling_factor = 1.0
        if run.exported is not None and not is_trained(run.work_dir, self.name):
            self._bare = load_trained_vae(run.work_dir, run.exported).train()
            self._scaling_factor = self._bare.config.scaling_factor
        else:
            self._bare = build_vae(config.shape)
        if config.freeze_encoder:
            self._bare.encoder.requires_grad_(False)
            self._bare.quant_conv.requires_grad_(False)
        self._on_gpu = accelerator.device.type == "cuda"
        self.batch_size = run.batch or (768 if self._on_gpu else 8)
        self._whole_pictures = max(1, self.batch_size // CROPS_PER_PICTURE)
        example = torch.zeros(self._whole_pictures, 3, PICTURE_SIZE, PICTURE_SIZE)
        self._redraw = prepared(accelerator, Redrawing(self._bare), (example,))
        self._average = MovingAverage(self._bare)
        self.optimizer = MuonAdamW(self._bare, config.rate.peak)
        self._reseed(0)
        self._held_out = to_pixels(Pictures(self._sheet, np.random.default_rng(99), held_out=True).whole(32))

    def _reseed(self, step: int) -> None:
        """Other pictures in each process, and after each break."""
        seed = (self._config.seed, self._accelerator.process_index, step)
        self._rng = np.random.default_rng(seed)
        self._whole = self._drawn(seed, self._whole_pictures, whole=True)
        self._crops = None if self._on_gpu else self._drawn(seed, self.batch_size, whole=False)

    def _drawn(self, seed: Sequence[int], count: int, whole: bool) -> Iterator[Tensor]:
        """(count, height, width, 3) uint8, drawn ahead by other processes where one would be too slow."""
        batches = DrawnBatches(self._sheet, seed, count, whole)
        return iter(DataLoader(batches, batch_size=None, num_workers=drawing_workers(self._accelerator)))

    def _next(self, progress: float) -> Tensor:
        """(batch, 3, height, width): crops mostly at first, whole pictures mostly in the second half."""
        whole = self._crops is None or self._rng.random() < (0.15 if progress < 0.5 else 0.6)
        return to_pixels(next(self._whole if whole else self._crops).to(self._accelerator.device))

    def step(self, progress: float) -> dict[str, float]:
        """See `training.Task`."""
        pixels = self._next(progress)
        with self._accelerator.autocast():
            loss, mse = vae_loss(self._redraw, pixels, self._config.kl_weight)
        step_all(self._accelerator, self.optimizer, self._bare, self._average, loss)
        return {"loss": loss.item(), "mse": mse}

    def probe(self) -> dict[str, float]:
        """See `training.Task`."""
        with self._average.swapped_into(self._bare):
            redrawn = reconstruct(self._bare, self._held_out.to(self._accelerator.device)).cpu()
        return {"held-out PSNR": psnr(self._held_out, redrawn).mean().item()}

    def state_dict(self) -> dict[str, Any]:
        """See `training.Task`."""
        return averaged_state(
            self._bare, self._average, self.optimizer, self._config.shape, scaling_factor=self._scaling_factor
        )

    def load_state_dict(self, state: dict[str, Any], same_phase: bool) -> None:
        """See `training.Task`."""
        self._scaling_factor = state["scaling_factor"]
        self._reseed(state["progress"]["step"])
        if same_phase:
            load_averaged_state(state, self._bare, self._average, self.optimizer, same_phase)
            return
        self._bare.load_state_dict(state["average"]["weights"])
        if self._config.freeze_encoder:
            sample = to_pixels(Pictures(self._sheet, np.random.default_rng(98)).whole(128))
            self._scaling_factor = normalise_latents(self._bare, sample.to(self._accelerator.device))
        self._average = MovingAverage(self._bare)


def train(config: VaeTraining, run: Run) -> Progress:
    """Train, or go on training, until the time budget is used."""
    return run_task(lambda accelerator: VaeTask(config, run, accelerator), run, config.rate)


def main() -> None:
    """Read the flags and train."""
    parser = run_arguments(__doc__, minutes=60)
    parser.add_argument("--freeze-encoder", action="store_true", help="train the decoder alone")
    flags = parser.parse_args()
    rate = DECODER_RATE if flags.freeze_encoder else RATE
    train(VaeTraining(freeze_encoder=flags.freeze_encoder, rate=rate), run_from(flags))


if __name__ == "__main__":
    main()
