"""What the U-Net is trained on, computed once: latents of drawn scenes and text vectors of their captions.

    python -m models.recipes.unet_cache --shards 4 --work-dir models/recipes/work

A shard holds thousands of pictures. The first ones are mostly single, centred objects; sizes, places and pairs come
with the later ones. Shards carry a fingerprint of the weights that made them, so that stale ones are made anew.
The trainer reads new shards while it runs.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from accelerate import Accelerator
from diffusers import AutoencoderKL
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset
from transformers import CLIPTokenizer

from models.recipes.captions import Mention, describe
from models.recipes.checkpoints import load_checkpoint, save_checkpoint
from models.recipes.concepts import LANGUAGES, Concept, load_concepts
from models.recipes.draw import Jitter, SpriteSheet, draw, require_font
from models.recipes.pictures import to_pixels
from models.recipes.scenes import BACKGROUNDS, Scene, is_held_out, pair, random_layout, single
from models.recipes.trained import load_trained_clip, load_trained_vae
from models.recipes.training import drawing_workers, make_accelerator, make_logger, run_arguments

KINDS = ("centered", "placed", "pair")
LITTLE_JITTER = Jitter(colour=8, shift=1, sizes=(0,))  # short training draws sharper what always has the same size


@dataclass(frozen=True)
class Sample:
    """A scene, its kind (an index of KINDS) and its caption in each language."""

    scene: Scene
    kind: int
    captions: tuple[str, ...]


def random_sample(concepts: Sequence[Concept], rng: np.random.Generator, mix: tuple[float, float, float]) -> Sample:
    """Decide what the captions say, then draw what they leave open: normal size, in the centre, any background."""
    kind = int(rng.choice(len(KINDS), p=mix))
    says_background = rng.random() < 0.6
    while True:
        background = int(rng.integers(len(BACKGROUNDS)))
        if KINDS[kind] == "pair":
            left, right = rng.choice(len(concepts), size=2, replace=False)
            scene = pair(int(left), int(right), background)
            mention = Mention(place=bool(rng.random() < 0.2), background=says_background)
        else:
            size, place = random_layout(rng) if KINDS[kind] == "placed" else ("normal", "center")
            scene = single(int(rng.integers(len(concepts))), background, size, place)
            place_said = place != "center" or rng.random() < 0.1
            bare = KINDS[kind] == "centered" and rng.random() < 0.15
            mention = Mention(bare=True) if bare else Mention(True, place_said, says_background)
        if not is_held_out(scene):
            return Sample(scene, kind, tuple(describe(scene, concepts, lang, mention, rng) for lang in LANGUAGES))


def mix_of_shard(index: int) -> tuple[float, float, float]:
    """Shares of KINDS: the curriculum's order."""
    return ((0.8, 0.2, 0.0), (0.35, 0.5, 0.15))[index] if index < 2 else (0.2, 0.45, 0.35)


def encoded_together(device: torch.device) -> int:
    """How many pictures, or captions, are encoded at a time."""
    return 512 if device.type == "cuda" else 16


class DrawnSamples(Dataset):
    """The samples of a shard with their pictures, each decided by the shard's number and its own."""

    def __init__(self, concepts: Sequence[Concept], sheet: SpriteSheet, shard: int, size: int) -> None:
        self._concepts, self._sheet, self._shard, self._size = concepts, sheet, shard, size

    def __len__(self) -> int:
        return self._size

    def __getitem__(self, number: int) -> tuple[Sample, np.ndarray]:
        rng = np.random.default_rng([3, self._shard, number])
        sample = random_sample(self._concepts, rng, mix_of_shard(self._shard))
        return sample, draw(sample.scene, self._sheet, rng, LITTLE_JITTER)


def fingerprint(*models: nn.Module) -> str:
    """A hash of the weights."""
    digest = hashlib.sha256()
    for model in models:
        for name, value in sorted(model.state_dict().items()):
            digest.update(name.encode())
            digest.update(value.detach().cpu().float().contiguous().numpy().tobytes())
    return digest.hexdigest()[:16]


@torch.no_grad()
def encode_captions(text_model: nn.Module, tokenizer: CLIPTokenizer, captions: Sequence[str]) -> Tensor:
    """(captions, 77, width) float16: the vectors after the final layer norm, padding too, as in Stable Diffusion."""
    device = next(text_model.parameters()).device
    batch = encoded_together(device)
    vectors = []
    for start in range(0, len(captions), batch):
        ids = tokenizer(
            list(captions[start : start + batch]), padding="max_length", truncation=True, return_tensors="pt"
        ).input_ids
        vectors.append(text_model(ids.to(device)).last_hidden_state.half().cpu())
    return torch.cat(vectors)


@torch.no_grad()
def encode_pictures(vae: AutoencoderKL, pictures: np.ndarray, accelerator: Accelerator) -> Tensor:
    """(pictures, 4, 16, 16) float16: posterior means times the scaling factor."""
    pixels = to_pixels(torch.from_numpy(pictures).to(accelerator.device))
    with accelerator.autocast():
        mean = vae.encode(pixels).latent_dist.mean
    return (mean * vae.config.scaling_factor).cpu().half()


@dataclass(frozen=True)
class CacheBuild:
    """Which shards to make. `batch` is the number of pictures a shard."""

    work_dir: Path
    shards: int = 4
    batch: int = 6144
    font: Path | None = None
    threads: int | None = None
    exported: Path | None = None

    def shard_file(self, index: int) -> Path:
        """Where a shard lies."""
        return self.work_dir / "unet_cache" / f"shard_{index:03d}.pt"


def build(config: CacheBuild) -> None:
    """Make the shards that are missing or were made by other weights."""
    accelerator = make_accelerator(config.threads)
    log = make_logger("unet_cache", config.work_dir)
    concepts = load_concepts()
    sheet = SpriteSheet(concepts, require_font(config.font))
    clip, tokenizer = load_trained_clip(config.work_dir, config.exported)
    vae = load_trained_vae(config.work_dir, config.exported).to(accelerator.device).eval()
    text_model = clip.text_model.to(accelerator.device).eval()
    made_by = {"latents": fingerprint(vae.encoder, vae.quant_conv), "text": fingerprint(text_model)}
    for index in range(config.shards):
        file = config.shard_file(index)
        old = load_checkpoint(file) or {"made_by": {}}
        if old["made_by"] == made_by:
            continue
        samples: list[Sample] = []
        encoded: list[Tensor] = []
        drawn = DataLoader(
            DrawnSamples(concepts, sheet, index, config.batch),
            batch_size=encoded_together(accelerator.device),
            num_workers=drawing_workers(accelerator),
            collate_fn=list,
        )
        for part in drawn:
            samples += [sample for sample, _ in part]
            encoded.append(encode_pictures(vae, np.stack([picture for _, picture in part]), accelerator))
        latents = torch.cat(encoded)
        captions = sorted({caption for sample in samples for caption in sample.captions} | {""})
        row = {caption: number for number, caption in enumerate(captions)}
        save_checkpoint(
            file,
            {
                "made_by": made_by,
                "latents": latents,
                "kinds": torch.tensor([sample.kind for sample in samples]),
                "captions": torch.tensor([[row[caption] for caption in sample.captions] for sample in samples]),
                "texts": captions,
                "text_vectors": encode_captions(text_model, tokenizer, captions),
            },
        )
        std = latents.float().std()
        log.info("shard %d: %d pictures, %d captions, std %.3f", index, len(samples), len(captions), std)


def main() -> None:
    """Read the flags and build."""
    parser = run_arguments(__doc__, minutes=0)
    parser.add_argument("--shards", type=int, default=CacheBuild.shards)
    flags = parser.parse_args()
    batch = flags.batch or CacheBuild.batch
    build(CacheBuild(flags.work_dir, flags.shards, batch, flags.font, flags.threads, flags.exported))


if __name__ == "__main__":
    main()
