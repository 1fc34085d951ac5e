"""Writes text with a loaded T5 or BART: the same for the same seed, watched and stopped token by token."""

from __future__ import annotations

import unicodedata
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Final, Protocol

import torch
from transformers import StoppingCriteria, StoppingCriteriaList

from webui.clip.watch import UNWATCHED, Watch
from webui.errors import UserError
from webui.prompts.request import WritingSettings

OnText = Callable[[tuple[str, ...]], None]
"""Told after every token what is written so far: one text with beams (the best), one a candidate when sampling."""

IGNORED: Final = -100
"""The label that the stock classes leave out of their loss."""


class Rewriter(Protocol):
    """A loaded model and its tokenizer: what the model manager leases for the tasks "t5" and "bart"."""

    @property
    def model(self) -> Any:
        """A T5-, MT5- or BartForConditionalGeneration in eval mode."""

    @property
    def tokenizer(self) -> Any:
        """Its tokenizer."""


@dataclass(frozen=True, slots=True)
class RewriterParts:
    """A model in eval mode with its tokenizer, for those who loaded them themselves."""

    model: Any
    tokenizer: Any


@dataclass(frozen=True, slots=True)
class Written:
    """A text and how likely the model finds it: the mean of its tokens' log-probabilities (natural log, at most 0)."""

    text: str
    log_probability: float


def write(
    rewriter: Rewriter,
    source: str,
    settings: WritingSettings,
    watch: Watch = UNWATCHED,
    on_text: OnText | None = None,
    *,
    keep_special_tokens: bool = False,
) -> tuple[Written, ...]:
    """At most `settings.candidates` different texts for `source`, the likeliest first.

    The same token ids as `model.generate` with `generation_options(settings)`, after `torch.manual_seed(seed)`; the
    random state of the process is put back. Sampling holds that promise as long as no other thread samples on the
    same device. Raises what `watch.check` raises, between two tokens.
    """
    inputs = encode(rewriter, source)
    following = _Following(rewriter, settings, watch, on_text)
    with torch.inference_mode(), _seeded(settings.seed, rewriter.model.device):
        sequences = rewriter.model.generate(
            **inputs, **generation_options(settings), stopping_criteria=StoppingCriteriaList([following])
        )
        likelihoods = _log_probabilities(rewriter, inputs, sequences)
    texts = rewriter.tokenizer.batch_decode(sequences, skip_special_tokens=not keep_special_tokens)
    best: dict[str, float] = {}
    for text, likelihood in zip(map(_usable, texts), likelihoods, strict=True):
        best[text] = max(likelihood, best.get(text, likelihood))
    written = (Written(text, likelihood) for text, likelihood in best.items() if text)
    return tuple(sorted(written, key=lambda found: -found.log_probability))


def generation_options(settings: WritingSettings) -> dict[str, Any]:
    """What the settings are called by `model.generate`."""
    options: dict[str, Any] = {
        "max_new_tokens": settings.max_new_tokens,
        "num_return_sequences": settings.candidates,
    }
    if settings.method == "sample":
        return options | {
            "do_sample": True,
            "num_beams": 1,
            "temperature": settings.temperature,
            "top_p": settings.top_p,
            "top_k": 0,
        }
    return options | {"do_sample": False, "num_beams": max(settings.beams, settings.candidates)}


def encode(rewriter: Rewriter, source: str) -> dict[str, torch.Tensor]:
    """`input_ids` and `attention_mask` (1, S) on the model's device, not truncated."""
    inputs = rewriter.tokenizer(source, return_tensors="pt", truncation=False)
    return {name: inputs[name].to(rewriter.model.device) for name in ("input_ids", "attention_mask")}


def count_tokens(rewriter: Rewriter, text: str) -> int:
    """The model's own tokens in `text`, without those that frame it."""
    return len(rewriter.tokenizer(text, add_special_tokens=False, truncation=False)["input_ids"])


def check_special_tokens(rewriter: Rewriter, text: str) -> None:
    """Raise UserError when the text holds one of the tokenizer's marks, which would not be read as text."""
    for token in rewriter.tokenizer.all_special_tokens:
        if token in text:
            raise UserError("error.special_token", token=token)


def unknown_share(rewriter: Rewriter, text: str) -> float:
    """The share, 0 to 1, of the text's tokens that the model has no piece for (T5's vocabulary has no Thai)."""
    ids = rewriter.tokenizer(text, add_special_tokens=False, truncation=False)["input_ids"]
    unknown = rewriter.tokenizer.unk_token_id
    return ids.count(unknown) / len(ids) if ids and unknown is not None else 0.0


def _usable(text: str) -> str:
    """The text without control characters, which sampling may write and no prompt may hold."""
    return "".join(c for c in text if unicodedata.category(c) not in ("Cc", "Cs") or c in "\n\t").strip()


class _Following(StoppingCriteria):  # type: ignore[misc]
    """Stands where `generate` asks whether to stop: says what is written so far, and raises when it is to end."""

    def __init__(self, rewriter: Rewriter, settings: WritingSettings, watch: Watch, on_text: OnText | None) -> None:
        self._rewriter = rewriter
        self._settings = settings
        self._watch = watch
        self._on_text = on_text
        self._step = 0

    def __call__(self, input_ids: torch.Tensor, scores: Any, **options: Any) -> torch.Tensor:  # noqa: ARG002
        self._watch.check()
        self._step += 1
        self._watch.progress(self._step, self._settings.max_new_tokens, "phase.writing")
        if self._on_text is not None:
            shown = self._settings.candidates if self._settings.method == "sample" else 1
            texts = self._rewriter.tokenizer.batch_decode(input_ids[:shown], skip_special_tokens=True)
            self._on_text(tuple(text.strip() for text in texts))
        return torch.zeros(input_ids.shape[0], dtype=torch.bool, device=input_ids.device)


@contextmanager
def _seeded(seed: int, device: torch.device) -> Iterator[None]:
    devices = [] if device.type == "cpu" else [device]
    with torch.random.fork_rng(devices, device_type=device.type if devices else "cuda"):
        torch.manual_seed(seed)
        yield


def _log_probabilities(rewriter: Rewriter, inputs: dict[str, torch.Tensor], sequences: torch.Tensor) -> list[float]:
    """One pass over the finished sequences (C, T), so that beams and samples are measured alike."""
    model = rewriter.model
    count = sequences.shape[0]
    labels = sequences[:, 1:]
    logits = model(
        input_ids=inputs["input_ids"].expand(count, -1),
        attention_mask=inputs["attention_mask"].expand(count, -1),
        decoder_input_ids=sequences[:, :-1],
    ).logits.float()
    chosen = logits.log_softmax(-1).gather(-1, labels[..., None])[..., 0]
    # The first end token belongs to the text; what fills up behind it does not. Beam search fills up with end tokens.
    ends = torch.as_tensor(model.generation_config.eos_token_id, device=labels.device).reshape(-1)
    is_end = torch.isin(labels, ends)
    counted = is_end.cumsum(-1) - is_end.long() == 0
    return [float(value) for value in ((chosen * counted).sum(-1) / counted.sum(-1).clamp(min=1)).cpu()]
