"""T5's tokenizer from `spiece.model`, the file that SentencePiece writes, for repositories that have no tokenizer.json.

Read without SentencePiece and without protobuf's library: https://github.com/google/sentencepiece,
src/sentencepiece_model.proto, in the wire format of https://protobuf.dev/programming-guides/encoding. The tokenizer is
put together as `transformers.T5Tokenizer` (5.23) does it.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

from webui.errors import UserError
from webui.runtime import safety

if TYPE_CHECKING:
    from tokenizers import Tokenizer

MAX_BYTES: Final = 16 * 2**20
"""T5's own is 0.8 MB, that of the multilingual mT5 4.3 MB."""

_PIECE, _TRAINER, _NORMALIZER = 1, 2, 3  # of ModelProto
_TEXT, _SCORE, _TYPE = 1, 2, 3  # of SentencePiece
_MODEL_TYPE: Final = 3  # of TrainerSpec
_CHARSMAP: Final = 2  # of NormalizerSpec
_UNKNOWN, _UNIGRAM = 2, 1
_VARINT, _EIGHT_BYTES, _BYTES, _FOUR_BYTES = 0, 1, 2, 5  # wire types
_USUAL_EXTRA_IDS: Final = 100
_BLANK: Final = "\u2581"


@dataclass(frozen=True, slots=True)
class Pieces:
    """The vocabulary, each piece with its log probability, in the order of its ids; and the rules to normalise text."""

    pieces: tuple[tuple[str, float], ...]
    unknown: int
    charsmap: bytes


def t5_tokenizer(folder: Path) -> Tokenizer:
    """The tokenizer of `folder`, which has a `spiece.model`; raises UserError for one that is broken.

    `extra_ids` in `tokenizer_config.json` counts the sentinels that stand behind the file's pieces.
    """
    from tokenizers import AddedToken, Tokenizer, models, normalizers, pre_tokenizers, processors

    path = folder / safety.SPIECE
    try:
        found = read_pieces(path)
        config = safety.read_json(folder / "tokenizer_config.json")
        sentinels = [f"<extra_id_{number}>" for number in range(int(config.get("extra_ids", _USUAL_EXTRA_IDS)))]
        vocabulary = [*found.pieces, *((sentinel, 0.0) for sentinel in reversed(sentinels))]
        tokenizer = Tokenizer(models.Unigram(vocabulary, unk_id=found.unknown, byte_fallback=False))
        if found.charsmap:
            tokenizer.normalizer = normalizers.Precompiled(found.charsmap)
        names = [piece for piece, _ in vocabulary]
        end = ("</s>", names.index("</s>"))
    # The tokenizers library raises bare Exception.
    except Exception as error:
        if isinstance(error, UserError):
            raise
        reason = (str(error).strip() or type(error).__name__).splitlines()[0][:200]
        raise UserError("error.model_file_broken", file=str(path), reason=reason) from error
    words = pre_tokenizers.Metaspace(replacement=_BLANK, prepend_scheme="always", split=True)
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([pre_tokenizers.WhitespaceSplit(), words])
    tokenizer.post_processor = processors.TemplateProcessing(single="$A </s>", special_tokens=[end])
    special = [name for name in ("</s>", "<unk>", "<pad>") if name in names]
    tokenizer.add_special_tokens([AddedToken(name, special=True) for name in (*special, *sentinels)])
    return tokenizer


def read_pieces(path: Path) -> Pieces:
    """What `path` says. Raises ValueError for anything but a whole unigram model, OSError."""
    if path.stat().st_size > MAX_BYTES:
        raise ValueError(f"> {MAX_BYTES} bytes")
    pieces: list[tuple[str, float]] = []
    unknown, charsmap = None, b""
    for number, value in _fields(path.read_bytes()):
        if number == _PIECE and isinstance(value, bytes):
            piece = dict(_fields(value))
            if piece.get(_TYPE) == _UNKNOWN:
                unknown = len(pieces)
            pieces.append((_bytes_of(piece, _TEXT).decode("utf-8"), _float_of(piece, _SCORE)))
        elif number == _TRAINER and isinstance(value, bytes):
            if dict(_fields(value)).get(_MODEL_TYPE, _UNIGRAM) != _UNIGRAM:
                raise ValueError("not a unigram model")
        elif number == _NORMALIZER and isinstance(value, bytes):
            charsmap = _bytes_of(dict(_fields(value)), _CHARSMAP)
    if unknown is None:
        raise ValueError("no piece for what is unknown")
    return Pieces(tuple(pieces), unknown, charsmap)


def _bytes_of(message: dict[int, int | bytes], number: int) -> bytes:
    value = message.get(number, b"")
    if not isinstance(value, bytes):
        raise ValueError(f"field {number} is a number")
    return value


def _float_of(message: dict[int, int | bytes], number: int) -> float:
    stored = _bytes_of(message, number)
    if len(stored) not in (0, struct.calcsize("<f")):
        raise ValueError(f"field {number} is no float")
    return float(struct.unpack("<f", stored)[0]) if stored else 0.0


def _fields(data: bytes) -> Iterator[tuple[int, int | bytes]]:
    """Number and value of each field of a message; what has no length of its own comes as its bytes."""
    place = 0
    while place < len(data):
        tag, place = _varint(data, place)
        if tag & 7 == _VARINT:
            value, place = _varint(data, place)
            yield tag >> 3, value
            continue
        if tag & 7 == _BYTES:
            length, place = _varint(data, place)
        else:
            length = {_EIGHT_BYTES: 8, _FOUR_BYTES: 4}.get(tag & 7, len(data))
        if place + length > len(data):
            raise ValueError("it ends in the middle of a field")
        yield tag >> 3, data[place : place + length]
        place += length


def _varint(data: bytes, place: int) -> tuple[int, int]:
    """The number that begins at `place`, seven bits a byte, and where the next thing begins."""
    value = 0
    for shift in range(0, 70, 7):
        if place >= len(data):
            break
        byte = data[place]
        place += 1
        value |= (byte & 127) << shift
        if byte < 128:
            return value, place
    raise ValueError("it ends in the middle of a number")
