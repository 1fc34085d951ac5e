"""CLIP's vocabulary, which single-file checkpoints do not carry: every Stable Diffusion reads with the same one.

It is computed from the merges that ship with the project (`clip_bpe/`), as openai/CLIP's `simple_tokenizer.py` defines
it: the 256 bytes, the same at the end of a word, one token a merge, and two special tokens.
"""

from __future__ import annotations

from importlib.resources import files
from typing import Final

START: Final = "<|startoftext|>"
END: Final = "<|endoftext|>"
VOCABULARY_SIZE: Final = 49408


def read_clip_vocabulary() -> tuple[dict[str, int], list[tuple[str, str]]]:
    """The tokens with their ids (0..49407), and the merges in their order."""
    lines = files("webui.runtime").joinpath("clip_bpe/merges.txt").read_text(encoding="utf-8").splitlines()
    pairs = (line.split(" ") for line in lines[1:])
    merges = [(first, second) for first, second in pairs]
    letters = _byte_letters()
    tokens = [*letters, *(f"{letter}</w>" for letter in letters), *map("".join, merges), START, END]
    return {token: number for number, token in enumerate(tokens)}, merges


def _byte_letters() -> list[str]:
    """A printable letter for each byte, those that are printable themselves first (Radford et al. 2019)."""
    printable = [*range(ord("!"), ord("~") + 1), *range(ord("¡"), ord("¬") + 1), *range(ord("®"), ord("ÿ") + 1)]
    return [chr(byte) for byte in printable] + [chr(256 + number) for number in range(256 - len(printable))]
