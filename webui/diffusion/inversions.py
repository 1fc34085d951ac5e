"""Textual inversions on a loaded pipeline, for one run (Gal et al. 2022): new words, each with vectors of its own.

Nothing of the model is written to, so that nothing can stay behind: the run gets tokenizers of its own, and while it
lasts a hook puts the vectors where the text encoder looks its tokens up. Other threads may use the encoder meanwhile.
"""

from __future__ import annotations

import copy
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import torch
from safetensors.torch import load_file
from tokenizers import AddedToken
from torch import nn

from webui.diffusion.inversion_words import Expansion, InversionWord
from webui.diffusion.light_pipeline import with_parts
from webui.errors import UserError
from webui.runtime.shared_tokenizer import share

_XL_NAMES: Final = ("clip_l", "clip_g")
_STANDS_IN: Final = 0
"""The token that the encoder is told of where a vector is: any but the end token, by which it finds the end."""


@dataclass(frozen=True, slots=True)
class InversionFile:
    """A file and the word that it gives a meaning."""

    path: Path
    word: InversionWord


@contextmanager
def inversions_applied(pipe: Any, files: Sequence[InversionFile], texts: Sequence[str]) -> Iterator[Any]:
    """A pipeline over the same weights that knows the words of `files`, good inside the context and in this thread.

    `texts` are the prompts it will be given. Raises UserError for a file of another width than the model's.
    """
    encoders = _clip_encoders(pipe, files)
    vectors = [_vectors(file.path, encoders) for file in files]
    expansion = Expansion([file.word for file in files], texts)
    names = {name: name.replace("text_encoder", "tokenizer") for name in encoders}
    handles: list[Any] = []
    try:
        for name, encoder in encoders.items():
            rows = torch.cat([found[name] for found in vectors])
            handles.extend(_Vectors(len(getattr(pipe, names[name])), rows).put_into(encoder))
        yield with_parts(pipe, {name: _with_words(getattr(pipe, name), expansion) for name in names.values()})
    finally:
        for handle in handles:
            handle.remove()


@dataclass(slots=True)
class _Vectors:
    """What the tokens from `first` on mean, (K, D); `places` (B, 77) is where they stand in the text being read."""

    first: int
    rows: torch.Tensor
    thread: int = field(default_factory=threading.get_ident)
    places: torch.Tensor | None = None
    which: torch.Tensor | None = None

    def put_into(self, encoder: nn.Module) -> list[Any]:
        """The handles of the hooks that do it."""
        any_encoder: Any = encoder
        return [
            encoder.register_forward_pre_hook(self._take_out, with_kwargs=True),
            any_encoder.get_input_embeddings().register_forward_hook(self._put_in),
        ]

    def _take_out(self, _module: nn.Module, *call: Any) -> tuple[tuple[Any, ...], dict[str, Any]] | None:
        if threading.get_ident() != self.thread:
            return None
        args, kwargs = call
        ids = args[0] if args else kwargs["input_ids"]
        places = ids >= self.first
        self.places, self.which = (places, ids[places] - self.first) if places.any() else (None, None)
        known = ids.masked_fill(places, _STANDS_IN)
        return ((known, *args[1:]), kwargs) if args else (args, {**kwargs, "input_ids": known})

    def _put_in(self, _module: nn.Module, *call: Any) -> torch.Tensor | None:
        if threading.get_ident() != self.thread or self.places is None or self.which is None:
            return None
        looked_up: torch.Tensor = call[-1].clone()
        looked_up[self.places] = self.rows.to(looked_up)[self.which.to(self.rows.device)].to(looked_up)
        self.places = self.which = None
        return looked_up


def _clip_encoders(pipe: Any, files: Sequence[InversionFile]) -> dict[str, nn.Module]:
    """The text encoders of Stable Diffusion and SDXL; other families read with T5 too, which no file is made for."""
    names = [name for name, part in pipe.components.items() if name.startswith("text_encoder") and part is not None]
    encoders = {name: getattr(pipe, name) for name in names}
    if not hasattr(pipe, "unet") or len(encoders) > len(_XL_NAMES):
        raise UserError("error.inversion_not_for_model", file=str(files[0].path))
    return encoders


def _vectors(file: Path, encoders: Mapping[str, nn.Module]) -> dict[str, torch.Tensor]:
    """The vectors (n, D) for each encoder."""
    found = load_file(file)
    named = [found[name] for name in _XL_NAMES if name in found] or [
        found.get("emb_params", next(iter(found.values())))
    ]
    tensors = [tensor.reshape(-1, tensor.shape[-1]) for tensor in named]
    widths = [int(tensor.shape[-1]) for tensor in tensors]
    any_encoders: dict[str, Any] = dict(encoders)
    own = [int(encoder.config.hidden_size) for encoder in any_encoders.values()]
    if widths != own:
        raise UserError("error.inversion_width", file=str(file), width=_sum(widths), expected=_sum(own))
    for name, tensor in zip(encoders, tensors, strict=True):
        if not torch.isfinite(tensor).all():
            raise UserError("error.weights_not_finite", file=str(file), name=name)
    return dict(zip(encoders, tensors, strict=True))


def _sum(widths: Sequence[int]) -> str:
    return " + ".join(map(str, widths))


def _with_words(tokenizer: Any, expansion: Expansion) -> Any:
    """A copy that has a token for each letter of the expansion, and expands what it is given."""
    copied = copy.deepcopy(tokenizer)
    vars(copied).pop("_encode_plus", None)  # `share` put it there, and it belongs to the tokenizer that was copied
    copied.add_tokens([AddedToken(letter, normalized=False) for letter in expansion.letters])
    encode = copied._encode_plus  # noqa: SLF001 - every public way to encode goes through it

    def expanding(text: Any, *args: Any, **options: Any) -> Any:
        texts = expansion.expanded(text) if isinstance(text, str) else [expansion.expanded(one) for one in text]
        return encode(texts, *args, **options)

    copied._encode_plus = expanding  # noqa: SLF001
    copied.expansion = expansion
    return share(copied)
