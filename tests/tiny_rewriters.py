"""T5 and BART that are real in everything but training: the standard classes, a byte tokenizer, random weights."""

from __future__ import annotations

from pathlib import Path
from typing import Any

T5_TINY: dict[str, Any] = {"d_model": 32, "d_kv": 8, "d_ff": 37, "num_layers": 2, "num_heads": 4}
BART_TINY: dict[str, Any] = {
    "d_model": 32,
    "encoder_layers": 2,
    "decoder_layers": 2,
    "encoder_attention_heads": 4,
    "decoder_attention_heads": 4,
    "encoder_ffn_dim": 37,
    "decoder_ffn_dim": 37,
    "max_position_embeddings": 256,
}


def save_t5(folder: Path, **config: Any) -> None:
    """Write a `T5ForConditionalGeneration`; `config` replaces the tiny values."""
    import torch
    from transformers import T5Config, T5ForConditionalGeneration

    from webui.runtime.random_weights import byte_tokenizer

    tokenizer = byte_tokenizer(["<pad>", "</s>", "<unk>"], [f"<extra_id_{n}>" for n in range(4)], "$A </s>")
    settings = {"vocab_size": len(tokenizer), "decoder_start_token_id": 0, **T5_TINY, **config}
    with torch.random.fork_rng():
        torch.manual_seed(2)
        T5ForConditionalGeneration(T5Config(**settings)).save_pretrained(folder)
    tokenizer.save_pretrained(folder)


def save_bart(folder: Path, **config: Any) -> None:
    """Write a `BartForConditionalGeneration`; `config` replaces the tiny values."""
    import torch
    from transformers import BartConfig, BartForConditionalGeneration

    from webui.runtime.random_weights import byte_tokenizer

    tokenizer = byte_tokenizer(["<s>", "<pad>", "</s>", "<unk>"], ["<mask>"], "<s> $A </s>")
    settings = {"vocab_size": len(tokenizer), "forced_bos_token_id": 0, **BART_TINY, **config}
    with torch.random.fork_rng():
        torch.manual_seed(3)
        BartForConditionalGeneration(BartConfig(**settings)).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
