"""The weights of a prompt's words, put on what CLIP's text encoders make of them, for one run.

As A1111 does it: the vector of each token times its weight, then all of them times one number, so that their mean
stays. The pooled vector is left alone. A hook does it, so nothing of the model is changed, and other threads may use
the encoder.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import nn

from webui.diffusion.prompt_weights import MAX_WEIGHT, WeightedPrompt, read_by
from webui.diffusion.request import GenerateRequest
from webui.runtime.pipelines import PIPELINES, STABLE_DIFFUSION


def weighted_prompts(pipe: Any, request: GenerateRequest) -> tuple[WeightedPrompt, WeightedPrompt]:
    """Prompt and negative prompt; as they are typed for a model that does not read CLIP's vectors."""
    kind = PIPELINES.get(type(pipe).__name__, STABLE_DIFFUSION)
    return read_by(kind, request.prompt), read_by(kind, request.negative_prompt)


@contextmanager
def weights_applied(pipe: Any, prompts: Sequence[WeightedPrompt]) -> Iterator[None]:
    """Inside, in this thread, each CLIP encoder weighs what it reads: `prompts`, in the order in which it is asked."""
    handles: list[Any] = []
    try:
        if any(prompt.spans for prompt in prompts):
            for name, encoder in pipe.components.items():
                if name.startswith("text_encoder") and encoder is not None and not _is_t5(encoder):
                    tokenizer = getattr(pipe, name.replace("text_encoder", "tokenizer"))
                    positions = int(encoder.config.max_position_embeddings)
                    rows = [token_weights(tokenizer, prompt, positions) for prompt in prompts]
                    handles.append(encoder.register_forward_hook(_Weights(rows).put_on))
        yield
    finally:
        for handle in handles:
            handle.remove()


def token_weights(tokenizer: Any, prompt: WeightedPrompt, positions: int) -> list[float]:
    """The weight of each of `positions` tokens: that of its first letter; 1 for start, end and padding."""
    letters = prompt.letter_weights()
    inversions = getattr(tokenizer, "expansion", None)
    if inversions is not None:
        letters = inversions.spread(prompt.text, letters)
    encoded = tokenizer(
        prompt.text, padding="max_length", max_length=positions, truncation=True, return_offsets_mapping=True
    )
    return [letters[start] if end > start else 1.0 for start, end in encoded["offset_mapping"]]


@dataclass(slots=True)
class _Weights:
    """The weights of what an encoder is asked, call by call: the prompt, then the negative prompt."""

    rows: list[list[float]]
    thread: int = field(default_factory=threading.get_ident)
    calls: int = 0

    def put_on(self, _module: nn.Module, *call: Any) -> Any:
        """Another output with weighted vectors; the encoder's own stays as it is."""
        if threading.get_ident() != self.thread:
            return None
        row = self.rows[min(self.calls, len(self.rows) - 1)]
        self.calls += 1
        if all(weight == 1 for weight in row):
            return None
        values = dict(call[-1].items())
        values["last_hidden_state"] = _weighted(values["last_hidden_state"], row)
        states = values.get("hidden_states")
        if states is not None:  # SDXL and Stable Diffusion 3 read the last but one
            values["hidden_states"] = (*states[:-2], _weighted(states[-2], row), states[-1])
        return type(call[-1])(**values)


def _weighted(vectors: torch.Tensor, row: Sequence[float]) -> torch.Tensor:
    """(B, positions, D) times the weights of its positions, with the mean of each text kept.

    Where the mean is next to 0 there is nothing to keep, and the quotient would be chance: it is used as far as weights
    between the smallest and the largest can make it.
    """
    whole = vectors.float()
    scaled = whole * torch.tensor(row, device=vectors.device)[None, :, None]
    quotient = whole.mean(dim=(1, 2), keepdim=True) / scaled.mean(dim=(1, 2), keepdim=True)
    low, high = 1 / max(map(abs, row)), min(MAX_WEIGHT, 1 / max(min(map(abs, row)), 1 / MAX_WEIGHT))
    kept = torch.where((quotient >= low) & (quotient <= high), quotient, 1.0)
    return (scaled * kept).to(vectors.dtype)


def _is_t5(encoder: Any) -> bool:
    return type(encoder).__name__.startswith("T5")
