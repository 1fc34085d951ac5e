"""Trains the U-Net of the emoji suite from scratch, on latents and text vectors that `unet_cache` computed.

    python -m models.recipes.train_unet --minutes 90 --work-dir models/recipes/work

A `UNet2DConditionModel` as in Stable Diffusion, on SD 1.x's noise schedule, that predicts the velocity (Salimans and
Ho 2022, https://arxiv.org/abs/2202.00512): at high noise, where it is decided what the picture shows, velocity is the
picture itself, which a short training gets right sooner than the noise. A tenth of the captions are empty, for guidance
without a classifier. The curriculum goes from single centred objects to sizes and places to pairs.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from accelerate import Accelerator
from diffusers import DDIMScheduler, UNet2DConditionModel
from diffusers.models.attention_processor import Attention
from PIL import Image
from torch import Tensor, nn
from torch.nn import functional

from models.recipes.concepts import load_concepts
from models.recipes.optimizers import MuonAdamW
from models.recipes.pictures import to_pictures
from models.recipes.shapes import LATENT_SIZE, UnetShape, build_scheduler, build_unet
from models.recipes.tokenizer import POSITIONS
from models.recipes.trained import is_trained, load_trained_clip, load_trained_unet, load_trained_vae
from models.recipes.training import (
    LearningRate,
    MovingAverage,
    Progress,
    Run,
    averaged_state,
    load_averaged_state,
    prepared,
    run_arguments,
    run_from,
    run_task,
    step_all,
)
from models.recipes.unet_cache import KINDS, encode_captions


class MatmulAttention:
    """An attention processor of plain matrix products: on a CPU, for heads this small, faster than fused attention."""

    def __call__(
        self, attn: Attention, hidden_states: Tensor, encoder_hidden_states: Tensor | None = None, **_: object
    ) -> Tensor:
        """(batch, queries, width), (batch, keys, width) -> (batch, queries, width)"""
        context = hidden_states if encoder_hidden_states is None else encoder_hidden_states
        query, key, value = (
            layer(source).unflatten(-1, (attn.heads, -1)).transpose(1, 2)
            for layer, source in ((attn.to_q, hidden_states), (attn.to_k, context), (attn.to_v, context))
        )
        weights = (query * attn.scale @ key.transpose(-1, -2)).softmax(dim=-1, dtype=query.dtype)
        return attn.to_out[0]((weights @ value).transpose(1, 2).flatten(2))


@dataclass(frozen=True)
class UnetBatch:
    """Latents (batch, 4, 16, 16) and text vectors (batch, 77, width)."""

    latents: Tensor
    text: Tensor


class LatentShards:
    """The cached shards; `refresh` picks up those that were made since.

    On a CPU they stay in their files. A GPU reads batches faster than they can be sent to it, so it holds them: 30 KiB
    a caption.
    """

    def __init__(self, folder: Path, device: torch.device) -> None:
        self._folder = folder
        self._device = device
        self._shards: dict[str, dict[str, Tensor]] = {}
        self._members = [np.empty((0, 2), int) for _ in KINDS]  # by kind: number of the shard, and row in it

    def __len__(self) -> int:
        return sum(map(len, self._members))

    def refresh(self) -> None:
        """Open the shards that are not open yet."""
        for file in sorted(self._folder.glob("shard_*.pt")):
            if file.name not in self._shards:
                shard = torch.load(file, weights_only=True, mmap=True)
                kinds = shard["kinds"].numpy()
                for kind in range(len(KINDS)):
                    rows = np.flatnonzero(kinds == kind)
                    members = np.stack([np.full_like(rows, len(self._shards)), rows], axis=1)
                    self._members[kind] = np.concatenate([self._members[kind], members])
                self._shards[file.name] = {
                    name: shard[name].to(self._device) for name in ("latents", "captions", "text_vectors")
                }

    def batch(self, size: int, mix: Sequence[float], dropout: float, rng: np.random.Generator) -> UnetBatch:
        """`mix` weighs the KINDS; captions come in either language, and are empty with probability `dropout`."""
        weights = np.array([share if len(members) else 0 for share, members in zip(mix, self._members, strict=True)])
        counts = rng.multinomial(size, weights / weights.sum())
        chosen = np.concatenate(
            [
                members[rng.integers(len(members), size=count)]
                for members, count in zip(self._members, counts, strict=True)
                if count
            ]
        )
        parts = [
            self._read(shard, chosen[chosen[:, 0] == number, 1], dropout, rng)
            for number, shard in enumerate(self._shards.values())
        ]
        return UnetBatch(torch.cat([part.latents for part in parts]), torch.cat([part.text for part in parts]))

    def _read(self, shard: dict[str, Tensor], rows: np.ndarray, dropout: float, rng: np.random.Generator) -> UnetBatch:
        pictures = torch.from_numpy(rows).to(self._device)
        language = torch.from_numpy(rng.integers(shard["captions"].shape[1], size=len(rows))).to(self._device)
        said = torch.from_numpy(rng.random(len(rows)) >= dropout).to(self._device)
        captions = shard["captions"][pictures, language] * said  # row 0 is the empty caption
        return UnetBatch(shard["latents"][pictures].float(), shard["text_vectors"][captions].float())


def curriculum(progress: float) -> tuple[float, float, float]:
    """Shares of centred, placed and paired objects, moving over the first 70 % of the time."""
    amount = min(1.0, progress / 0.7)
    start, end = np.array([0.8, 0.15, 0.05]), np.array([0.30, 0.35, 0.35])
    return tuple(start + amount * (end - start))


class Velocity(nn.Module):
    """The U-Net as a function of tensors: noisy latents, timesteps (batch,) and text vectors to velocities."""

    def __init__(self, unet: UNet2DConditionModel) -> None:
        super().__init__()
        self.unet = unet

    def forward(self, noisy: Tensor, steps: Tensor, text: Tensor) -> Tensor:
        """(batch, 4, 16, 16), (batch,), (batch, 77, width) -> (batch, 4, 16, 16)"""
        return self.unet(noisy, steps, text, return_dict=False)[0]


def diffusion_loss(velocity: nn.Module, latents: Tensor, text: Tensor, scheduler: DDIMScheduler) -> Tensor:
    """Mean squared error of the velocity, for latents (batch, 4, 16, 16) and text vectors (batch, 77, width).

    In terms of the picture, that weighs a timestep with SNR + 1; nearly clean timesteps are capped at 6, as in min-SNR
    weighting (Hang et al. 2023, https://arxiv.org/abs/2303.09556), because there only noise is left to learn.
    """
    noise = torch.randn_like(latents)
    steps = torch.randint(scheduler.config.num_train_timesteps, (len(noise),), device=noise.device)
    noisy = scheduler.add_noise(latents, noise, steps)
    target = scheduler.get_velocity(latents, noise, steps)
    error = (velocity(noisy, steps, text).float() - target).square().mean(dim=(1, 2, 3))
    alphas = scheduler.alphas_cumprod.to(noise.device)[steps]
    weight = (6 * (1 - alphas)).clamp(max=1)  # SNR + 1 = 1 / (1 - alpha)
    return (weight * error).mean()


@torch.no_grad()
def sample(unet: UNet2DConditionModel, text: Tensor, empty: Tensor, steps: int, guidance: float, seed: int) -> Tensor:
    """Guided DDIM: text vectors (batch, 77, width) and those of "" (1, 77, width) -> latents (batch, 4, 16, 16)."""
    scheduler = build_scheduler()
    scheduler.set_timesteps(steps)
    generator = torch.Generator().manual_seed(seed)
    latents = torch.randn(len(text), 4, LATENT_SIZE, LATENT_SIZE, generator=generator).to(text.device)
    context = torch.cat([empty.expand_as(text), text])
    for step in scheduler.timesteps:
        plain, guided = unet(torch.cat([latents, latents]), step, context).sample.float().chunk(2)
        latents = scheduler.step(plain + guidance * (guided - plain), step, latents).prev_sample
    return latents


class Probe:
    """Draws some concepts and asks CLIP what they are."""

    def __init__(self, run: Run, device: torch.device, count: int = 64) -> None:
        concepts = load_concepts()
        self._run = run
        self._clip, tokenizer = load_trained_clip(run.work_dir, run.exported)
        self._clip.to(device)
        names = [concept.english_phrase(concept.name("en")) for concept in concepts]
        tokens = tokenizer(names, padding=True, return_tensors="pt").to(device)
        with torch.no_grad():
            self._names = functional.normalize(self._clip.get_text_features(**tokens).pooler_output, dim=-1)
        chosen = np.random.default_rng(0).permutation(len(concepts))[:count]
        self._chosen = torch.from_numpy(chosen).to(device)
        self._text = encode_captions(self._clip.text_model, tokenizer, [names[i] for i in chosen]).float().to(device)
        self._empty = encode_captions(self._clip.text_model, tokenizer, [""]).float().to(device)

    @torch.no_grad()
    def __call__(self, unet: UNet2DConditionModel, guidance: float = 4.0) -> float:
        """Share of pictures recognised as what was asked for; leaves the pictures in `unet_probe.png`."""
        vae = load_trained_vae(self._run.work_dir, self._run.exported).to(self._text.device)
        latents = sample(unet, self._text, self._empty, steps=12, guidance=guidance, seed=0)
        pixels = vae.decode(latents / vae.config.scaling_factor).sample.clamp(-1, 1)
        image = functional.normalize(self._clip.get_image_features(pixel_values=pixels).pooler_output, dim=-1)
        pictures = to_pictures(pixels)
        rows = [np.concatenate(pictures[i : i + 16], axis=1) for i in range(0, len(pictures) // 16 * 16, 16)]
        if rows:
            Image.fromarray(np.concatenate(rows)).save(self._run.work_dir / "unet_probe.png")
        return ((image @ self._names.T).argmax(-1) == self._chosen).float().mean().item()


RATE = LearningRate(1.5e-3, warmup=100)
SHAPE = UnetShape()


@dataclass(frozen=True)
class UnetTraining:
    """Everything about the training but its time and place. `dropout` is the share of empty captions."""

    rate: LearningRate = RATE
    dropout: float = 0.1
    shape: UnetShape = SHAPE
    seed: int = 4


class UnetTask:
    """The U-Net under training (see `training.Task`)."""

    name = "unet"
    phase = "latents"

    def __init__(self, config: UnetTraining, run: Run, accelerator: Accelerator) -> None:
        self._config = config
        self._accelerator = accelerator
        self._shards = LatentShards(run.work_dir / "unet_cache", accelerator.device)
        self._shards.refresh()
        if not len(self._shards):
            raise FileNotFoundError(f"no shards in {run.work_dir}: run `python -m models.recipes.unet_cache` first")
        torch.manual_seed(config.seed)
        if run.exported is not None and not is_trained(run.work_dir, self.name):
            self._bare = load_trained_unet(run.work_dir, run.exported).train()
        else:
            self._bare = build_unet(config.shape)
        if accelerator.device.type == "cpu":
            self._bare.set_attn_processor(MatmulAttention())
        self.batch_size = run.batch or (1024 if accelerator.device.type == "cuda" else 32)
        example = (
            torch.zeros(self.batch_size, 4, LATENT_SIZE, LATENT_SIZE),
            torch.zeros(self.batch_size, dtype=torch.long),
            torch.zeros(self.batch_size, POSITIONS, self._bare.config.cross_attention_dim),
        )
        self._velocity = prepared(accelerator, Velocity(self._bare), example)
        self._average = MovingAverage(self._bare)
        self._scheduler = build_scheduler()
        self.optimizer = MuonAdamW(self._bare, config.rate.peak)
        self._probe = Probe(run, accelerator.device)
        self._reseed(0)

    def _reseed(self, step: int) -> None:
        """Other pictures and other noise in each process, and after each break."""
        seed = [self._config.seed, self._accelerator.process_index, step]
        self._rng = np.random.default_rng(seed)
        torch.manual_seed(int(self._rng.integers(2**32)))

    def step(self, progress: float) -> dict[str, float]:
        """See `training.Task`."""
        batch = self._shards.batch(self.batch_size, curriculum(progress), self._config.dropout, self._rng)
        with self._accelerator.autocast():
            loss = diffusion_loss(self._velocity, batch.latents, batch.text, self._scheduler)
        step_all(self._accelerator, self.optimizer, self._bare, self._average, loss)
        return {"loss": loss.item()}

    def probe(self) -> dict[str, float]:
        """See `training.Task`."""
        self._shards.refresh()
        with self._average.swapped_into(self._bare), self._accelerator.autocast():
            return {"recognised": self._probe(self._bare), "pictures": len(self._shards)}

    def state_dict(self) -> dict[str, Any]:
        """See `training.Task`."""
        return averaged_state(self._bare, self._average, self.optimizer, self._config.shape)

    def load_state_dict(self, state: dict[str, Any], same_phase: bool) -> None:
        """See `training.Task`."""
        load_averaged_state(state, self._bare, self._average, self.optimizer, same_phase)
        self._reseed(state["progress"]["step"])


def train(config: UnetTraining, run: Run) -> Progress:
    """Train, or go on training, until the time budget is used."""
    return run_task(lambda accelerator: UnetTask(config, run, accelerator), run, config.rate)


if __name__ == "__main__":
    train(UnetTraining(), run_from(run_arguments(__doc__, minutes=90).parse_args()))
