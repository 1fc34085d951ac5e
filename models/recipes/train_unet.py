"""Trains the U-Net of the emoji suite from scratch, on latents and text vectors that `unet_cache` computed.

    python -m models.recipes.train_unet --minutes 90 --work-dir models/recipes/work

A `UNet2DConditionModel` as in Stable Diffusion, on SD 1.x's noise schedule, that predicts the velocity (Salimans and
Ho 2022, https://arxiv.org/abs/2202.00512): at high noise, where it is decided what the picture shows, velocity is the
picture itself, which a short training gets right sooner than the noise. A tenth of the captions are empty, for guidance
without a classifier. The curriculum goes from single centred objects to sizes and places to pairs.
"""

import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from diffusers import DDIMScheduler, UNet2DConditionModel
from diffusers.models.attention_processor import Attention
from PIL import Image
from torch import Tensor

from models.recipes.checkpoints import load_checkpoint, save_checkpoint
from models.recipes.concepts import load_concepts
from models.recipes.pictures import to_pictures
from models.recipes.optimizers import MuonAdamW
from models.recipes.shapes import LATENT_SIZE, UnetShape, build_unet
from models.recipes.trained import load_trained_clip, load_trained_vae
from models.recipes.training import (
    Budget,
    LearningRate,
    MovingAverage,
    make_accelerator,
    make_logger,
    set_learning_rate,
    trainer_arguments,
)
from models.recipes.unet_cache import KINDS, encode_captions

PREDICTION_TYPE = "v_prediction"


def build_scheduler() -> DDIMScheduler:
    """The noise schedule of Stable Diffusion 1.x, for a network that predicts velocity."""
    return DDIMScheduler(
        beta_start=0.00085,
        beta_end=0.012,
        beta_schedule="scaled_linear",
        clip_sample=False,
        set_alpha_to_one=False,
        steps_offset=1,
        prediction_type=PREDICTION_TYPE,
    )


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
    """The cached shards; `refresh` picks up those that were made since."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._shards: dict[str, dict] = {}
        self._members: list[list[tuple[str, int]]] = [[] for _ in KINDS]

    def __len__(self) -> int:
        return sum(map(len, self._members))

    def refresh(self) -> None:
        for file in sorted(self._folder.glob("shard_*.pt")):
            if file.name not in self._shards:
                shard = torch.load(file, weights_only=True, mmap=True)
                self._shards[file.name] = shard
                for picture, kind in enumerate(shard["kinds"].tolist()):
                    self._members[kind].append((file.name, picture))

    def batch(self, size: int, mix: Sequence[float], dropout: float, rng: np.random.Generator) -> UnetBatch:
        """`mix` weighs the KINDS; captions come in either language, and are empty with probability `dropout`."""
        weights = np.array([share if members else 0 for share, members in zip(mix, self._members)])
        latents, text = [], []
        for kind in rng.choice(len(KINDS), size=size, p=weights / weights.sum()):
            name, picture = self._members[kind][rng.integers(len(self._members[kind]))]
            shard = self._shards[name]
            rows = shard["captions"][picture]
            row = 0 if rng.random() < dropout else rows[rng.integers(len(rows))]  # row 0 is the empty caption
            latents.append(shard["latents"][picture])
            text.append(shard["text_vectors"][row])
        return UnetBatch(torch.stack(latents).float(), torch.stack(text).float())


def curriculum(progress: float) -> tuple[float, float, float]:
    """Shares of centred, placed and paired objects, moving over the first 70 % of the time."""
    amount = min(1.0, progress / 0.7)
    start, end = np.array([0.8, 0.15, 0.05]), np.array([0.35, 0.40, 0.25])
    return tuple(start + amount * (end - start))


def diffusion_loss(unet: UNet2DConditionModel, batch: UnetBatch, scheduler: DDIMScheduler) -> Tensor:
    """Mean squared error of the velocity.

    In terms of the picture, that weighs a timestep with SNR + 1; nearly clean timesteps are capped at 6, as in min-SNR
    weighting (Hang et al. 2023, https://arxiv.org/abs/2303.09556), because there only noise is left to learn.
    """
    noise = torch.randn_like(batch.latents)
    steps = torch.randint(scheduler.config.num_train_timesteps, (len(noise),), device=noise.device)
    noisy = scheduler.add_noise(batch.latents, noise, steps)
    target = scheduler.get_velocity(batch.latents, noise, steps)
    error = (unet(noisy, steps, batch.text).sample.float() - target).square().mean(dim=(1, 2, 3))
    alphas = scheduler.alphas_cumprod.to(noise.device)[steps]
    weight = (6 * (1 - alphas)).clamp(max=1)  # SNR + 1 = 1 / (1 - alpha)
    return (weight * error).mean()


@torch.no_grad()
def sample(
    unet: UNet2DConditionModel, text: Tensor, empty: Tensor, steps: int, guidance: float, seed: int
) -> Tensor:
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


@dataclass(frozen=True)
class UnetTraining:
    """Everything that `train` needs to know."""

    work_dir: Path
    minutes: float = 90
    font: Path | None = None
    batch: int | None = None
    threads: int | None = None
    max_steps: int | None = None
    learning_rate: float = 1.5e-3
    dropout: float = 0.1
    shape: UnetShape = UnetShape()
    checkpoint_minutes: float = 4
    probe_every: int = 2  # checkpoints
    seed: int = 4

    @property
    def checkpoint(self) -> Path:
        return self.work_dir / "unet.pt"


class Probe:
    """Draws some concepts and asks CLIP what they are."""

    def __init__(self, work_dir: Path, device: torch.device, count: int = 64) -> None:
        concepts = load_concepts()
        self._work_dir = work_dir
        self._clip, tokenizer = load_trained_clip(work_dir, concepts)
        self._clip.to(device)
        names = [concept.english_phrase(concept.name("en")) for concept in concepts]
        tokens = tokenizer(names, padding=True, return_tensors="pt").to(device)
        with torch.no_grad():
            self._names = F.normalize(self._clip.get_text_features(**tokens).pooler_output, dim=-1)
        chosen = np.random.default_rng(0).permutation(len(concepts))[:count]
        self._chosen = torch.from_numpy(chosen).to(device)
        self._text = encode_captions(self._clip.text_model, tokenizer, [names[i] for i in chosen]).float().to(device)
        self._empty = encode_captions(self._clip.text_model, tokenizer, [""]).float().to(device)

    @torch.no_grad()
    def __call__(self, unet: UNet2DConditionModel, guidance: float = 4.0) -> float:
        """Share of pictures recognised as what was asked for; leaves the pictures in `unet_probe.png`."""
        vae = load_trained_vae(self._work_dir).to(self._text.device)
        latents = sample(unet, self._text, self._empty, steps=12, guidance=guidance, seed=0)
        pixels = vae.decode(latents / vae.config.scaling_factor).sample.clamp(-1, 1)
        image = F.normalize(self._clip.get_image_features(pixel_values=pixels).pooler_output, dim=-1)
        pictures = to_pictures(pixels)
        rows = [np.concatenate(pictures[i : i + 16], axis=1) for i in range(0, len(pictures) // 16 * 16, 16)]
        if rows:
            Image.fromarray(np.concatenate(rows)).save(self._work_dir / "unet_probe.png")
        return ((image @ self._names.T).argmax(-1) == self._chosen).float().mean().item()


def train(config: UnetTraining) -> None:
    """Train, or go on training, until the time budget is used."""
    accelerator = make_accelerator(config.threads)
    device = accelerator.device
    log = make_logger("unet", config.work_dir)
    shards = LatentShards(config.work_dir / "unet_cache")
    shards.refresh()
    if not len(shards):
        raise FileNotFoundError(f"no shards in {config.work_dir}: run `python -m models.recipes.unet_cache` first")
    torch.manual_seed(config.seed)
    unet = build_unet(config.shape)
    if device.type == "cpu":
        unet.set_attn_processor(MatmulAttention())
    average = MovingAverage(unet)
    state = load_checkpoint(config.checkpoint)
    if state is not None:
        unet.load_state_dict(state["model"])
        average.load_state_dict(state["average"])
    unet = accelerator.prepare(unet)
    bare_unet = accelerator.unwrap_model(unet)
    optimizer = MuonAdamW(bare_unet, config.learning_rate)
    step, spent = 0, 0.0
    if state is not None:
        optimizer.load_state_dict(state["optimizer"])
        step, spent = state["step"], state["seconds"]
    scheduler = build_scheduler()
    schedule = LearningRate(config.learning_rate, warmup=100)
    budget = Budget(config.minutes, spent)
    batch_size = config.batch or (512 if device.type == "cuda" else 32)
    last_step = step + config.max_steps if config.max_steps else None
    rng = np.random.default_rng([config.seed, step])
    torch.manual_seed(config.seed + step)
    probe = Probe(config.work_dir, device)
    log.info("unet: %.2fM parameters, %d pictures", sum(p.numel() for p in unet.parameters()) / 1e6, len(shards))

    def save() -> None:
        save_checkpoint(
            config.checkpoint,
            {
                "model": bare_unet.state_dict(),
                "average": average.state_dict(),
                "optimizer": optimizer.state_dict(),
                "shape": asdict(config.shape),
                "step": step,
                "seconds": budget.seconds,
            },
        )

    saved, saves, since, losses = budget.seconds, 0, time.monotonic(), []
    while budget.progress < 1 and (last_step is None or step < last_step):
        set_learning_rate(optimizer, schedule.at(step, budget.progress))
        batch = shards.batch(batch_size, curriculum(budget.progress), config.dropout, rng)
        with accelerator.autocast():
            loss = diffusion_loss(unet, UnetBatch(batch.latents.to(device), batch.text.to(device)), scheduler)
        accelerator.backward(loss)
        accelerator.clip_grad_norm_(unet.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
        average.update(bare_unet)
        step += 1
        losses.append(loss.item())
        if len(losses) == 100:
            rate = batch_size * len(losses) / (time.monotonic() - since)
            log.info("step %d (%.0f%%) loss %.4f  %.1f samples/s", step, 100 * budget.progress, np.mean(losses), rate)
            since, losses = time.monotonic(), []
        if budget.seconds - saved > 60 * config.checkpoint_minutes:
            saved, saves = budget.seconds, saves + 1
            save()
            shards.refresh()
            if saves % config.probe_every == 0:
                with average.swapped_into(bare_unet), accelerator.autocast():
                    log.info("step %d recognised %.1f%%", step, 100 * probe(bare_unet))
            since, losses = time.monotonic(), []
    save()
    log.info("done: step %d, %.1f minutes", step, budget.seconds / 60)


def main() -> None:
    parser = trainer_arguments(__doc__, minutes=90)
    parser.add_argument("--learning-rate", type=float, default=UnetTraining.learning_rate)
    train(UnetTraining(**vars(parser.parse_args())))


if __name__ == "__main__":
    main()
