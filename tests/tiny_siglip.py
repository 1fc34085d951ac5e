"""SigLIP folders as the Hub publishes them, real in everything but training: a few thousand random weights."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Literal

Kind = Literal["siglip", "siglip2-fixed", "siglip2-naflex"]
TOWER = {"hidden_size": 32, "intermediate_size": 37, "num_hidden_layers": 2, "num_attention_heads": 4}
SCALE, BIAS = 2.0, -3.0
"""logit_scale (its exponential is the scale) and logit_bias."""


def save_tiny_siglip(folder: Path, kind: Kind) -> None:
    """Write `kind`: SigLIP, the fixed-size SigLIP 2 (a SiglipModel too), or the NaFlex SigLIP 2; 64 positions."""
    import torch
    from transformers import (
        Siglip2Config,
        Siglip2ImageProcessorPil,
        Siglip2Model,
        SiglipConfig,
        SiglipImageProcessorPil,
        SiglipModel,
    )

    vocabulary = _save_unigrams(folder) if kind == "siglip" else _save_bytes_and_words(folder)
    text = {"vocab_size": vocabulary, "max_position_embeddings": 64, "projection_size": 32, **TOWER}
    with torch.random.fork_rng():
        torch.manual_seed(2)
        if kind == "siglip2-naflex":
            vision = {"num_patches": 16, "patch_size": 8, **TOWER}
            model = Siglip2Model(Siglip2Config(text_config=text, vision_config=vision))
            Siglip2ImageProcessorPil(patch_size=8, max_num_patches=16).save_pretrained(folder)
        else:
            vision = {"image_size": 32, "patch_size": 8, **TOWER}
            model = SiglipModel(SiglipConfig(text_config=text, vision_config=vision))
            SiglipImageProcessorPil(size={"height": 32, "width": 32}).save_pretrained(folder)
    with torch.no_grad():
        model.logit_scale.fill_(SCALE)
        model.logit_bias.fill_(BIAS)
    model.save_pretrained(folder)


def _save_unigrams(folder: Path) -> int:
    """SigLIP's kind of tokenizer (sentencepiece unigrams, "</s>" at the end), without any care for case."""
    from tokenizers import Tokenizer, models, pre_tokenizers, processors

    words = ["▁a", "▁cat", "▁dog", "▁", *"abcdefghijklmnopqrstuvwxyz!'แมว", "A", "C"]
    pieces = [("</s>", 0.0), ("<unk>", 0.0), *((word, -float(len(words) - i)) for i, word in enumerate(words))]
    tokenizer = Tokenizer(models.Unigram(pieces, unk_id=1))
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    tokenizer.post_processor = processors.TemplateProcessing(single="$A </s>", special_tokens=[("</s>", 0)])
    return _save(folder, tokenizer, "SiglipTokenizer", "</s>", "</s>")


def _save_bytes_and_words(folder: Path) -> int:
    """Gemma's kind of tokenizer, which SigLIP 2 uses: byte-pair merges, bytes for the rest, blanks as "▁"."""
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors

    pieces = ["<pad>", "<eos>", "<bos>", "<unk>", *(f"<0x{byte:02X}>" for byte in range(256))]
    pieces += [*"▁abcdefghijklmnopqrstuvwxyzAC", "ca", "cat", "▁cat"]
    merges = [("c", "a"), ("ca", "t"), ("▁", "cat")]
    tokenizer = Tokenizer(
        models.BPE({piece: i for i, piece in enumerate(pieces)}, merges, unk_token="<unk>", byte_fallback=True)
    )
    tokenizer.normalizer = normalizers.Replace(" ", "▁")
    tokenizer.pre_tokenizer = pre_tokenizers.Split(" ", "merged_with_previous")
    tokenizer.post_processor = processors.TemplateProcessing(single="$A <eos>", special_tokens=[("<eos>", 1)])
    return _save(folder, tokenizer, "GemmaTokenizer", "<eos>", "<pad>")


def _save(folder: Path, tokenizer: object, tokenizer_class: str, end: str, padding: str) -> int:
    folder.mkdir(parents=True)
    tokenizer.save(str(folder / "tokenizer.json"))  # type: ignore[attr-defined]
    config = {"tokenizer_class": tokenizer_class, "eos_token": end, "pad_token": padding, "unk_token": "<unk>"}
    (folder / "tokenizer_config.json").write_text(json.dumps(config | {"model_max_length": 64}), encoding="utf-8")
    return int(tokenizer.get_vocab_size())  # type: ignore[attr-defined]
