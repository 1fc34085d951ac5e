"""`<lora:name:0.8>` in a prompt, as A1111 writes it: read, taken out, and written again. Imports no torch."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from webui.errors import UserError

MAX_WEIGHT: Final = 10.0
MAX_LORAS: Final = 16

_TAG: Final = re.compile(r" ?<lora:([^:<>\n]+)(?::([^<>\n]*))?>")


@dataclass(frozen=True, slots=True)
class LoraUse:
    """A LoRA by its name, and how strongly it is added (0 not at all, 1 as it was trained)."""

    name: str
    weight: float = 1.0

    @property
    def tag(self) -> str:
        """How it stands in a prompt."""
        return f"<lora:{self.name}:{self.weight:g}>"


def split_loras(prompt: str) -> tuple[str, tuple[LoraUse, ...]]:
    """The prompt without its tags, and what they ask for. Raises UserError for a weight that is no number in -10..10.

    One space before a tag goes with it, so that `with_tags` is the way back.
    """
    uses = tuple(_read(match) for match in _TAG.finditer(prompt))
    if len(uses) > MAX_LORAS:
        raise UserError("error.lora_too_many", count=len(uses), limit=MAX_LORAS)
    return (_TAG.sub("", prompt), uses) if uses else (prompt, ())


def with_tags(prompt: str, loras: str) -> str:
    """The prompt as A1111 would have it: the tags behind it."""
    return f"{prompt} {loras}" if loras else prompt


def written(uses: Iterable[LoraUse]) -> str:
    """The tags of several, one behind the other."""
    return " ".join(use.tag for use in uses)


def with_lora(prompt: str, use: LoraUse) -> str:
    """The prompt with this LoRA in it once, with this weight."""
    others = [match[0] for match in _TAG.finditer(prompt) if match[1] != use.name]
    plain = _TAG.sub("", prompt)
    return "".join([plain, *others, f" {use.tag}"])


def _read(match: re.Match[str]) -> LoraUse:
    name, weight = match[1].strip(), match[2]
    try:
        value = 1.0 if weight is None else float(weight)
    except ValueError:
        value = math.nan
    if not abs(value) <= MAX_WEIGHT:
        raise UserError("error.lora_weight", name=name[:100], weight=(weight or "")[:40], high=MAX_WEIGHT)
    return LoraUse(name, value)
