"""How much of CLIP's window a prompt takes, counted without torch or transformers.

The tokenizer is put together from the model's own vocabulary exactly as `transformers.CLIPTokenizer` (5.23) does it,
with the `tokenizers` library that stands behind both, so the ids are the same.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from webui.diffusion.inversion_words import InversionWord, spans
from webui.errors import UserError
from webui.runtime.clip_vocabulary import read_clip_vocabulary
from webui.runtime.safety import reads_spiece
from webui.runtime.spiece import t5_tokenizer

if TYPE_CHECKING:
    from tokenizers import Tokenizer

TOKEN_LIMIT: Final = 77
"""Positions of CLIP's text model, start and end token included."""

_START: Final = "<|startoftext|>"
_END: Final = "<|endoftext|>"
_WORDS: Final = (
    r"<\|startoftext\|>|<\|endoftext\|>|'s|'t|'re|'ve|'m|'ll|'d|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+"  # openai/CLIP's
)


@dataclass(frozen=True, slots=True)
class TokenCount:
    """`used` tokens of `limit`, start and end included; `kept_text` + `cut_text` is the prompt that the model reads.

    `weighted` counts its words that have a weight, whose brackets are not read (`prompt_weights`).
    The model does not see `cut_text`; a character whose tokens are cut in the middle counts as cut.
    """

    used: int
    limit: int
    kept_text: str
    cut_text: str
    weighted: int = 0


class PromptTokenizers:
    """The tokenizers of the models asked about, each read once and again only when its files have changed."""

    def __init__(self) -> None:
        self._tokenizers: dict[tuple[Path, str], Tokenizer] = {}
        self._lock = threading.Lock()

    def count(
        self,
        model_folder: Path,
        revision: str,
        prompt: str,
        tokenizer: str = "tokenizer",
        limit: int = TOKEN_LIMIT,
        inversions: Sequence[InversionWord] = (),
        *,
        clip: bool = True,
        lowercase: bool = False,
    ) -> TokenCount:
        """The tokens of `prompt` for the txt2img model in `model_folder`, or in the single file of that name.

        `tokenizer` is the pipeline's part that counts, `limit` its window; a word of `inversions` counts as many tokens
        as it has vectors. `clip` is False for a T5's tokenizer, `lowercase` True for a model that reads small letters.
        Raises UserError for a broken tokenizer.
        """
        with self._lock:
            key = (model_folder / tokenizer, revision)
            if key not in self._tokenizers:
                read = _tokenizer_of(model_folder, tokenizer, clip=clip)
                self._tokenizers[key] = _lowercasing(read) if lowercase else read
            found = self._tokenizers[key]
        return count_tokens(found, prompt, limit, inversions)


def count_tokens(
    tokenizer: Tokenizer, prompt: str, limit: int = TOKEN_LIMIT, inversions: Sequence[InversionWord] = ()
) -> TokenCount:
    """Count and say what is cut: the start token, the first `limit` - 2 of the prompt and the end token are kept."""
    starts: list[int] = []
    for span in spans(prompt, inversions):
        if span.word is not None:
            starts.extend([span.start] * span.word.vectors)
        else:
            encoding = tokenizer.encode(prompt[span.start : span.end], add_special_tokens=False)
            starts.extend(span.start + start for start, _ in encoding.offsets)
    specials = tokenizer.num_special_tokens_to_add(is_pair=False)
    room = limit - specials
    cut_at = starts[room] if len(starts) > room else len(prompt)
    return TokenCount(len(starts) + specials, limit, prompt[:cut_at], prompt[cut_at:])


def read_tokenizer(folder: Path) -> Tokenizer:
    """CLIP's tokenizer from `tokenizer.json`, or from `vocab.json` and `merges.txt`; raises UserError when broken."""
    try:
        if (folder / "tokenizer.json").is_file():
            vocabulary, merges = _read_tokenizer_json(folder / "tokenizer.json")
        else:
            vocabulary = json.loads((folder / "vocab.json").read_text(encoding="utf-8"))
            merges = _read_merges(folder / "merges.txt")
        return _clip_tokenizer(vocabulary, merges, _read_config(folder / "tokenizer_config.json"))
    # The tokenizers library raises bare Exception for a vocabulary that does not fit its merges.
    except Exception as error:
        reason = (str(error).strip() or type(error).__name__).splitlines()[0][:200]
        raise UserError("error.model_file_broken", file=str(folder), reason=reason) from error


def _tokenizer_of(model: Path, name: str, *, clip: bool) -> Tokenizer:
    if model.is_file():
        return _clip_tokenizer(*read_clip_vocabulary(), {})
    if clip:
        return read_tokenizer(model / name)
    if reads_spiece(model / name):
        return t5_tokenizer(model / name)
    return _read_whole_tokenizer(model / name / "tokenizer.json")


def _lowercasing(tokenizer: Tokenizer) -> Tokenizer:
    from tokenizers import normalizers

    own = [] if tokenizer.normalizer is None else [tokenizer.normalizer]
    tokenizer.normalizer = normalizers.Sequence([normalizers.Lowercase(), *own])
    return tokenizer


def _read_whole_tokenizer(path: Path) -> Tokenizer:
    """T5's, which its file describes completely."""
    from tokenizers import Tokenizer

    try:
        return Tokenizer.from_file(str(path))
    except Exception as error:  # the library raises nothing more special
        reason = (str(error).strip() or type(error).__name__).splitlines()[0][:200]
        raise UserError("error.model_file_broken", file=str(path), reason=reason) from error


def _read_tokenizer_json(path: Path) -> tuple[dict[str, int], list[tuple[str, str]]]:
    model: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))["model"]
    # Files before tokenizers 0.20 have "a b" for a merge, later ones ["a", "b"].
    pairs = (merge.split(" ") if isinstance(merge, str) else merge for merge in model["merges"])
    return model["vocab"], [(first, second) for first, second in pairs]


def _read_merges(path: Path) -> list[tuple[str, str]]:
    lines = path.read_text(encoding="utf-8").split("\n")
    pairs = (line.split(" ") for line in lines if line and not line.startswith("#version"))
    return [(first, second) for first, second in pairs]


def _read_config(path: Path) -> dict[str, Any]:
    config: dict[str, Any] = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
    return config


def _found_after_lowercasing(token: str, config: dict[str, Any]) -> bool:
    """Whether "<|EndOfText|>" in a prompt is the token too: Stable Diffusion 1.x declares it so ("normalized")."""
    declared = (*config.get("added_tokens_decoder", {}).values(), config.get("bos_token"), config.get("eos_token"))
    return any(bool(other["normalized"]) for other in declared if isinstance(other, dict) and other["content"] == token)


def _clip_tokenizer(vocabulary: dict[str, int], merges: list[tuple[str, str]], config: dict[str, Any]) -> Tokenizer:
    """As transformers/models/clip/tokenization_clip.py."""
    from tokenizers import AddedToken, Regex, Tokenizer, models, normalizers, pre_tokenizers, processors

    bpe = models.BPE(vocab=vocabulary, merges=merges, unk_token=_END, end_of_word_suffix="</w>")
    tokenizer = Tokenizer(bpe)
    tokenizer.normalizer = normalizers.Sequence(
        [normalizers.NFC(), normalizers.Replace(Regex(r"\s+"), " "), normalizers.Lowercase()]
    )
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(_WORDS), behavior="removed", invert=True),
            pre_tokenizers.ByteLevel(add_prefix_space=False),
        ]
    )
    tokenizer.post_processor = processors.RobertaProcessing(
        (_END, vocabulary[_END]), (_START, vocabulary[_START]), trim_offsets=False, add_prefix_space=False
    )
    tokenizer.add_special_tokens(
        [
            AddedToken(token, special=True, normalized=_found_after_lowercasing(token, config))
            for token in (_START, _END)
        ]
    )
    return tokenizer
