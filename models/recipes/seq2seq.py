"""What T5 and BART share under training: pairs of texts in batches of like length, and the loss.

The loss is the cross-entropy of the target's pieces given the source and the target's earlier pieces, without label
smoothing. The exported weights are moving averages.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from accelerate import Accelerator
from torch import Tensor
from transformers import PreTrainedModel, PreTrainedTokenizerFast

from models.recipes.optimizers import MuonAdamW
from models.recipes.rewriting import Rewriting
from models.recipes.shapes import TextShape
from models.recipes.text_tokenizer import text_of
from models.recipes.training import LearningRate, MovingAverage, Run, averaged_state, load_averaged_state, step_all

IGNORED = -100  # what the stock classes leave out of their loss
POOL = 16  # batches that are drawn together and sorted by length
RATE = LearningRate(2e-3, warmup=200)
SHAPE = TextShape()


@dataclass(frozen=True)
class TextTraining:
    """Everything about the training but its time and place."""

    rate: LearningRate = RATE
    weight_decay: float = 0.01
    shape: TextShape = SHAPE
    seed: int = 5


@dataclass(frozen=True)
class Rewriter:
    """What tells T5 from BART: its name, tokenizer and network, and what makes its training and held-out texts.

    `texts(rng, held_out)` returns a function that makes one rewriting a call.
    """

    name: str
    tokenizer: PreTrainedTokenizerFast
    build: Callable[[PreTrainedTokenizerFast, TextShape], PreTrainedModel]
    texts: Callable[[np.random.Generator, bool], Callable[[], Rewriting]]


@dataclass(frozen=True)
class TextBatch:
    """Token ids of sources and targets (batch, length); a target's padding is IGNORED."""

    input_ids: Tensor
    attention_mask: Tensor
    labels: Tensor


def to_batch(tokenizer: PreTrainedTokenizerFast, rewritings: Sequence[Rewriting]) -> TextBatch:
    """Tokenize and pad."""
    sources = tokenizer([r.source for r in rewritings], padding=True, return_tensors="pt")
    targets = tokenizer([r.target for r in rewritings], padding=True, return_tensors="pt")
    labels = targets.input_ids.masked_fill(targets.attention_mask == 0, IGNORED)
    return TextBatch(sources.input_ids, sources.attention_mask, labels)


def batches(make: Callable[[], Rewriting], size: int, rng: np.random.Generator) -> Iterator[list[Rewriting]]:
    """Endless batches; a batch's texts are about equally long, so that little of it is padding."""
    while True:
        pool = sorted((make() for _ in range(POOL * size)), key=lambda r: len(r.source) + len(r.target))
        for start in rng.permutation(POOL).tolist():
            yield pool[start * size : (start + 1) * size]


@torch.no_grad()
def rewrite(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerFast, sources: Sequence[str], batch: int = 64, **options: Any
) -> list[str]:
    """What the stock `generate` makes of the sources, greedily unless `options` say otherwise."""
    written: list[str] = []
    for start in range(0, len(sources), batch):
        tokens = tokenizer(list(sources[start : start + batch]), padding=True, return_tensors="pt").to(model.device)
        ids = model.generate(**tokens, **options)
        written += tokenizer.batch_decode(ids, skip_special_tokens=True)
    return written


def exact_matches(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerFast, rewritings: Sequence[Rewriting]
) -> list[bool]:
    """Which sources become exactly their targets; capitals do not count, since the tokenizers lower them."""
    written = rewrite(model, tokenizer, [r.source for r in rewritings])
    return [text == r.target.lower() for text, r in zip(written, rewritings, strict=True)]


class Seq2SeqTask:
    """A rewriter under training (see `training.Task`)."""

    phase = "captions"

    def __init__(self, rewriter: Rewriter, config: TextTraining, run: Run, accelerator: Accelerator) -> None:
        self.name = rewriter.name
        self._rewriter = rewriter
        self._config = config
        self._accelerator = accelerator
        torch.manual_seed(config.seed)
        self._bare = rewriter.build(rewriter.tokenizer, config.shape)
        self._model = accelerator.prepare(self._bare)
        self._average = MovingAverage(self._bare)
        self.optimizer = MuonAdamW(self._bare, config.rate.peak, config.weight_decay)
        self.batch_size = run.batch or (1024 if accelerator.device.type == "cuda" else 128)
        make = rewriter.texts(np.random.default_rng(99), True)
        self._held_out = [make() for _ in range(200)]
        self._reseed(0)

    def _reseed(self, step: int) -> None:
        """Other texts in each process, and after each break."""
        rng = np.random.default_rng([self._config.seed, self._accelerator.process_index, step])
        self._batches = batches(self._rewriter.texts(rng, False), self.batch_size, rng)

    def step(self, progress: float) -> dict[str, float]:  # noqa: ARG002 - every task takes it
        """See `training.Task`."""
        batch = to_batch(self._rewriter.tokenizer, next(self._batches))
        device = self._accelerator.device
        with self._accelerator.autocast():
            loss = self._model(
                input_ids=batch.input_ids.to(device),
                attention_mask=batch.attention_mask.to(device),
                labels=batch.labels.to(device),
            ).loss
        step_all(self._accelerator, self.optimizer, self._bare, self._average, loss)
        return {"loss": loss.item()}

    def probe(self) -> dict[str, float]:
        """See `training.Task`."""
        self._bare.eval()
        with self._average.swapped_into(self._bare):
            right = exact_matches(self._bare, self._rewriter.tokenizer, self._held_out)
        self._bare.train()
        return {"held-out exact match": sum(right) / len(right)}

    def state_dict(self) -> dict[str, Any]:
        """See `training.Task`."""
        text = text_of(self._rewriter.tokenizer)
        return averaged_state(self._bare, self._average, self.optimizer, self._config.shape, tokenizer=text)

    def load_state_dict(self, state: dict[str, Any], same_phase: bool) -> None:
        """See `training.Task`. Raises ValueError when the checkpoint was trained with another vocabulary."""
        if state["tokenizer"] != text_of(self._rewriter.tokenizer):
            raise ValueError("the concepts or the grammar have changed since the checkpoint: start in a new --work-dir")
        load_averaged_state(state, self._bare, self._average, self.optimizer, same_phase)
        self._reseed(state["progress"]["step"])
