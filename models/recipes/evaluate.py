"""Measures the exported suite and writes its card and contact sheet.

    python -m models.recipes.evaluate --suite models/emoji

`--parts t5 bart` measures only these and keeps the other figures: for when the rest of the suite has not changed.
Everything goes through the exported folders and the stock classes, as a user would run them, on seeds and
compositions that training never saw. The card says what was measured, whatever it is.
"""

import argparse
import json
import math
import platform
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from diffusers import StableDiffusionPipeline
from PIL import Image
from safetensors import safe_open
from torch import Tensor
from torch.nn import functional
from transformers import CLIPModel, CLIPProcessor

from models.recipes.captions import EVERYTHING, Mention, describe
from models.recipes.checkpoints import load_checkpoint
from models.recipes.concepts import LANGUAGES, Concept, load_concepts
from models.recipes.draw import DEBIAN_FONT, PICTURE_SIZE, SpriteSheet, draw, require_font
from models.recipes.evaluate_texts import ANSWERS, TextFigures, measure_bart, measure_t5
from models.recipes.export import EMOJI_FOLDER
from models.recipes.judge import VitJudge, measure_vit
from models.recipes.pictures import to_pixels
from models.recipes.scenes import BACKGROUNDS, Scene, random_layout, random_scene, single
from models.recipes.train_vae import psnr, reconstruct
from models.recipes.train_vit import found, random_scenes
from models.recipes.training import DEFAULT_WORK_DIR, Progress

SEED = 20_000  # far from every seed of training
STEPS = 20
BARE = Mention()
NO_OTHER_JUDGE = "which was trained on the same drawings; it is no outside judge"
INDEPENDENT_JUDGE = (
    "except where a row says ViT, which was trained apart from CLIP and the U-Net, on drawings that were bent, "
    "recoloured and softened"
)


@dataclass
class Measured:
    """The figures of the card. Shares are between 0 and 1."""

    concepts: int = 0
    vae_psnr: float = 0.0
    zero_shot: dict[str, float] = field(default_factory=dict)
    zero_shot_synonyms: dict[str, float] = field(default_factory=dict)
    drawn: dict[str, float] = field(default_factory=dict)
    drawn_top5: float = 0.0
    vit_top1: float = 0.0
    vit_pairs_top5: float = 0.0
    drawn_vit: dict[str, float] = field(default_factory=dict)
    drawn_vit_groups: dict[str, float] = field(default_factory=dict)
    drawn_vit_pairs: float = 0.0
    worst_vit: list[str] = field(default_factory=list)
    t5: TextFigures | None = None
    bart: TextFigures | None = None
    background: float = 0.0
    held_out_object: float = 0.0
    held_out_background: float = 0.0
    worst: list[str] = field(default_factory=list)
    seconds_a_picture: float = 0.0
    guidance: float = 0.0
    parameters: dict[str, int] = field(default_factory=dict)
    bytes: int = 0
    training_minutes: dict[str, float] = field(default_factory=dict)
    training_steps: dict[str, int] = field(default_factory=dict)
    machine: str = ""


class Suite:
    """The exported models in float32."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.clip = CLIPModel.from_pretrained(folder / "clip", local_files_only=True, dtype=torch.float32).eval()
        self.processor = CLIPProcessor.from_pretrained(folder / "clip", local_files_only=True)
        self.pipeline = StableDiffusionPipeline.from_pretrained(
            folder / "txt2img", local_files_only=True, use_safetensors=True, safety_checker=None, dtype=torch.float32
        )
        suite = json.loads((folder / "suite.json").read_text("utf-8"))
        self.guidance = next(m["guidance_scale"] for m in suite["models"] if m["task"] == "txt2img")
        self.pipeline.set_progress_bar_config(disable=True)

    @torch.no_grad()
    def embed_texts(self, texts: Sequence[str]) -> Tensor:
        """(texts, width) unit vectors"""
        tokens = self.processor.tokenizer(list(texts), padding=True, return_tensors="pt")
        return functional.normalize(self.clip.get_text_features(**tokens).pooler_output, dim=-1)

    @torch.no_grad()
    def embed_pictures(self, pictures: Sequence[Image.Image]) -> Tensor:
        """(pictures, width) unit vectors"""
        pixels = self.processor.image_processor(list(pictures), return_tensors="pt").pixel_values
        return functional.normalize(self.clip.get_image_features(pixel_values=pixels).pooler_output, dim=-1)

    def generate(self, prompts: Sequence[str], seed: int, batch: int = 16) -> list[Image.Image]:
        """One picture a prompt, each from its own seed, with the default steps and guidance."""
        pictures: list[Image.Image] = []
        for start in range(0, len(prompts), batch):
            part = list(prompts[start : start + batch])
            generators = [torch.Generator().manual_seed(seed + start + i) for i in range(len(part))]
            pictures += self.pipeline(
                part, num_inference_steps=STEPS, guidance_scale=self.guidance, generator=generators
            ).images
        return pictures


def names(concepts: Sequence[Concept], language: str) -> list[str]:
    """What a caption that says nothing else calls each concept: "a cat", "แมว"."""
    return [describe(single(i, 0), concepts, language, BARE) for i in range(len(concepts))]


def measure_vae(suite: Suite, sheet: SpriteSheet, count: int) -> float:
    """Mean PSNR in decibels over whole pictures of held-out compositions."""
    rng = np.random.default_rng(SEED)
    scenes = [random_scene(rng, len(sheet), pair_share=0.3, held_out=True) for _ in range(count)]
    pixels = to_pixels(np.stack([draw(scene, sheet, rng) for scene in scenes]))
    return torch.cat([psnr(p, reconstruct(suite.pipeline.vae, p)) for p in pixels.split(16)]).mean().item()


def measure_zero_shot(
    suite: Suite, sheet: SpriteSheet, concepts: Sequence[Concept], rounds: int
) -> tuple[dict[str, float], dict[str, float]]:
    """Top-1 by usual name over all concepts, on fresh backgrounds, sizes and places; then by every synonym."""
    rng = np.random.default_rng(SEED + 1)
    truth = torch.arange(len(concepts)).repeat(rounds)
    scenes = [single(i, int(rng.integers(len(BACKGROUNDS))), *random_layout(rng)) for i in truth.tolist()]
    pictures = torch.cat([suite.embed_pictures([Image.fromarray(draw(s, sheet, rng))]) for s in scenes])
    by_name, by_synonym = {}, {}
    for language in LANGUAGES:
        texts = suite.embed_texts(names(concepts, language))
        by_name[language] = _share((pictures @ texts.T).argmax(-1) == truth)
        # A synonym is right when its own concept's picture is, on average, the nearest of all.
        means = functional.normalize(torch.stack([pictures[truth == i].mean(0) for i in range(len(concepts))]), dim=-1)
        synonyms = [(i, name) for i, concept in enumerate(concepts) for name in concept.names[language][1:]]
        owner = torch.tensor([i for i, _ in synonyms])
        by_synonym[language] = _share((suite.embed_texts([name for _, name in synonyms]) @ means.T).argmax(-1) == owner)
    return by_name, by_synonym


def background_of(picture: Image.Image) -> int:
    """Index of the background colour that is nearest to the median of the four corners."""
    pixels = np.asarray(picture.convert("RGB"), float)
    ends = (0, PICTURE_SIZE - 8)
    corners = np.concatenate([pixels[y : y + 8, x : x + 8].reshape(-1, 3) for y in ends for x in ends])
    return int(np.abs(np.array([b.rgb for b in BACKGROUNDS]) - np.median(corners, axis=0)).sum(-1).argmin())


def measure_background(suite: Suite, concepts: Sequence[Concept], seed: int) -> float:
    """Share of pictures of "a <concept> on a <colour> background" whose corners have that colour."""
    rng = np.random.default_rng(seed)
    chosen = rng.permutation(len(concepts))[: 8 * len(BACKGROUNDS)]
    scenes = [single(int(c), i % len(BACKGROUNDS)) for i, c in enumerate(chosen)]
    prompts = [describe(scene, concepts, LANGUAGES[i % 2], Mention(background=True)) for i, scene in enumerate(scenes)]
    pictures = suite.generate(prompts, seed)
    return float(np.mean([background_of(p) == s.background for p, s in zip(pictures, scenes, strict=True)]))


def measure_held_out(suite: Suite, concepts: Sequence[Concept], texts: Tensor, seed: int) -> tuple[float, float]:
    """Never-seen (thing, colour, place): is it that thing, and on that colour?"""
    rng = np.random.default_rng(seed)
    scenes: list[Scene] = []
    while len(scenes) < 64:
        scene = random_scene(rng, len(concepts), pair_share=0, held_out=True)
        scenes.append(scene)
    pictures = suite.generate([describe(scene, concepts, "en", EVERYTHING) for scene in scenes], seed)
    found = (suite.embed_pictures(pictures) @ texts.T).argmax(-1)
    objects = _share(found == torch.tensor([scene.objects[0].concept for scene in scenes]))
    colours = float(np.mean([background_of(p) == s.background for p, s in zip(pictures, scenes, strict=True)]))
    return objects, colours


def measure_drawn_pairs(
    suite: Suite, judge: VitJudge, concepts: Sequence[Concept], seed: int, count: int = 64
) -> float:
    """Share of "a <concept> and a <concept>" pictures with both among the ViT's first five."""
    scenes = random_scenes(seed, len(concepts), 1, True, count)
    pictures = suite.generate([describe(scene, concepts, "en", BARE) for scene in scenes], seed)
    return found(judge.rank(pictures), scenes, 5)


def measure_drawn(
    suite: Suite, judge: VitJudge | None, concepts: Sequence[Concept], rounds: int, result: Measured
) -> None:
    """What "a <concept>" draws, judged by CLIP and by the ViT; draws the contact sheet."""
    texts = suite.embed_texts(names(concepts, "en"))
    truth = torch.arange(len(concepts))
    by_clip, by_vit = torch.zeros(len(concepts)), torch.zeros(len(concepts))  # probability of what was asked for
    hits_vit = torch.zeros(len(concepts))
    for language in LANGUAGES:
        clip_right, vit_right = [], []
        for turn in range(rounds):
            started = time.perf_counter()
            pictures = suite.generate(names(concepts, language), seed=SEED + 1000 * turn)
            result.seconds_a_picture = (time.perf_counter() - started) / len(concepts)
            seen = (suite.clip.logit_scale.exp() * suite.embed_pictures(pictures) @ texts.T).softmax(dim=-1)
            ranking = seen.argsort(-1, descending=True)
            by_clip += seen[truth, truth]
            clip_right.append((ranking[:, 0] == truth).float())
            if judge is not None:
                seen = judge.probabilities(pictures)
                by_vit += seen[truth, truth]
                vit_right.append((seen.argmax(-1) == truth).float())
            if language == "en" and turn == 0:
                result.drawn_top5 = (ranking[:, :5] == truth[:, None]).any(-1).float().mean().item()
                write_contact_sheet(suite.folder / "contact_sheet.png", pictures)
        result.drawn[language] = torch.stack(clip_right).mean().item()
        if vit_right:
            hits_vit += torch.stack(vit_right).mean(0)
            result.drawn_vit[language] = torch.stack(vit_right).mean().item()
    result.worst = _weakest(concepts, by_clip)
    if judge is not None:
        result.worst_vit = _weakest(concepts, by_vit)
        for group in dict.fromkeys(concept.group for concept in concepts):
            members = torch.tensor([concept.group == group for concept in concepts])
            result.drawn_vit_groups[group] = hits_vit[members].mean().item() / len(LANGUAGES)
        result.drawn_vit_pairs = measure_drawn_pairs(suite, judge, concepts, SEED + 7000)
    result.background = measure_background(suite, concepts, SEED + 5000)
    result.held_out_object, result.held_out_background = measure_held_out(suite, concepts, texts, SEED + 6000)


def _weakest(concepts: Sequence[Concept], probability: Tensor) -> list[str]:
    """The ten whose pictures the judge was least sure of."""
    return [concepts[number].name("en") for number in probability.argsort()[:10].tolist()]


PARTS = ("vae", "clip", "vit", "t5", "bart", "drawn")


@torch.no_grad()
def evaluate(folder: Path, work_dir: Path, font: Path | None, rounds: int, parts: Sequence[str] = PARTS) -> Measured:
    """Measure the parts that the suite has; figures of others stay what they were."""
    concepts = load_concepts()
    sheet = SpriteSheet(concepts, require_font(font))
    suite = Suite(folder)
    result = read_measured(folder / "measured.json")
    result.concepts, result.guidance, result.machine = len(concepts), suite.guidance, _machine()
    judge = VitJudge(folder / "vit") if (folder / "vit").is_dir() else None
    if "vae" in parts:
        result.vae_psnr = measure_vae(suite, sheet, count=128)
    if "clip" in parts:
        result.zero_shot, result.zero_shot_synonyms = measure_zero_shot(suite, sheet, concepts, rounds=3)
    if "vit" in parts and judge is not None:
        result.vit_top1, result.vit_pairs_top5 = measure_vit(judge, sheet, SEED + 2)
    if "t5" in parts and (folder / "t5").is_dir():
        result.t5 = measure_t5(folder / "t5", concepts, SEED + 8000)
    if "bart" in parts and (folder / "bart").is_dir():
        result.bart = measure_bart(folder / "bart", concepts, SEED + 9000)
    if "drawn" in parts:
        measure_drawn(suite, judge, concepts, rounds, result)
    result.parameters = {file.parent.name: _parameters_in(file) for file in _weights(folder)}
    result.bytes = sum(file.stat().st_size for file in _weights(folder))
    for name in ("clip", "vae", "unet", "vit", "t5", "bart"):
        state = load_checkpoint(work_dir / f"{name}.pt")
        if state is not None:
            progress = Progress(**state["progress"])
            result.training_minutes[name] = progress.total_seconds / 60
            result.training_steps[name] = progress.total_steps
    return result


def read_measured(file: Path) -> Measured:
    """The figures of the last time, or none."""
    if not file.exists():
        return Measured()
    figures = json.loads(file.read_text("utf-8"))
    for name in ("t5", "bart"):
        if figures.get(name):
            figures[name] = TextFigures(**figures[name])
    return Measured(**figures)


def _weights(folder: Path) -> list[Path]:
    """The networks' files; recorded runs in `traces` are safetensors too."""
    return [file for file in sorted(folder.rglob("*.safetensors")) if "traces" not in file.relative_to(folder).parts]


def _parameters_in(file: Path) -> int:
    with safe_open(file, "pt") as weights:
        return sum(math.prod(weights.get_slice(name).get_shape()) for name in weights.keys())  # noqa: SIM118


def write_contact_sheet(path: Path, pictures: Sequence[Image.Image], columns: int = 16, size: int = 64) -> None:
    """All concepts in file order, `size` pixels each."""
    rows = -(-len(pictures) // columns)
    sheet = Image.new("RGB", (columns * size, rows * size))
    for index, picture in enumerate(pictures):
        sheet.paste(picture.resize((size, size)), (index % columns * size, index // columns * size))
    sheet.quantize(256).save(path, optimize=True)


def write_card(folder: Path, result: Measured) -> None:
    """Write MODEL_CARD.md, and the same figures as measured.json."""
    (folder / "measured.json").write_text(json.dumps(asdict(result), indent=1, ensure_ascii=False) + "\n", "utf-8")
    (folder / "MODEL_CARD.md").write_text(_card(result), "utf-8")


def _card(result: Measured) -> str:
    template = Path(__file__).with_name("card.md").read_text("utf-8")
    parts = "\n".join(f"| {name} | {count / 1e6:.2f} million |" for name, count in result.parameters.items())
    training = "\n".join(
        f"| {name} | {minutes:.0f} | {result.training_steps[name]:,} |"
        for name, minutes in result.training_minutes.items()
    )
    values: dict[str, Any] = {
        "concepts": result.concepts,
        "psnr": f"{result.vae_psnr:.1f} dB",
        "zero_shot_en": f"{result.zero_shot['en']:.1%}",
        "zero_shot_th": f"{result.zero_shot['th']:.1%}",
        "synonyms_en": f"{result.zero_shot_synonyms['en']:.1%}",
        "synonyms_th": f"{result.zero_shot_synonyms['th']:.1%}",
        "drawn_en": f"{result.drawn['en']:.1%}",
        "drawn_th": f"{result.drawn['th']:.1%}",
        "top5": f"{result.drawn_top5:.1%}",
        "background": f"{result.background:.1%}",
        "held_out_object": f"{result.held_out_object:.1%}",
        "held_out_background": f"{result.held_out_background:.1%}",
        "worst": ", ".join(result.worst),
        "judge": INDEPENDENT_JUDGE if result.vit_top1 else NO_OTHER_JUDGE,
        "second_part": "\n".join(f"| {what} | {share} |" for what, share in _second_part(result)),
        "seconds": f"{result.seconds_a_picture:.1f}",
        "parts": parts,
        "training": training,
        "megabytes": f"{result.bytes / 2**20:.1f}",
        "machine": result.machine,
        "steps": STEPS,
        "guidance": result.guidance,
    }
    return template.format(**values)


def _second_part(result: Measured) -> list[tuple[str, str]]:
    """The rows of ViT, T5 and BART: what has not been measured has none."""
    rows: list[tuple[str, str]] = []
    if result.vit_top1:
        rows += [
            ("ViT: held-out drawings of one object, top-1", f"{result.vit_top1:.1%}"),
            ("ViT: held-out drawings of two objects, both in the top 5", f"{result.vit_pairs_top5:.1%}"),
        ]
    if result.drawn_vit:
        both = " / ".join(f"{result.drawn_vit[language]:.1%}" for language in LANGUAGES)
        groups = ", ".join(f"{group} {share:.0%}" for group, share in result.drawn_vit_groups.items())
        rows += [
            ('Pictures of "a <concept>" that the ViT recognises, English / Thai prompts', both),
            ("The same by group", groups),
            ("Pictures of two concepts, both in the ViT's top 5", f"{result.drawn_vit_pairs:.1%}"),
            ("Ten weakest concepts by the ViT", ", ".join(result.worst_vit)),
        ]
    if result.t5:
        wordings = {"translate": "Thai to English", "shorten": "shortening", "expand": "expanding"}
        rows += [(f"T5: {wordings[task]}, exact match", f"{share:.1%}") for task, share in result.t5.exact.items()]
    if result.bart:
        exact = dict(result.bart.exact)
        kinds = ", ".join(f"{kind} {share:.1%}" for kind, share in exact.items() if kind != "all")
        rows += [
            ("BART: noisy captions in both languages, exact match", f"{exact['all']:.1%} ({kinds})"),
            (f"BART: two masks filled {ANSWERS} times by sampling: different answers", f"{result.bart.distinct:.1%}"),
            ("BART: those answers that keep the noun and name a colour", f"{result.bart.kept:.1%}"),
        ]
    return rows


def _machine() -> str:
    device = torch.cuda.get_device_name() if torch.cuda.is_available() else f"{torch.get_num_threads()} CPU threads"
    return f"{platform.system()} {platform.machine()}, {device}, torch {torch.__version__}"


def _share(right: Tensor) -> float:
    return right.float().mean().item()


def main() -> None:
    """Read the flags, measure, and write the card."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--suite", type=Path, default=EMOJI_FOLDER, help="the exported folder (%(default)s)")
    parser.add_argument("--work-dir", type=Path, default=DEFAULT_WORK_DIR, help="checkpoints (default: %(default)s)")
    parser.add_argument("--font", type=Path, help=f"NotoColorEmoji.ttf (default: {DEBIAN_FONT})")
    parser.add_argument("--rounds", type=int, default=1, help="pictures a concept and language (%(default)s)")
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=PARTS, help="what to measure (default: all)")
    flags = parser.parse_args()
    write_card(flags.suite, evaluate(flags.suite, flags.work_dir, flags.font, flags.rounds, flags.parts))


if __name__ == "__main__":
    main()
