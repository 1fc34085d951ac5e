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

    tokenizer = byte_tokenizer(["<s>", "<pad>", "</s>", "<unk>"], ["<mask>"], "<s> $A </s>")
    settings = {"vocab_size": len(tokenizer), "forced_bos_token_id": 0, **BART_TINY, **config}
    with torch.random.fork_rng():
        torch.manual_seed(3)
        BartForConditionalGeneration(BartConfig(**settings)).save_pretrained(folder)
    tokenizer.save_pretrained(folder)


def byte_tokenizer(frame: list[str], extra: list[str], template: str, size: int = 0) -> Any:
    """A byte-level tokenizer without merges; `frame` comes first in the vocabulary, as the classes expect.

    Words that no text has fill it up to `size` pieces.
    """
    from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, processors
    from transformers import PreTrainedTokenizerFast

    pieces = [*frame, *sorted(pre_tokenizers.ByteLevel.alphabet())]
    pieces += [f"Ġw{number}" for number in range(size - len(pieces) - len(extra))]
    tokenizer = Tokenizer(models.BPE({piece: place for place, piece in enumerate(pieces)}, [], unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens([AddedToken(token, special=True) for token in (*frame, *extra)])
    marks = [(token, pieces.index(token)) for token in frame if token in template]
    tokenizer.post_processor = processors.TemplateProcessing(single=template, special_tokens=marks)
    named = {"pad_token": "<pad>", "eos_token": "</s>", "unk_token": "<unk>"}
    if "<mask>" in extra:
        named |= {"mask_token": "<mask>", "bos_token": "<s>"}
        extra = []
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, additional_special_tokens=extra, clean_up_tokenization_spaces=False, **named
    )
