"""Writes a model of a known configuration with random weights, as its repository on the Hub lays out its files.

No part is ever whole in memory: its tensors are drawn and written one after the other. Imports torch.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, BinaryIO, Final

import diffusers
import torch
import transformers
from accelerate import init_empty_weights
from torch import nn

from webui.runtime.fullsize import FullSizeModel, FullSizePart
from webui.runtime.safety import DIFFUSERS_STEM, TRANSFORMERS_STEM

FLOAT32_BYTES: Final = 4
_SPREAD: Final = 0.05
_CLIP_ENDS: Final = ("<|startoftext|>", "<|endoftext|>")
_UNKNOWN: Final = "<unk>"
_T5_SENTINELS: Final = tuple(f"<extra_id_{number}>" for number in range(4))


def write_full_size(model: FullSizeModel, folder: Path, seed: int = 0) -> None:
    """Write `model` to `folder`, which may not exist yet: the same weights for a seed, in float32 and safetensors."""
    folder.mkdir(parents=True, exist_ok=True)
    generator = torch.Generator().manual_seed(seed)
    for name, part in model.parts.items():
        _write_part(part, folder / name, generator)
    for name, kind in model.tokenizers.items():
        _write_tokenizer(kind, folder / name, _vocabulary(model, name))
    if model.processor is not None:
        _write_json(folder / "preprocessor_config.json", model.processor)
    if model.scheduler is not None:
        getattr(diffusers, model.scheduler.class_name)(**model.scheduler.config).save_pretrained(folder / "scheduler")
    if model.pipeline:
        _write_json(folder / "model_index.json", _pipeline_index(model))


def build_empty(part: FullSizePart) -> nn.Module:
    """The part's module without weights, on torch's "meta" device."""
    with init_empty_weights():
        if hasattr(diffusers, part.class_name):
            module: nn.Module = getattr(diffusers, part.class_name).from_config(part.config)
        else:
            model_class = getattr(transformers, part.class_name)
            module = model_class(model_class.config_class(**part.config))
    tie = getattr(module, "tie_weights", None)
    if callable(tie):
        tie()  # building without weights undoes it
    if part.config.get("tie_word_embeddings") is False:
        _untie_head(module)
    return module


def fill_randomly(tensor: torch.Tensor, name: str, generator: torch.Generator) -> None:
    """Give a weight called `name` values that keep activations finite through any number of layers.

    Scales of norms (and single numbers) are 1, biases 0, everything else is uniform around 0.
    """
    if tensor.ndim == 0 or (tensor.ndim == 1 and name.endswith("weight")):
        tensor.fill_(1)
    elif tensor.ndim == 1:
        tensor.zero_()
    else:
        tensor.uniform_(-_SPREAD, _SPREAD, generator=generator)


def save_clip_tokenizer(folder: Path, size: int = 0) -> None:
    """Write a CLIP tokenizer without merges: 256 bytes, the same ending a word, and the two special tokens at the end.

    Pieces that no text has fill the vocabulary up to `size`.
    """
    letters = _byte_letters()
    pieces = [*letters, *(letter + "</w>" for letter in letters)]
    pieces += [f"unused{number}</w>" for number in range(size - len(pieces) - len(_CLIP_ENDS))]
    folder.mkdir(parents=True, exist_ok=True)
    _write_json(folder / "vocab.json", {piece: place for place, piece in enumerate([*pieces, *_CLIP_ENDS])})
    (folder / "merges.txt").write_text("#version: 0.2\n", encoding="utf-8")
    _write_json(folder / "tokenizer_config.json", {"model_max_length": 77})


def byte_tokenizer(frame: list[str], extra: list[str], template: str, size: int = 0) -> Any:
    """A byte-level tokenizer without merges for T5 and BART; `frame` comes first in the vocabulary, as they expect.

    `extra` are special tokens at its end, `template` what stands around a text ("$A </s>"). Words that no text has fill
    the vocabulary up to `size` pieces.
    """
    from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, processors

    pieces = [*frame, *sorted(pre_tokenizers.ByteLevel.alphabet())]
    pieces += [f"Ġw{number}" for number in range(size - len(pieces) - len(extra))]
    tokenizer = Tokenizer(models.BPE({piece: place for place, piece in enumerate(pieces)}, [], unk_token=_UNKNOWN))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens([AddedToken(token, special=True) for token in (*frame, *extra)])
    marks = [(token, pieces.index(token)) for token in frame if token in template]
    tokenizer.post_processor = processors.TemplateProcessing(single=template, special_tokens=marks)
    named = {"pad_token": "<pad>", "eos_token": "</s>", "unk_token": _UNKNOWN}
    if "<mask>" in extra:
        named |= {"mask_token": "<mask>", "bos_token": "<s>"}
        extra = []
    return transformers.PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, additional_special_tokens=extra, clean_up_tokenization_spaces=False, **named
    )


def _untie_head(module: Any) -> None:
    """Give the output layer weights of its own: transformers (5.23) ties T5's, until a file has both."""
    module.lm_head.weight = nn.Parameter(torch.empty_like(module.lm_head.weight))
    tied = module.all_tied_weights_keys
    module.all_tied_weights_keys = {name: source for name, source in tied.items() if name != "lm_head.weight"}


def _write_part(part: FullSizePart, folder: Path, generator: torch.Generator) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    module: Any = build_empty(part)
    if isinstance(module, diffusers.ModelMixin):
        module.save_config(folder)
        stem, tied = DIFFUSERS_STEM, set()
    else:
        module.config.architectures = [part.class_name]
        module.config.save_pretrained(folder)
        if module.can_generate():
            module.generation_config.save_pretrained(folder)
        stem, tied = TRANSFORMERS_STEM, set(module.all_tied_weights_keys)
    shapes = {name: tensor.shape for name, tensor in module.state_dict().items() if name not in tied}
    with (folder / f"{stem}.safetensors").open("wb") as file:
        _write_header(file, shapes)
        for name, shape in shapes.items():
            tensor = torch.empty(shape)
            fill_randomly(tensor, name, generator)
            file.write(tensor.numpy().tobytes())


def _write_header(file: BinaryIO, shapes: Mapping[str, torch.Size]) -> None:
    """The head of a safetensors file with these float32 tensors (https://github.com/huggingface/safetensors#format)."""
    header: dict[str, Any] = {"__metadata__": {"format": "pt"}}
    for name, shape, start, end in _places(shapes):
        header[name] = {"dtype": "F32", "shape": list(shape), "data_offsets": [start, end]}
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    file.write(struct.pack("<Q", len(text)) + text)


def _places(shapes: Mapping[str, torch.Size]) -> Iterator[tuple[str, torch.Size, int, int]]:
    start = 0
    for name, shape in shapes.items():
        end = start + shape.numel() * FLOAT32_BYTES
        yield name, shape, start, end
        start = end


def _vocabulary(model: FullSizeModel, tokenizer: str) -> int:
    """How many pieces the tokenizer has, by the configuration of the part that reads it."""
    config = model.parts[tokenizer.replace("tokenizer", "text_encoder")].config
    return int(config.get("text_config", config)["vocab_size"])


def _write_tokenizer(kind: str, folder: Path, size: int) -> None:
    if kind == "clip":
        save_clip_tokenizer(folder, size)
    elif kind == "t5":
        byte_tokenizer(["<pad>", "</s>", "<unk>"], list(_T5_SENTINELS), "$A </s>", size).save_pretrained(folder)
    else:
        byte_tokenizer(["<s>", "<pad>", "</s>", "<unk>"], ["<mask>"], "<s> $A </s>", size).save_pretrained(folder)


def _pipeline_index(model: FullSizeModel) -> dict[str, Any]:
    assert model.scheduler is not None  # noqa: S101 - every pipeline of the table has one
    index: dict[str, Any] = {"_class_name": model.pipeline, "_diffusers_version": diffusers.__version__}
    for name, part in model.parts.items():
        library = "diffusers" if hasattr(diffusers, part.class_name) else "transformers"
        index[name] = [library, part.class_name]
    for name, kind in model.tokenizers.items():
        index[name] = ["transformers", "CLIPTokenizer" if kind == "clip" else "T5TokenizerFast"]
    return {**index, "scheduler": ["diffusers", model.scheduler.class_name]}


def _write_json(path: Path, value: object) -> None:
    path.write_text(json.dumps(value), encoding="utf-8")


def _byte_letters() -> list[str]:
    """GPT-2's printable stand-ins for the 256 bytes, which CLIP's tokenizer uses too (Radford et al. 2019)."""
    printable = [*range(ord("!"), ord("~") + 1), *range(ord("¡"), ord("¬") + 1), *range(ord("®"), ord("ÿ") + 1)]
    others = [byte for byte in range(256) if byte not in printable]
    return [chr(byte) for byte in printable] + [chr(256 + i) for i in range(len(others))]
