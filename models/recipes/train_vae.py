"""Trains the VAE of the emoji suite from scratch: 128x128x3 pictures <-> 16x16x4 latents.

    python -m models.recipes.train_vae --minutes 60 --work-dir models/recipes/work

An `AutoencoderKL` as in latent diffusion (Rombach et al. 2022, https://arxiv.org/abs/2112.10752), without the
adversarial and perceptual losses: L1 and MSE on pixels, L1 on their differences (edges), and a tiny KL term. It is fully
convolutional, so most steps see 64x64 crops around objects, where the detail is; the rest see whole pictures, because
group normalisation averages over the picture and a crop of a cat has other averages than a cat on a large background.

`--freeze-encoder` goes on with the decoder alone: the U-Net draws latents, which must not change under it.
"""

import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
from diffusers import AutoencoderKL
from torch import Tensor

from models.recipes.checkpoints import load_checkpoint, save_checkpoint
from models.recipes.concepts import load_concepts
from models.recipes.draw import PICTURE_SIZE, SpriteSheet, draw, require_font
from models.recipes.optimizers import MuonAdamW
from models.recipes.pictures import to_pixels
from models.recipes.scenes import random_scene
from models.recipes.shapes import VaeShape, build_vae
from models.recipes.training import (
    Budget,
    LearningRate,
    MovingAverage,
    make_accelerator,
    make_logger,
    set_learning_rate,
    trainer_arguments,
)

CROP_SIZE = 64
CROPS_PER_PICTURE = (PICTURE_SIZE // CROP_SIZE) ** 2  # as many pixels, so as much time


def vae_loss(vae: AutoencoderKL, pixels: Tensor, kl_weight: float) -> tuple[Tensor, float]:
    """Loss of (batch, 3, height, width) pixels in [-1, 1], and their mean squared error on the [0, 1] scale."""
    posterior = vae.encode(pixels).latent_dist
    decoded = vae.decode(posterior.sample()).sample.float()
    error = decoded - pixels
    edges = (error.diff(dim=-1).abs().mean() + error.diff(dim=-2).abs().mean()) / 2
    mse = error.square().mean()
    mean, logvar = posterior.mean.float(), posterior.logvar.float()
    kl = 0.5 * (mean.square() + logvar.exp() - 1 - logvar).mean()
    return error.abs().mean() + edges + 2 * mse + kl_weight * kl, mse.item() / 4


class Pictures:
    """Draws batches for the VAE: crops around objects, or whole pictures."""

    def __init__(self, sheet: SpriteSheet, seed: int, held_out: bool = False) -> None:
        self._sheet = sheet
        self._rng = np.random.default_rng(seed)
        self._held_out = held_out

    def whole(self, count: int) -> Tensor:
        """(count, 3, 128, 128)"""
        return to_pixels(np.stack([self._draw() for _ in range(count)]))

    def crops(self, count: int) -> Tensor:
        """(count, 3, 64, 64), two a picture."""
        pictures = [self._draw() for _ in range((count + 1) // 2)]
        return to_pixels(np.stack([self._crop(picture) for picture in pictures for _ in range(2)][:count]))

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


@dataclass(frozen=True)
class VaeTraining:
    """Everything that `train` needs to know."""

    work_dir: Path
    minutes: float = 60
    font: Path | None = None
    batch: int | None = None
    threads: int | None = None
    max_steps: int | None = None
    freeze_encoder: bool = False
    learning_rate: float = 2e-3
    kl_weight: float = 5e-4
    shape: VaeShape = VaeShape()
    checkpoint_minutes: float = 3
    seed: int = 2

    @property
    def checkpoint(self) -> Path:
        return self.work_dir / "vae.pt"


def train(config: VaeTraining) -> None:
    """Train, or go on training, until the time budget is used."""
    accelerator = make_accelerator(config.threads)
    device = accelerator.device
    log = make_logger("vae", config.work_dir)
    sheet = SpriteSheet(load_concepts(), require_font(config.font))
    torch.manual_seed(config.seed)
    vae = build_vae(config.shape)
    average = MovingAverage(vae)
    scaling_factor = 1.0
    step, spent = 0, 0.0
    state = load_checkpoint(config.checkpoint)
    same_phase = state is not None and state["freeze_encoder"] == config.freeze_encoder
    if state is not None:
        # A new phase starts from the averages: those are the latents that the U-Net learns.
        vae.load_state_dict(state["model"] if same_phase else state["average"]["weights"])
        average.load_state_dict(state["average"])
        scaling_factor = state["scaling_factor"]
    if config.freeze_encoder and not same_phase:
        scaling_factor = normalise_latents(vae, Pictures(sheet, seed=98).whole(128))
        average = MovingAverage(vae)
        log.info("encoder frozen, scaling factor %.4f", scaling_factor)
    if config.freeze_encoder:
        vae.encoder.requires_grad_(False)
        vae.quant_conv.requires_grad_(False)
    trained = [p for p in vae.parameters() if p.requires_grad]
    vae = accelerator.prepare(vae)
    optimizer = MuonAdamW(accelerator.unwrap_model(vae), config.learning_rate)
    if state is not None and same_phase:
        optimizer.load_state_dict(state["optimizer"])
        step, spent = state["step"], state["seconds"]
    pictures = Pictures(sheet, seed=config.seed + 1000 * step)
    held_out = Pictures(sheet, seed=99, held_out=True).whole(48)
    batch = config.batch or (256 if device.type == "cuda" else 8)
    schedule = LearningRate(config.learning_rate, warmup=50)
    budget = Budget(config.minutes, spent)
    last_step = step + config.max_steps if config.max_steps else None
    log.info("vae: %.2fM parameters", sum(p.numel() for p in vae.parameters()) / 1e6)

    def save() -> None:
        save_checkpoint(
            config.checkpoint,
            {
                "model": accelerator.unwrap_model(vae).state_dict(),
                "average": average.state_dict(),
                "optimizer": optimizer.state_dict(),
                "shape": asdict(config.shape),
                "freeze_encoder": config.freeze_encoder,
                "scaling_factor": scaling_factor,
                "step": step,
                "seconds": budget.seconds,
            },
        )

    if config.freeze_encoder and not same_phase:
        save()  # from here on the latents stand
    saved, since, errors = budget.seconds, time.monotonic(), []
    while budget.progress < 1 and (last_step is None or step < last_step):
        set_learning_rate(optimizer, schedule.at(step, budget.progress))
        whole = np.random.default_rng(step).random() < (0.15 if budget.progress < 0.5 else 0.6)
        pixels = pictures.whole(max(1, batch // CROPS_PER_PICTURE)) if whole else pictures.crops(batch)
        pixels = pixels.to(device)
        with accelerator.autocast():
            loss, mse = vae_loss(vae, pixels, config.kl_weight)
        accelerator.backward(loss)
        accelerator.clip_grad_norm_(trained, 1.0)
        optimizer.step()
        optimizer.zero_grad()
        average.update(accelerator.unwrap_model(vae))
        step += 1
        errors.append(mse)
        if len(errors) == 100:
            rate = batch * len(errors) / (time.monotonic() - since)
            decibels = -10 * np.log10(np.mean(errors))
            log.info("step %d (%.0f%%) %.2f dB  %.1f crops/s", step, 100 * budget.progress, decibels, rate)
            since, errors = time.monotonic(), []
        if budget.seconds - saved > 60 * config.checkpoint_minutes:
            saved = budget.seconds
            save()
            with average.swapped_into(vae):
                quality = psnr(held_out, reconstruct(vae, held_out.to(device)).cpu()).mean()
            log.info("step %d held-out PSNR %.2f dB", step, quality)
    save()
    log.info("done: step %d, %.1f minutes", step, budget.seconds / 60)


def main() -> None:
    parser = trainer_arguments(__doc__, minutes=60)
    parser.add_argument("--freeze-encoder", action="store_true", help="train the decoder alone")
    parser.add_argument("--learning-rate", type=float, default=VaeTraining.learning_rate)
    train(VaeTraining(**vars(parser.parse_args())))


if __name__ == "__main__":
    main()
