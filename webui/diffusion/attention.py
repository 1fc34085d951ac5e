"""Reads the cross-attention of a U-Net while it computes, without touching what it computes.

Forward hooks on each layer's `to_q` and `to_k` see the queries and keys; the probabilities softmax(q k^T / sqrt(d))
(Vaswani et al. 2017) are computed beside the layer's own attention, for the conditional half of the batch only. The
processors stay as they are, so slicing or another backend neither loses a map nor changes a number, and several runs
may watch one U-Net: a hook acts only for the thread that set it. Another thread may call it just as it is removed, and
torch then leaves out the keyword arguments, so a hook asks whose call it is before it looks at what it was given.
"""

from __future__ import annotations

import math
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Final

import torch
from diffusers.models.attention_processor import Attention
from torch import nn

_LEVELS: Final = 8
_MASKED: Final = -10000.0


@dataclass(frozen=True, slots=True)
class CrossLayer:
    """One cross-attention layer: its name in the U-Net ("down_blocks.0.attentions.0....attn2") and the module."""

    name: str
    attention: Attention


def cross_attention_layers(unet: nn.Module) -> tuple[CrossLayer, ...]:
    """Every layer that attends to the text, in the order in which the U-Net computes them.

    That is each `attn2`, and `attn1` too in blocks that were made with `only_cross_attention`.
    """
    found = {
        name: module
        for name, module in unet.named_modules()
        if isinstance(module, Attention) and bool(module.is_cross_attention)
    }
    # As attributes the up blocks come before the middle one.
    order = {"down_blocks": 0, "mid_block": 1, "up_blocks": 2}
    names = sorted(found, key=lambda name: order.get(name.partition(".")[0], 1))
    return tuple(CrossLayer(name, found[name]) for name in names)


def level_size(queries: int, height: int, width: int) -> tuple[int, int] | None:
    """The (height, width) of a layer with that many queries, in a U-Net over height x width latents; None if odd.

    Each level halves both sides, rounding up (a convolution of stride 2 with padding 1).
    """
    for _ in range(_LEVELS):
        if height * width == queries:
            return height, width
        height, width = -(-height // 2), -(-width // 2)
    return None


@dataclass(slots=True)
class AttentionReader:
    """Hands `on_layer` what every cross-attention layer compares, whenever this thread computes one.

    `on_layer` gets the layer's index, the queries (B, queries, heads d) and the keys (B, positions, heads d) of the
    conditional half, B pictures, for `probabilities`. They are the layer's own: not to be written to.
    """

    layers: tuple[CrossLayer, ...]
    pictures: int
    on_layer: Callable[[int, torch.Tensor, torch.Tensor], None]
    _handles: list[Any] = field(default_factory=list)
    _queries: dict[int, torch.Tensor] = field(default_factory=dict)
    _thread: int = 0

    def __enter__(self) -> AttentionReader:
        self._thread = threading.get_ident()
        for index, layer in enumerate(self.layers):
            self._handles.append(layer.attention.to_q.register_forward_hook(self._query_hook(index)))
            self._handles.append(layer.attention.to_k.register_forward_hook(self._key_hook(index)))
        return self

    def __exit__(self, *_: object) -> None:
        for handle in self._handles:
            handle.remove()

    def _query_hook(self, index: int) -> Callable[..., None]:
        def hook(_module: nn.Module, _args: Any, output: torch.Tensor) -> None:
            if threading.get_ident() == self._thread:
                self._queries[index] = output

        return hook

    def _key_hook(self, index: int) -> Callable[..., None]:
        def hook(_module: nn.Module, _args: Any, output: torch.Tensor) -> None:
            if threading.get_ident() == self._thread:
                query = self._queries.pop(index)
                self.on_layer(index, query[-self.pictures :], output[-self.pictures :])

        return hook


def probabilities(attention: Attention, query: torch.Tensor, key: torch.Tensor) -> torch.Tensor:
    """softmax(q k^T / sqrt(d)), (B, heads, queries, positions), of (B, queries, heads d) and (B, positions, heads d).

    In float32 whatever the model's dtype, since half precision would lose the small ones.
    """
    batch, queries, _ = query.shape
    heads = attention.heads
    query = query.view(batch, queries, heads, -1).transpose(1, 2)
    key = key.view(batch, key.shape[1], heads, -1).transpose(1, 2)
    if attention.norm_q is not None:
        query = attention.norm_q(query)
    if attention.norm_k is not None:
        key = attention.norm_k(key)
    scores = (query * (1 / math.sqrt(query.shape[-1]))) @ key.transpose(-1, -2)
    return scores.float().softmax(dim=-1)


@dataclass(slots=True)
class MaskedKeys:
    """While it is open, `pictures` conditional rows of this thread's batches cannot attend to `positions` of the text.

    It adds -10000 to their scores before the softmax, as diffusers does for masked tokens.
    """

    layers: tuple[CrossLayer, ...]
    pictures: int
    positions: tuple[int, ...]
    _handles: list[Any] = field(default_factory=list)
    _thread: int = 0

    def __enter__(self) -> MaskedKeys:
        self._thread = threading.get_ident()
        for layer in self.layers:
            self._handles.append(layer.attention.register_forward_pre_hook(self._mask, with_kwargs=True))
        return self

    def __exit__(self, *_: object) -> None:
        for handle in self._handles:
            handle.remove()

    def _mask(self, _module: nn.Module, *call: Any) -> tuple[Any, dict[str, Any]] | None:
        if threading.get_ident() != self._thread:
            return None
        args, kwargs = call
        hidden, text = args[0], kwargs["encoder_hidden_states"]
        bias = hidden.new_zeros(len(hidden), 1, text.shape[1])
        bias[-self.pictures :, :, list(self.positions)] = _MASKED
        own = kwargs.get("attention_mask")
        return args, {**kwargs, "attention_mask": bias if own is None else bias + own}
