"""How a sentence becomes token ids: characters, UTF-8 bytes, BPE pieces, ids.

Byte-level BPE (CLIP, GPT-2) works on bytes, so a Thai letter, three bytes in UTF-8, may be cut in the middle; `Piece`
says which letters it touches and whether it shares one with the piece before it.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

_WORD_END: Final = "</w>"
_BLANK: Final = "\u2581"
_BYTE_FALLBACK: Final = re.compile(r"<0x([0-9A-Fa-f]{2})>")


@dataclass(frozen=True, slots=True)
class Letter:
    """One character (code point) of the text as the tokenizer reads it, and the UTF-8 bytes it becomes."""

    character: str
    raw: bytes


@dataclass(frozen=True, slots=True)
class Piece:
    """One token. `spelling` is the vocabulary's own notation, `raw` the bytes it stands for.

    `start` and `end` count letters of `TokenizedText.letters`: the ones it touches, end excluded. A special token
    (start, end, padding) touches none. `continues_letter` says that its first byte belongs to a letter whose earlier
    bytes are in the piece before it.
    """

    token_id: int
    spelling: str
    raw: bytes
    start: int
    end: int
    continues_letter: bool
    ends_word: bool
    is_special: bool


@dataclass(frozen=True, slots=True)
class TokenizedText:
    """The whole way of one text. `letters` are those of the normalised text (CLIP lower-cases and folds white space).

    `pieces` are what the model reads, start and end tokens included, without padding, at most `limit`. `used` counts
    the tokens the whole text would take; when that is more than `limit`, the model does not see `cut_text`.
    """

    text: str
    letters: tuple[Letter, ...]
    pieces: tuple[Piece, ...]
    limit: int
    used: int
    kept_text: str
    cut_text: str

    @property
    def is_cut(self) -> bool:
        """Whether the model does not see all of it."""
        return self.used > self.limit


def token_limit(model_config: Any) -> int:
    """How many positions the text tower has (77 in CLIP, 64 in SigLIP): the tokenizer's own limit may be unset."""
    return int(model_config.text_config.max_position_embeddings)


def tokenize(tokenizer: Any, text: str, limit: int) -> TokenizedText:
    """Take `text` apart with a `transformers` tokenizer that is backed by the `tokenizers` library."""
    encoded = tokenizer(text, add_special_tokens=False, return_offsets_mapping=True, verbose=False)
    specials = tokenizer.num_special_tokens_to_add()
    ids, offsets = list(encoded["input_ids"]), list(encoded["offset_mapping"])
    room = max(limit - specials, 0)
    end_of_kept = offsets[room - 1][1] if len(ids) > room > 0 else (len(text) if len(ids) <= room else 0)
    normalizer = tokenizer.backend_tokenizer.normalizer
    normalized = normalizer.normalize_str(text) if normalizer is not None else text
    normalized = normalized.replace(_BLANK, " ")  # how some sentencepiece vocabularies write it
    letters = tuple(Letter(character, character.encode("utf-8", "surrogatepass")) for character in normalized)
    whole = list(tokenizer(text, truncation=True, max_length=limit)["input_ids"])
    pieces = _pieces(tokenizer, letters, ids[:room])
    return TokenizedText(
        text=text,
        letters=letters,
        pieces=_with_specials(tokenizer, whole, ids[:room], pieces),
        limit=limit,
        used=len(ids) + specials,
        kept_text=text[:end_of_kept],
        cut_text=text[end_of_kept:],
    )


def words(tokenized: TokenizedText) -> tuple[tuple[int, ...], ...]:
    """Indices into `pieces`, grouped by the word (run without white space) they belong to; special tokens left out."""
    groups: list[list[int]] = []
    last_end = -1
    for index, piece in enumerate(tokenized.pieces):
        if piece.is_special:
            continue
        between = tokenized.letters[last_end : piece.start] if 0 <= last_end <= piece.start else ()
        if not groups or any(letter.character.isspace() for letter in between):
            groups.append([])
        groups[-1].append(index)
        last_end = piece.end
    return tuple(tuple(group) for group in groups)


def joined_pieces(tokenized: TokenizedText) -> tuple[tuple[int, ...], ...]:
    """Indices into `pieces`, grouped so that every group stands for whole letters; special tokens alone."""
    groups: list[list[int]] = []
    for index, piece in enumerate(tokenized.pieces):
        if piece.continues_letter and groups:
            groups[-1].append(index)
        else:
            groups.append([index])
    return tuple(tuple(group) for group in groups)


def _with_specials(tokenizer: Any, whole: list[int], ids: list[int], pieces: Sequence[Piece]) -> tuple[Piece, ...]:
    """Put the start and end tokens, which surround `ids` in `whole`, around `pieces`."""
    first = next((i for i in range(len(whole) - len(ids) + 1) if whole[i : i + len(ids)] == ids), 0)

    def special(token_id: int) -> Piece:
        return Piece(token_id, tokenizer.convert_ids_to_tokens(token_id), b"", 0, 0, False, False, True)

    before, after = whole[:first], whole[first + len(ids) :]
    return (*map(special, before), *pieces, *map(special, after))


def _pieces(tokenizer: Any, letters: Sequence[Letter], ids: Sequence[int]) -> list[Piece]:
    """Walk along the bytes of the letters, piece by piece; white space that no piece stands for is stepped over."""
    owners = [index for index, letter in enumerate(letters) for _ in letter.raw]  # byte -> the letter it belongs to
    raw = b"".join(letter.raw for letter in letters)
    alphabet = byte_alphabet()
    position, pieces = 0, []
    for token_id, spelling in zip(ids, tokenizer.convert_ids_to_tokens(list(ids)), strict=True):
        body = _bytes_of(spelling, alphabet)
        found = raw.find(body, position) if body else position
        if found < 0 or raw[position:found].strip():  # an unknown token, or one that is spelled unlike its text
            pieces.append(Piece(token_id, spelling, body, 0, 0, False, spelling.endswith(_WORD_END), True))
            continue
        end = found + len(body)
        first = owners[found] if body else 0
        last = owners[end - 1] + 1 if body else 0
        continues = bool(body) and found > 0 and owners[found - 1] == owners[found]
        pieces.append(Piece(token_id, spelling, body, first, last, continues, spelling.endswith(_WORD_END), not body))
        position = end
    return pieces


def _bytes_of(spelling: str, alphabet: Mapping[str, int]) -> bytes:
    """The bytes that a vocabulary entry stands for: byte-level alphabet (CLIP) or sentencepiece (SigLIP)."""
    if fallback := _BYTE_FALLBACK.fullmatch(spelling):
        return bytes([int(fallback[1], 16)])
    body = spelling.removesuffix(_WORD_END)
    if all(character in alphabet for character in body):
        return bytes(alphabet[character] for character in body)
    return body.replace(_BLANK, " ").strip(" ").encode("utf-8", "surrogatepass")


def byte_alphabet() -> dict[str, int]:
    """GPT-2's notation: a printable character for each of the 256 bytes (Radford et al. 2019, `bytes_to_unicode`)."""
    printable = [*range(ord("!"), ord("~") + 1), *range(ord("¡"), ord("¬") + 1), *range(ord("®"), ord("ÿ") + 1)]
    others = sorted({*range(256)} - {*printable})
    alphabet = {chr(byte): byte for byte in printable}
    return alphabet | {chr(256 + index): byte for index, byte in enumerate(others)}
