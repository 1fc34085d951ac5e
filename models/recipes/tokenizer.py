"""A byte-level BPE with CLIP's conventions, trained on the captions' words.

As in openai/CLIP (`simple_tokenizer.py`): text is lower-cased, split by CLIP's pattern, words end in `</w>`, the
vocabulary is 256 bytes, the same 256 with `</w>`, one entry a merge, then the start and the end token; the end token
also pads; sequences have 77 positions. The result is an ordinary `CLIPTokenizer` that loads from its folder.
"""

import json
from collections.abc import Sequence
from pathlib import Path

from tokenizers import Tokenizer, models, trainers
from tokenizers.pre_tokenizers import ByteLevel
from transformers import CLIPTokenizer

START, END = "<|startoftext|>", "<|endoftext|>"
END_OF_WORD = "</w>"
POSITIONS = 77
VOCABULARY_SIZE = 4000


def train_tokenizer(corpus: Sequence[str], vocabulary_size: int = VOCABULARY_SIZE) -> CLIPTokenizer:
    """Learn at most `vocabulary_size` pieces; a small corpus runs out of merges earlier."""
    alphabet = sorted(ByteLevel.alphabet())
    learner = Tokenizer(models.BPE(end_of_word_suffix=END_OF_WORD))
    reference = CLIPTokenizer().backend_tokenizer
    learner.normalizer, learner.pre_tokenizer = reference.normalizer, reference.pre_tokenizer
    trainer = trainers.BpeTrainer(
        vocab_size=vocabulary_size - 2,
        min_frequency=2,
        initial_alphabet=alphabet,
        # Not special, but numbered before training: otherwise the hash order of the words numbers them, and ties
        # between merges, which are broken by number, fall differently in each process.
        special_tokens=[letter + END_OF_WORD for letter in alphabet],
        end_of_word_suffix=END_OF_WORD,
        show_progress=False,
    )
    learner.train_from_iterator(corpus, trainer)
    return clip_tokenizer(_merges_of(learner)[: vocabulary_size - 2 - 2 * len(alphabet)])


def _merges_of(tokenizer: Tokenizer) -> list[tuple[str, str]]:
    return [(first, second) for first, second in json.loads(tokenizer.to_str())["model"]["merges"]]


def merges_of(tokenizer: CLIPTokenizer) -> list[list[str]]:
    """What a checkpoint keeps of a tokenizer; `clip_tokenizer` builds it again."""
    return [list(merge) for merge in _merges_of(tokenizer.backend_tokenizer)]


def clip_tokenizer(merges: Sequence[Sequence[str]]) -> CLIPTokenizer:
    """Assemble CLIP's vocabulary from the merges."""
    alphabet = sorted(ByteLevel.alphabet())
    pieces = [*alphabet, *(letter + END_OF_WORD for letter in alphabet), *(a + b for a, b in merges), START, END]
    vocabulary = {piece: index for index, piece in enumerate(dict.fromkeys(pieces))}
    return CLIPTokenizer(
        vocab=vocabulary,
        merges=[(first, second) for first, second in merges],
        bos_token=START,
        eos_token=END,
        pad_token=END,
        unk_token=END,
        model_max_length=POSITIONS,
    )


def load_tokenizer(folder: Path, vocabulary_size: int) -> CLIPTokenizer:
    """Load and check: a folder without tokenizer files loads silently as an empty tokenizer (transformers 5)."""
    tokenizer = CLIPTokenizer.from_pretrained(folder, local_files_only=True)
    if len(tokenizer) != vocabulary_size:
        raise ValueError(f"{folder}: {len(tokenizer)} pieces, but the model has {vocabulary_size}")
    return tokenizer
