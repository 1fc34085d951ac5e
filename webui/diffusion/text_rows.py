"""The rows of text that a transformer reads: the tokens of one or more text encoders, one after the other."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final, Literal

from webui.diffusion.trace_header import TraceToken

_BLANK: Final = "\u2581"


def prompt_pieces(prompt: str, windows: Sequence[tuple[Any, int]]) -> tuple[tuple[TraceToken, ...], str]:
    """The rows of `prompt`, and the end of it that the last window does not see.

    `windows` are tokenizers and how many positions each one's tokens take, in the order in which their encoders'
    vectors are set one after the other; a tokenizer that is None was left out, and its positions are all padding.
    """
    rows: list[TraceToken] = []
    first, cut = 0, ""
    for tokenizer, length in windows:
        found, cut = ([], cut) if tokenizer is None else _pieces(tokenizer, prompt, length, first)
        rows += found
        if len(found) < length:
            rows.append(TraceToken("", "padding", first + len(found), length - len(found), None))
        first += length
    return tuple(rows), cut


def _pieces(tokenizer: Any, prompt: str, length: int, first: int) -> tuple[list[TraceToken], str]:
    """One row a token, special ones too, and the text behind the last token of a prompt that is too long."""
    kept = tokenizer(prompt, truncation=True, max_length=length, return_offsets_mapping=True, verbose=False)
    whole = tokenizer(prompt, add_special_tokens=False, return_offsets_mapping=True, verbose=False)
    ids, spans = list(kept["input_ids"]), list(kept["offset_mapping"])
    special = set(tokenizer.all_special_ids)
    # CLIP's unknown token is its end token; one that stands for letters of the prompt is neither start nor end.
    added = [token in special and not end > start for token, (start, end) in zip(ids, spans, strict=True)]
    spellings = tokenizer.convert_ids_to_tokens(ids)
    rows = [
        TraceToken(_letters(prompt, span, spelling) if kind == "word" else "", kind, first + place, 1, None)
        for place, (kind, span, spelling) in enumerate(zip(_kinds(added), spans, spellings, strict=True))
    ]
    room = length - tokenizer.num_special_tokens_to_add()
    return rows, prompt[whole["offset_mapping"][room][0] :] if len(whole["input_ids"]) > room else ""


def _letters(prompt: str, span: tuple[int, int], spelling: str) -> str:
    """What a token stands for: of SentencePiece its spelling, where a blank may be a token of its own."""
    if _BLANK in spelling:
        return spelling.replace(_BLANK, "") or _BLANK
    return prompt[slice(*span)].strip() or spelling


def _kinds(added: Sequence[bool]) -> list[Literal["start", "word", "end"]]:
    """Tokens that were added before the first piece of text start it, those behind end it; alone, they are an end."""
    first = next((place for place, is_added in enumerate(added) if not is_added), len(added) - 1)
    return ["word" if not is_added else "start" if place < first else "end" for place, is_added in enumerate(added)]
