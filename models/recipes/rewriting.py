"""A text and what it should become: what `prompts` and `denoising` make and `seq2seq` learns."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Rewriting:
    """A text, and what it should become."""

    source: str
    target: str
