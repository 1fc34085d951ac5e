"""From which words of the source each word that is written was taken: the decoder's cross-attention.

For prompts this is close to a word-by-word translation table (Bahdanau, Cho and Bengio 2015 read it so first), but
attention is where the model looks, not a proof of what it used (Jain and Wallace 2019).
"""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from webui.prompts.rewriting import Rewriter
from webui.vision.twin import eager_twin


@dataclass(frozen=True, slots=True, eq=False)
class CrossAttention:
    """`weights` (layers, heads, T, S) float64 from each of the T written words to the S words of the source.

    A word may be several tokens: then the weights on a source word are added, and those from a written word averaged,
    so that every row still sums to 1. The last word of each side is the end token, whose name is "".
    """

    source: tuple[str, ...]
    target: tuple[str, ...]
    weights: npt.NDArray[np.float64]

    def mean(self, layer: int | None = None) -> npt.NDArray[np.float64]:
        """(T, S): the mean over the heads of one layer (0 is the first), or of all layers."""
        chosen = self.weights if layer is None else self.weights[layer : layer + 1]
        mean: npt.NDArray[np.float64] = chosen.mean(axis=(0, 1))
        return mean


def cross_attention(rewriter: Rewriter, source: str, target: str) -> CrossAttention:
    """The cross-attention while `target` is written for `source` (its prefix included).

    It is computed by a twin that shares the weights, since the fast attention gives none out; the shared model is not
    touched. Row t is where the decoder looks in the step that writes word t.
    """
    tokenizer, device = rewriter.tokenizer, rewriter.model.device
    read = _Tokens.of(tokenizer, source)
    written = _Tokens.of(tokenizer, target)
    start = rewriter.model.config.decoder_start_token_id
    decoder_ids = [start, *written.ids[:-1]]
    with torch.inference_mode():
        output = eager_twin(rewriter.model)(
            input_ids=torch.tensor([read.ids], device=device),
            decoder_input_ids=torch.tensor([decoder_ids], device=device),
            output_attentions=True,
            use_cache=False,
        )
    maps = torch.stack([layer[0] for layer in output.cross_attentions]).double().cpu().numpy()
    return CrossAttention(tuple(read.words), tuple(written.words), _rows(_columns(maps, read.groups), written.groups))


@dataclass(frozen=True, slots=True)
class _Tokens:
    """`groups` are the places of each word's tokens; those that frame the text are words called ""."""

    ids: tuple[int, ...]
    words: tuple[str, ...]
    groups: tuple[tuple[int, ...], ...]

    @classmethod
    def of(cls, tokenizer: Any, text: str) -> _Tokens:
        """Cut `text` as the model reads it."""
        encoded = tokenizer(text, return_offsets_mapping=True, truncation=False)
        spans: list[tuple[int, int]] = []
        groups: list[list[int]] = []
        for place, (start, end) in enumerate(encoded["offset_mapping"]):
            inside = start < end
            if inside and spans and spans[-1][0] < spans[-1][1] and _goes_on(text, start, end, spans[-1][1]):
                spans[-1] = (spans[-1][0], max(spans[-1][1], end))
                groups[-1].append(place)
            else:
                spans.append((start, end))
                groups.append([place])
        words = tuple(text[start:end].strip() for start, end in spans)
        return cls(tuple(encoded["input_ids"]), words, tuple(map(tuple, groups)))


def _goes_on(text: str, start: int, end: int, before: int) -> bool:
    """Whether the piece from `start` to `end` belongs to the word that ended at `before`.

    It does within one character, when it is a space or begins with a mark that stands on the letter before it, and
    between two letters of a script that writes spaces; in Thai every piece of the tokenizer is a word of its own.
    """
    if start < before or text[start:end].isspace() or unicodedata.category(text[start])[0] == "M":
        return True
    last, first = text[before - 1], text[start]
    return start == before and last.isalnum() and first.isalnum() and not (_is_thai(last) or _is_thai(first))


def _is_thai(character: str) -> bool:
    return "\u0e00" <= character <= "\u0e7f"


def _columns(maps: npt.NDArray[np.float64], groups: Sequence[Sequence[int]]) -> npt.NDArray[np.float64]:
    return np.stack([maps[..., list(group)].sum(axis=-1) for group in groups], axis=-1)


def _rows(maps: npt.NDArray[np.float64], groups: Sequence[Sequence[int]]) -> npt.NDArray[np.float64]:
    return np.stack([maps[..., list(group), :].mean(axis=-2) for group in groups], axis=-2)
