"""Trains the CLIP of the emoji suite from scratch.

    python -m models.recipes.train_clip --minutes 40 --work-dir models/recipes/work

The loss is CLIP's (Radford et al. 2021, https://arxiv.org/abs/2103.00020): symmetric cross-entropy over the cosine
similarities of a batch. Three things make it learn objects in an hour of two cores, instead of background colours:

* hard batches: one background, size and place for all pictures, all concepts different;
* a proxy loss (Movshovitz-Attias et al. 2017, https://arxiv.org/abs/1703.07464): a learned vector a concept, a
  background, a size and a place, against which every picture and every caption is classified, so that each step sees
  all classes and not only the batch's; the vectors are thrown away after training;
* captions leave attributes out half of the time, and use synonyms and bare nouns in both languages.

`--tower text` polishes the text tower alone, against the proxies: that costs little, and the U-Net can
draw only what the text vectors tell apart. `--tower vision` goes on with the vision tower alone: the U-Net reads the
text tower, which must not change under it.
"""

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
import torch
from accelerate import Accelerator
from torch import Tensor, nn
from torch.nn import functional
from transformers import CLIPModel, CLIPTokenizer

from models.recipes.captions import EVERYTHING, Mention, describe, random_mention, vocabulary_corpus
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
from models.recipes.tokenizer import merges_of, train_tokenizer
from models.recipes.training import (
    LearningRate,
    Progress,
    Run,
    run_arguments,
    run_from,
    run_task,
)

ATTRIBUTES = ("background", "size", "place")
IGNORED = -100  # cross_entropy's ignore_index: the caption does not say, or the question makes no sense for a pair


class Proxies(nn.Module):
    """One vector a class in each family; `forward` scores embeddings against them, as scaled cosines."""

    def __init__(self, classes: dict[str, int], width: int) -> None:
        super().__init__()
        self.vectors = nn.ParameterDict({family: nn.Parameter(torch.randn(n, width)) for family, n in classes.items()})
        self.scale = 16.0

    def forward(self, family: str, unit_vectors: Tensor) -> Tensor:
        """(batch, width) unit vectors -> (batch, classes) logits."""
        return self.scale * unit_vectors @ functional.normalize(self.vectors[family], dim=-1).T


@dataclass(frozen=True)
class TextBatch:
    """Token ids (batch, length), and what each caption says.

    `concepts` (batch, classes) sums to one a row; `said` maps a family of proxies to class numbers.
    """

    token_ids: Tensor
    attention_mask: Tensor
    concepts: Tensor
    said: dict[str, Tensor]


@dataclass(frozen=True)
class Batch:
    """Pictures (batch, 3, height, width) in [-1, 1], what they show (as `TextBatch.said`), and their captions."""

    pixels: Tensor
    shown: dict[str, Tensor]
    text: TextBatch


class ClipBatches:
    """Draws and describes batches: hard ones, attribute ones and mixed ones (see the module's docstring)."""

    def __init__(
        self, concepts: Sequence[Concept], sheet: SpriteSheet, tokenizer: CLIPTokenizer, rng: np.random.Generator
    ) -> None:
        self._concepts = concepts
        self._sheet = sheet
        self._tokenizer = tokenizer
        self._rng = rng

    def next(self, size: int) -> Batch:
        """Pictures with captions."""
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

    def captions(self, size: int) -> TextBatch:
        """Captions without pictures, two of five of them nothing but a name."""
        scenes = [random_scene(self._rng, len(self._concepts), pair_share=0.2) for _ in range(size)]
        short = (Mention(), Mention(bare=True))
        mentions = [
            short[self._rng.integers(2)] if self._rng.random() < 0.4 else random_mention(self._rng) for _ in scenes
        ]
        return self._describe(scenes, mentions)

    def _batch(self, scenes: Sequence[Scene], mentions: Sequence[Mention]) -> Batch:
        pictures = np.stack([draw(scene, self._sheet, self._rng) for scene in scenes])
        shown = [_attributes(scene) for scene in scenes]
        return Batch(
            pixels=_soften(to_pixels(pictures), self._rng),
            shown={family: torch.tensor([row[family] for row in shown]) for family in ATTRIBUTES},
            text=self._describe(scenes, mentions),
        )

    def _describe(self, scenes: Sequence[Scene], mentions: Sequence[Mention]) -> TextBatch:
        captions = [
            describe(scene, self._concepts, LANGUAGES[self._rng.integers(2)], mention, self._rng)
            for scene, mention in zip(scenes, mentions, strict=True)
        ]
        tokens = self._tokenizer(captions, padding=True, truncation=True, return_tensors="pt")
        said = [_said(_attributes(scene), mention) for scene, mention in zip(scenes, mentions, strict=True)]
        return TextBatch(
            token_ids=tokens.input_ids,
            attention_mask=tokens.attention_mask,
            concepts=_concept_targets(scenes, len(self._concepts)),
            said={family: torch.tensor([row[family] for row in said]) for family in ATTRIBUTES},
        )


def _soften(pixels: Tensor, rng: np.random.Generator) -> Tensor:
    """Blur a third of the batches, since the pictures that a decoder draws are soft too."""
    if rng.random() > 0.35:
        return pixels
    small = functional.interpolate(pixels, scale_factor=1 / float(rng.uniform(1.5, 4)), mode="area")
    return functional.interpolate(small, size=pixels.shape[-2:], mode="bilinear", align_corners=False)


def _concept_targets(scenes: Sequence[Scene], classes: int) -> Tensor:
    targets = torch.zeros(len(scenes), classes)
    for row, scene in zip(targets, scenes, strict=True):
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
    return (functional.cross_entropy(logits, target) + functional.cross_entropy(logits.T, target)) / 2


def proxy_loss(proxies: Proxies, vectors: Tensor, concepts: Tensor, attributes: dict[str, Tensor]) -> Tensor:
    """Cross-entropy of unit vectors (batch, width) against the proxies of what they should show or say."""
    loss = functional.cross_entropy(proxies("concept", vectors), concepts)
    for family, target in attributes.items():
        if bool((target != IGNORED).any()):
            logits = proxies(family, vectors)
            loss = loss + 0.25 * functional.cross_entropy(logits, target.to(logits.device), ignore_index=IGNORED)
    return loss


@torch.no_grad()
def zero_shot_accuracy(
    model: CLIPModel,
    tokenizer: CLIPTokenizer,
    concepts: Sequence[Concept],
    sheet: SpriteSheet,
    language: str,
    seed: int,
) -> float:
    """Share of concepts, one fresh picture each, whose own name is the nearest of all names."""
    rng = np.random.default_rng(seed)
    scenes = [single(i, int(rng.integers(len(BACKGROUNDS))), *random_layout(rng)) for i in range(len(concepts))]
    pixels = to_pixels(np.stack([draw(scene, sheet, rng) for scene in scenes]))
    names = [describe(single(i, 0), concepts, language, Mention()) for i in range(len(concepts))]
    tokens = tokenizer(names, padding=True, return_tensors="pt").to(model.device)
    image = functional.normalize(model.get_image_features(pixel_values=pixels.to(model.device)).pooler_output, dim=-1)
    text = functional.normalize(model.get_text_features(**tokens).pooler_output, dim=-1)
    right = (image @ text.T).argmax(-1).cpu() == torch.arange(len(concepts))
    return right.float().mean().item()


RATE = LearningRate(1e-3, warmup=100)
SHAPE = ClipShape()


@dataclass(frozen=True)
class ClipTraining:
    """Everything about the training but its time and place. `tower` is "both", "text" or "vision"."""

    tower: str = "both"
    rate: LearningRate = RATE
    weight_decay: float = 0.02
    shape: ClipShape = SHAPE
    seed: int = 1


class ClipTask:
    """CLIP and its proxies under training (see `training.Task`)."""

    name = "clip"

    def __init__(self, config: ClipTraining, run: Run, accelerator: Accelerator) -> None:
        self.phase = {"both": "both towers", "text": "text tower", "vision": "vision tower"}[config.tower]
        self._config = config
        self._accelerator = accelerator
        self._concepts = load_concepts()
        self._sheet = SpriteSheet(self._concepts, require_font(run.font))
        self._tokenizer = train_tokenizer(vocabulary_corpus(self._concepts))
        torch.manual_seed(config.seed)
        classes = {
            "concept": len(self._concepts),
            "background": len(BACKGROUNDS),
            "size": len(SIZES),
            "place": len(PLACES),
        }
        self._model = build_clip(self._tokenizer, config.shape)
        self._proxies = Proxies(classes, config.shape.embedding)
        self._freeze()
        self._bare = self._model
        both = nn.ModuleList([self._model, self._proxies])
        self._model, self._proxies = accelerator.prepare(self._model, self._proxies)
        self._trained = [p for p in both.parameters() if p.requires_grad]
        self.optimizer = MuonAdamW(
            both, config.rate.peak, config.weight_decay, adamw_layers=("patch_embedding", "vectors")
        )
        self.batch_size = run.batch or (len(self._concepts) if accelerator.device.type == "cuda" else 64)
        self._reseed(0)

    def _reseed(self, step: int) -> None:
        """Other pictures in each process, and after each break."""
        seed = [self._config.seed, self._accelerator.process_index, step]
        self._batches = ClipBatches(self._concepts, self._sheet, self._tokenizer, np.random.default_rng(seed))

    def _freeze(self) -> None:
        model = self._model
        text, vision = (model.text_model, model.text_projection), (model.vision_model, model.visual_projection)
        frozen = {"both": (), "text": vision, "vision": text}[self._config.tower]
        for module in frozen:
            module.requires_grad_(False)

    def step(self, progress: float) -> dict[str, float]:  # noqa: ARG002 - every task takes it
        """See `training.Task`."""
        figures = self._text_step() if self._config.tower == "text" else self._step()
        self._accelerator.clip_grad_norm_(self._trained, 1.0)
        self.optimizer.step()
        self.optimizer.zero_grad()
        with torch.no_grad():
            self._bare.logit_scale.clamp_(max=math.log(100))
        return figures

    def _step(self) -> dict[str, float]:
        batch = self._batches.next(self.batch_size)
        device = self._accelerator.device
        with self._accelerator.autocast():
            output = self._model(
                input_ids=batch.text.token_ids.to(device),
                attention_mask=batch.text.attention_mask.to(device),
                pixel_values=batch.pixels.to(device),
            )
        image = functional.normalize(output.image_embeds.float(), dim=-1)
        text = functional.normalize(output.text_embeds.float(), dim=-1)
        concepts = batch.text.concepts.to(device)
        loss = clip_loss(image, text, self._bare.logit_scale)
        loss = loss + 0.5 * proxy_loss(self._proxies, image, concepts, batch.shown)
        loss = loss + 0.5 * proxy_loss(self._proxies, text, concepts, batch.text.said)
        self._accelerator.backward(loss)
        found = (image @ text.T).argmax(-1) == torch.arange(len(image), device=device)
        return {"loss": loss.item(), "in-batch": found.float().mean().item()}

    def _text_step(self) -> dict[str, float]:
        batch = self._batches.captions(self.batch_size)
        device = self._accelerator.device
        with self._accelerator.autocast():
            pooled = self._bare.get_text_features(
                batch.token_ids.to(device), batch.attention_mask.to(device)
            ).pooler_output
        text = functional.normalize(pooled.float(), dim=-1)
        concepts = batch.concepts.to(device)
        loss = proxy_loss(self._proxies, text, concepts, batch.said)
        self._accelerator.backward(loss)
        found = concepts.gather(1, self._proxies("concept", text).argmax(-1, keepdim=True)) > 0
        return {"loss": loss.item(), "concept named": found.float().mean().item()}

    def probe(self) -> dict[str, float]:
        """See `training.Task`."""
        model = self._bare.eval()
        accuracy = {
            f"zero-shot {language}": zero_shot_accuracy(
                model, self._tokenizer, self._concepts, self._sheet, language, seed=7
            )
            for language in LANGUAGES
        }
        model.train()
        return accuracy

    def state_dict(self) -> dict[str, Any]:
        """See `training.Task`."""
        return {
            "model": self._bare.state_dict(),
            "proxies": self._accelerator.unwrap_model(self._proxies).state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "shape": asdict(self._config.shape),
            "merges": merges_of(self._tokenizer),
        }

    def load_state_dict(self, state: dict[str, Any], same_phase: bool) -> None:
        """See `training.Task`. Raises ValueError when the checkpoint was trained with another vocabulary."""
        if state["merges"] != merges_of(self._tokenizer):
            raise ValueError("the concepts or the grammar have changed since the checkpoint: start in a new --work-dir")
        self._bare.load_state_dict(state["model"])
        self._accelerator.unwrap_model(self._proxies).load_state_dict(state["proxies"])
        if same_phase:
            self.optimizer.load_state_dict(state["optimizer"])
        self._reseed(state["progress"]["step"])


def train(config: ClipTraining, run: Run) -> Progress:
    """Train, or go on training, until the time budget is used."""
    return run_task(lambda accelerator: ClipTask(config, run, accelerator), run, config.rate)


def main() -> None:
    """Read the flags and train."""
    parser = run_arguments(__doc__, minutes=40)
    parser.add_argument(
        "--tower", choices=("both", "text", "vision"), default="both", help="what to train (%(default)s)"
    )
    parser.add_argument("--learning-rate", type=float, default=RATE.peak)
    flags = parser.parse_args()
    rate = replace(RATE, peak=flags.learning_rate)
    train(ClipTraining(tower=flags.tower, rate=rate), run_from(flags))


if __name__ == "__main__":
    main()
