"""Trains the CLIP of the emoji suite from scratch.

    python -m models.recipes.train_clip --minutes 40 --work-dir models/recipes/work

The loss is CLIP's (Radford et al. 2021, https://arxiv.org/abs/2103.00020): symmetric cross-entropy over the cosine
similarities of a batch. Three things make it learn objects in an hour of two cores, instead of background colours:

* hard batches: one background, size and place for all pictures, all concepts different;
* a proxy loss (Movshovitz-Attias et al. 2017, https://arxiv.org/abs/1703.07464): a learned vector a concept, a
  background, a size and a place, against which every picture and every caption is classified, so that each step sees
  all classes and not only the batch's; the vectors are thrown away after training;
* captions leave attributes out half of the time, and use synonyms and bare nouns in both languages.

`--freeze-text` goes on with the vision tower alone: the U-Net reads the text tower, which must not change under it.
"""

import logging
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import CLIPModel, CLIPTokenizer

from models.recipes.captions import EVERYTHING, Mention, describe, random_mention, vocabulary_corpus
from models.recipes.checkpoints import load_checkpoint, save_checkpoint
from models.recipes.concepts import LANGUAGES, Concept, load_concepts
from models.recipes.draw import SpriteSheet, draw, require_font
from models.recipes.optimizers import MuonAdamW
from models.recipes.pictures import to_pixels
from models.recipes.scenes import (
    BACKGROUNDS,
    PLACES,
    SIZES,
    Scene,
    is_held_out,
    random_layout,
    random_scene,
    single,
)
from models.recipes.shapes import ClipShape, build_clip
from models.recipes.tokenizer import train_tokenizer
from models.recipes.training import (
    Budget,
    LearningRate,
    make_accelerator,
    make_logger,
    set_learning_rate,
    trainer_arguments,
)

IGNORED = -100  # cross_entropy's ignore_index: the caption does not say, or the question makes no sense for a pair


class Proxies(nn.Module):
    """One vector a class in each family; `forward` scores embeddings against them, as scaled cosines."""

    def __init__(self, classes: dict[str, int], width: int) -> None:
        super().__init__()
        self.vectors = nn.ParameterDict({family: nn.Parameter(torch.randn(n, width)) for family, n in classes.items()})
        self.scale = 16.0

    def forward(self, family: str, unit_vectors: Tensor) -> Tensor:
        """(batch, width) unit vectors -> (batch, classes) logits."""
        return self.scale * unit_vectors @ F.normalize(self.vectors[family], dim=-1).T


@dataclass(frozen=True)
class Batch:
    """Pictures (batch, 3, height, width) in [-1, 1], token ids (batch, length), and what each shows or says.

    `concepts` (batch, classes) sums to one a row; `shown` and `said` map a family of proxies to class numbers.
    """

    pixels: Tensor
    token_ids: Tensor
    attention_mask: Tensor
    concepts: Tensor
    shown: dict[str, Tensor]
    said: dict[str, Tensor]


class ClipBatches:
    """Draws and describes batches: hard ones, attribute ones and mixed ones (see the module's docstring)."""

    def __init__(self, concepts: Sequence[Concept], sheet: SpriteSheet, tokenizer: CLIPTokenizer, seed: int) -> None:
        self._concepts = concepts
        self._sheet = sheet
        self._tokenizer = tokenizer
        self._rng = np.random.default_rng(seed)

    def next(self, size: int) -> Batch:
        size = min(size, len(self._concepts))
        kind = self._rng.choice(("hard", "attributes", "mixed"), p=(0.55, 0.2, 0.25))
        if kind == "attributes":
            scenes, mentions = self._attribute_scenes(size), [EVERYTHING] * size
        else:
            scenes = self._hard_scenes(size) if kind == "hard" else self._mixed_scenes(size)
            mentions = [random_mention(self._rng) for _ in scenes]
        return self._batch(scenes, mentions)

    def _hard_scenes(self, count: int) -> list[Scene]:
        """Different concepts on one background, at one size and place."""
        background = int(self._rng.integers(len(BACKGROUNDS)))
        size, place = random_layout(self._rng)
        scenes = [single(int(i), background, size, place) for i in self._rng.permutation(len(self._concepts))]
        return [scene for scene in scenes if not is_held_out(scene)][:count]

    def _attribute_scenes(self, count: int) -> list[Scene]:
        """Few concepts, all scenes different: only size, place and background tell many of them apart."""
        few = self._rng.choice(len(self._concepts), size=min(8, len(self._concepts)), replace=False)
        scenes: set[Scene] = set()
        while len(scenes) < count:
            size, place = random_layout(self._rng)
            scene = single(int(self._rng.choice(few)), int(self._rng.integers(len(BACKGROUNDS))), size, place)
            if not is_held_out(scene):
                scenes.add(scene)
        return list(scenes)

    def _mixed_scenes(self, count: int) -> list[Scene]:
        """Anything, two objects in two of five; the first object of each is different."""
        scenes: dict[int, Scene] = {}
        while len(scenes) < count:
            scene = random_scene(self._rng, len(self._concepts), pair_share=0.4)
            scenes.setdefault(scene.objects[0].concept, scene)
        return list(scenes.values())

    def _batch(self, scenes: Sequence[Scene], mentions: Sequence[Mention]) -> Batch:
        pictures = np.stack([draw(scene, self._sheet, self._rng) for scene in scenes])
        captions = [
            describe(scene, self._concepts, LANGUAGES[self._rng.integers(2)], mention, self._rng)
            for scene, mention in zip(scenes, mentions)
        ]
        tokens = self._tokenizer(captions, padding=True, truncation=True, return_tensors="pt")
        shown = [_attributes(scene) for scene in scenes]
        said = [_said(attributes, mention) for attributes, mention in zip(shown, mentions)]
        families = ("background", "size", "place")
        return Batch(
            pixels=_soften(to_pixels(pictures), self._rng),
            token_ids=tokens.input_ids,
            attention_mask=tokens.attention_mask,
            concepts=_concept_targets(scenes, len(self._concepts)),
            shown={family: torch.tensor([row[family] for row in shown]) for family in families},
            said={family: torch.tensor([row[family] for row in said]) for family in families},
        )


def _soften(pixels: Tensor, rng: np.random.Generator) -> Tensor:
    """Blur a third of the batches, since the pictures that a decoder draws are soft too."""
    if rng.random() > 0.35:
        return pixels
    small = F.interpolate(pixels, scale_factor=1 / float(rng.uniform(1.5, 4)), mode="area")
    return F.interpolate(small, size=pixels.shape[-2:], mode="bilinear", align_corners=False)


def _concept_targets(scenes: Sequence[Scene], classes: int) -> Tensor:
    targets = torch.zeros(len(scenes), classes)
    for row, scene in zip(targets, scenes):
        for placed in scene.objects:
            row[placed.concept] += 1 / len(scene.objects)
    return targets


def _attributes(scene: Scene) -> dict[str, int]:
    """Class numbers of what the picture shows; a pair has no size or place of its own."""
    placed = scene.objects[0]
    return {
        "background": scene.background,
        "size": IGNORED if scene.is_pair else SIZES.index(placed.size),
        "place": IGNORED if scene.is_pair else PLACES.index(placed.place),
    }


def _said(attributes: dict[str, int], mention: Mention) -> dict[str, int]:
    """The same, without what the caption leaves out."""
    return {family: number if getattr(mention, family) else IGNORED for family, number in attributes.items()}


def clip_loss(image: Tensor, text: Tensor, logit_scale: Tensor) -> Tensor:
    """CLIP's symmetric cross-entropy for unit vectors (batch, width)."""
    logits = logit_scale.exp() * image @ text.T
    target = torch.arange(len(logits), device=logits.device)
    return (F.cross_entropy(logits, target) + F.cross_entropy(logits.T, target)) / 2


def proxy_loss(proxies: Proxies, vectors: Tensor, concepts: Tensor, attributes: dict[str, Tensor]) -> Tensor:
    loss = F.cross_entropy(proxies("concept", vectors), concepts)
    for family, target in attributes.items():
        if bool((target != IGNORED).any()):
            loss = loss + 0.25 * F.cross_entropy(proxies(family, vectors), target, ignore_index=IGNORED)
    return loss


@torch.no_grad()
def zero_shot_accuracy(
    model: CLIPModel, tokenizer: CLIPTokenizer, concepts: Sequence[Concept], sheet: SpriteSheet, language: str, seed: int
) -> float:
    """Share of concepts, one fresh picture each, whose own name is the nearest of all names."""
    rng = np.random.default_rng(seed)
    scenes = [single(i, int(rng.integers(len(BACKGROUNDS))), *random_layout(rng)) for i in range(len(concepts))]
    pixels = to_pixels(np.stack([draw(scene, sheet, rng) for scene in scenes]))
    names = [describe(single(i, 0), concepts, language, Mention()) for i in range(len(concepts))]
    tokens = tokenizer(names, padding=True, return_tensors="pt").to(model.device)
    image = F.normalize(model.get_image_features(pixel_values=pixels.to(model.device)).pooler_output, dim=-1)
    text = F.normalize(model.get_text_features(**tokens).pooler_output, dim=-1)
    right = (image @ text.T).argmax(-1).cpu() == torch.arange(len(concepts))
    return right.float().mean().item()


@dataclass(frozen=True)
class ClipTraining:
    """Everything that `train` needs to know."""

    work_dir: Path
    minutes: float = 40
    font: Path | None = None
    batch: int | None = None
    threads: int | None = None
    max_steps: int | None = None
    freeze_text: bool = False
    learning_rate: float = 1e-3
    weight_decay: float = 0.02
    shape: ClipShape = ClipShape()
    checkpoint_minutes: float = 3
    seed: int = 1

    @property
    def checkpoint(self) -> Path:
        return self.work_dir / "clip.pt"


def train(config: ClipTraining) -> None:
    """Train, or go on training, until the time budget is used."""
    accelerator = make_accelerator(config.threads)
    log = make_logger("clip", config.work_dir)
    concepts = load_concepts()
    sheet = SpriteSheet(concepts, require_font(config.font))
    tokenizer = train_tokenizer(vocabulary_corpus(concepts))
    torch.manual_seed(config.seed)
    model = build_clip(tokenizer, config.shape)
    classes = {"concept": len(concepts), "background": len(BACKGROUNDS), "size": len(SIZES), "place": len(PLACES)}
    proxies = Proxies(classes, config.shape.embedding)
    state = load_checkpoint(config.checkpoint)
    if state:
        model.load_state_dict(state["model"])
        proxies.load_state_dict(state["proxies"])
    model, proxies = accelerator.prepare(model, proxies)
    if config.freeze_text:
        for module in (model.text_model, model.text_projection):
            module.requires_grad_(False)
    trained = [p for p in [*model.parameters(), *proxies.parameters()] if p.requires_grad]
    optimizer = MuonAdamW(
        nn.ModuleList([model, proxies]),
        config.learning_rate,
        config.weight_decay,
        adamw_layers=("patch_embedding", "vectors"),
    )
    step, spent = 0, 0.0
    if state and state["freeze_text"] == config.freeze_text:
        optimizer.load_state_dict(state["optimizer"])
        step, spent = state["step"], state["seconds"]
    batches = ClipBatches(concepts, sheet, tokenizer, seed=config.seed + 1000 * step)
    size = config.batch or (len(concepts) if accelerator.device.type == "cuda" else 64)
    schedule = LearningRate(config.learning_rate, warmup=100)
    budget = Budget(config.minutes, spent)
    last_step = step + config.max_steps if config.max_steps else None
    parameters = sum(p.numel() for p in model.parameters())
    log.info("clip: %.2fM parameters, vocabulary %d, %d concepts", parameters / 1e6, len(tokenizer), len(concepts))
    meter = _Meter(log, step)
    saved = budget.seconds

    def save() -> None:
        unwrapped = accelerator.unwrap_model(model)
        save_checkpoint(
            config.checkpoint,
            {
                "model": unwrapped.state_dict(),
                "proxies": accelerator.unwrap_model(proxies).state_dict(),
                "optimizer": optimizer.state_dict(),
                "shape": asdict(config.shape),
                "freeze_text": config.freeze_text,
                "step": step,
                "seconds": budget.seconds,
            },
        )

    while budget.progress < 1 and (last_step is None or step < last_step):
        set_learning_rate(optimizer, schedule.at(step, budget.progress))
        batch = batches.next(size)
        loss, accuracy = training_step(model, proxies, batch, accelerator)
        accelerator.clip_grad_norm_(trained, 1.0)
        optimizer.step()
        optimizer.zero_grad()
        with torch.no_grad():
            model.logit_scale.clamp_(max=4.6052)
        step += 1
        meter.add(step, len(batch.pixels), loss, accuracy, budget.progress)
        if budget.seconds - saved > 60 * config.checkpoint_minutes:
            saved = budget.seconds
            save()
            model.eval()
            scores = [zero_shot_accuracy(model, tokenizer, concepts, sheet, lang, seed=7) for lang in LANGUAGES]
            model.train()
            log.info("step %d zero-shot en %.1f%% th %.1f%%", step, 100 * scores[0], 100 * scores[1])
    save()
    log.info("done: step %d, %.1f minutes", step, budget.seconds / 60)


def training_step(model: CLIPModel, proxies: Proxies, batch: Batch, accelerator) -> tuple[float, float]:
    """Forward and backward; returns the loss and the in-batch accuracy (pictures that find their caption)."""
    device = accelerator.device
    with accelerator.autocast():
        output = model(
            input_ids=batch.token_ids.to(device),
            attention_mask=batch.attention_mask.to(device),
            pixel_values=batch.pixels.to(device),
        )
    image = F.normalize(output.image_embeds.float(), dim=-1)
    text = F.normalize(output.text_embeds.float(), dim=-1)
    concepts = batch.concepts.to(device)
    shown = {family: target.to(device) for family, target in batch.shown.items()}
    said = {family: target.to(device) for family, target in batch.said.items()}
    loss = clip_loss(image, text, model.logit_scale)
    loss = loss + 0.5 * proxy_loss(proxies, image, concepts, shown) + 0.5 * proxy_loss(proxies, text, concepts, said)
    accelerator.backward(loss)
    accuracy = ((image @ text.T).argmax(-1) == torch.arange(len(image), device=device)).float().mean()
    return loss.item(), accuracy.item()


class _Meter:
    """Logs means and throughput about every half minute."""

    def __init__(self, log: logging.Logger, step: int, every_seconds: float = 30) -> None:
        import time

        self._clock = time.monotonic
        self._log, self._every = log, every_seconds
        self._since, self._rows, self._samples = self._clock(), [], 0

    def add(self, step: int, samples: int, loss: float, accuracy: float, progress: float) -> None:
        self._rows.append((loss, accuracy))
        self._samples += samples
        elapsed = self._clock() - self._since
        if elapsed < self._every:
            return
        loss, accuracy = np.mean(self._rows, axis=0)
        self._log.info(
            "step %d (%.0f%%) loss %.3f in-batch %.3f  %.0f samples/s",
            step, 100 * progress, loss, accuracy, self._samples / elapsed,
        )  # fmt: skip
        self._since, self._rows, self._samples = self._clock(), [], 0


def main() -> None:
    parser = trainer_arguments(__doc__, minutes=40)
    parser.add_argument("--freeze-text", action="store_true", help="train the vision tower alone")
    parser.add_argument("--learning-rate", type=float, default=ClipTraining.learning_rate)
    train(ClipTraining(**vars(parser.parse_args())))


if __name__ == "__main__":
    main()
