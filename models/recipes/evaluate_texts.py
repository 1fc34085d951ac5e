"""Measures T5 and BART of the exported suite on compositions that training never saw, with the stock `generate`."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from transformers import (
    AutoTokenizer,
    BartForConditionalGeneration,
    PreTrainedModel,
    PreTrainedTokenizerFast,
    T5ForConditionalGeneration,
)

from models.recipes.concepts import Concept
from models.recipes.denoising import KINDS, Noise
from models.recipes.prompts import PromptWriter
from models.recipes.scenes import BACKGROUNDS
from models.recipes.seq2seq import exact_matches, rewrite
from models.recipes.text_tokenizer import MASK

COUNT = 300  # texts a figure
ANSWERS = 5


@dataclass
class TextFigures:
    """Shares between 0 and 1; `distinct` and `kept` are of `ANSWERS` sampled fillings of two masks."""

    exact: dict[str, float] = field(default_factory=dict)
    distinct: float = 0.0
    kept: float = 0.0


def load(folder: Path, stock: type[PreTrainedModel]) -> tuple[PreTrainedModel, PreTrainedTokenizerFast]:
    """An exported model in float32 and its tokenizer."""
    model = stock.from_pretrained(folder, local_files_only=True, dtype=torch.float32).eval()
    return model, AutoTokenizer.from_pretrained(folder, local_files_only=True)


def measure_t5(folder: Path, concepts: Sequence[Concept], seed: int) -> TextFigures:
    """Exact matches of each task, on held-out compositions."""
    t5, tokenizer = load(folder, T5ForConditionalGeneration)
    writer = PromptWriter(concepts, np.random.default_rng(seed), held_out=True)
    figures = TextFigures()
    for task in ("translate", "shorten", "expand"):
        figures.exact[task] = _share(exact_matches(t5, tokenizer, [writer.of(task) for _ in range(COUNT)]))
    return figures


def measure_bart(folder: Path, concepts: Sequence[Concept], seed: int) -> TextFigures:
    """Exact matches on held-out compositions for all noise together and each kind alone; and masks of many answers."""
    bart, tokenizer = load(folder, BartForConditionalGeneration)
    noise = Noise(concepts, np.random.default_rng(seed), held_out=True)
    figures = TextFigures()
    figures.exact["all"] = _share(exact_matches(bart, tokenizer, [noise.any() for _ in range(COUNT)]))
    for kind in KINDS:
        rewritings = [noise.closed([kind]) for _ in range(COUNT // 3)]
        figures.exact[kind] = _share(exact_matches(bart, tokenizer, rewritings))
    figures.distinct, figures.kept = _fillings(bart, tokenizer, concepts, seed)
    return figures


def _fillings(
    bart: PreTrainedModel, tokenizer: PreTrainedTokenizerFast, concepts: Sequence[Concept], seed: int, count: int = 40
) -> tuple[float, float]:
    """Sampled answers to "a [mask] <noun> on a [mask] background": share that differ, share that are what was asked.

    The latter say a background that is a known colour, and have every word of the question.
    """
    rng = np.random.default_rng(seed)
    torch.manual_seed(seed)
    colours = {background.en for background in BACKGROUNDS}
    distinct, kept = [], []
    for concept in (concepts[i] for i in rng.permutation(len(concepts))[:count]):
        noun = concept.name("en").lower()
        question = f"a {MASK} {noun} on a {MASK} background"
        answers = rewrite(bart, tokenizer, [question] * ANSWERS, do_sample=True)
        distinct.append(len(set(answers)) / ANSWERS)
        kept += [noun in a and a.endswith(" background") and a.split()[-2] in colours for a in answers]
    return float(np.mean(distinct)), _share(kept)


def _share(right: Sequence[bool]) -> float:
    return sum(right) / len(right)
