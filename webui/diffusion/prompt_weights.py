"""How strongly each word of a prompt counts, as in A1111: (word), ((word)), (word:1.3), [word]. Imports no torch.

https://github.com/AUTOMATIC1111/stable-diffusion-webui/wiki/Features#attentionemphasis. Other than there, a bracket
that nothing closes is an ordinary character, so that ":(" in a prompt changes nothing.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from webui.errors import UserError
from webui.runtime.pipelines import PipelineKind

MORE: Final = 1.1
"""What round brackets multiply by; square ones divide by it."""

MAX_WEIGHT: Final = 10.0

_SYNTAX: Final = "()[]\\"
_NUMBER: Final = re.compile(r":\s*([+-]?(?:\d+\.?\d*|\.\d+))\s*\)")
_ALMOST_ONE: Final = 1e-9


@dataclass(frozen=True, slots=True)
class WeightedPrompt:
    """`text` is what the model reads; `spans` are (start, end, weight) of its stretches that do not count once."""

    text: str
    spans: tuple[tuple[int, int, float], ...] = ()

    @property
    def words(self) -> int:
        """How many runs without white space have a weight."""
        return sum(len(self.text[start:end].split()) for start, end, _ in self.spans)

    def letter_weights(self) -> list[float]:
        """The weight of each character of `text`."""
        weights = [1.0] * len(self.text)
        for start, end, weight in self.spans:
            weights[start:end] = [weight] * (end - start)
        return weights


@dataclass(slots=True)
class _Mark:
    """A character of the prompt, or a bracket that is matched: `text` is empty, and it opens or closes a `weight`."""

    text: str
    bracket: str = ""
    weight: float | None = None


def read_weights(prompt: str) -> WeightedPrompt:
    r"""Take the brackets out of `prompt`; `\(`, `\)`, `\[`, `\]` and `\\` stand for the characters themselves.

    Every text can be read. A prompt without brackets and backslashes comes back as it is.
    """
    if not any(character in prompt for character in _SYNTAX):
        return WeightedPrompt(prompt)
    marks: list[_Mark] = []
    opened: dict[str, list[_Mark]] = {"(": [], "[": []}

    def close(bracket: str, weight: float) -> None:
        first = opened[bracket].pop()
        first.text, first.bracket, first.weight = "", bracket, weight
        marks.append(_Mark("", bracket))

    place = 0
    while place < len(prompt):
        letter, following = prompt[place], prompt[place + 1 : place + 2]
        number = _NUMBER.match(prompt, place) if letter == ":" and opened["("] else None
        if letter == "\\" and following and following in _SYNTAX:
            marks.append(_Mark(following))
            place += 1
        elif number is not None:
            close("(", float(number[1]))
            place = number.end() - 1
        elif letter == ")" and opened["("]:
            close("(", MORE)
        elif letter == "]" and opened["["]:
            close("[", 1 / MORE)
        else:
            marks.append(_Mark(letter))
            if letter in opened:
                opened[letter].append(marks[-1])
        place += 1
    return _weighed(marks)


def read_by(kind: PipelineKind, prompt: str) -> WeightedPrompt:
    """What a model of this kind reads of `prompt`: where it reads no vectors of CLIP's, brackets are text."""
    return read_weights(prompt) if kind.weighs_words else WeightedPrompt(prompt)


def check_weights(*prompts: str) -> None:
    """Raise UserError for a weight out of -10..10, where no picture comes of it."""
    for prompt in prompts:
        for _, _, weight in read_weights(prompt).spans:
            if not abs(weight) <= MAX_WEIGHT:  # nor is NaN
                raise UserError("error.prompt_weight", weight=f"{weight:.4g}", high=f"{MAX_WEIGHT:g}")


def _weighed(marks: Sequence[_Mark]) -> WeightedPrompt:
    """Each character with the product of the weights that are open where it stands, equal neighbours as one span."""
    spans: list[tuple[int, int, float]] = []
    letters: list[str] = []
    products: dict[str, list[float]] = {"(": [1.0], "[": [1.0]}  # each kind of bracket is nested in its own
    for mark in marks:
        if mark.bracket:
            product = products[mark.bracket]
            if mark.weight is None:
                product.pop()
            else:
                product.append(product[-1] * mark.weight)
            continue
        start, weight = len(letters), products["("][-1] * products["["][-1]
        letters.append(mark.text)
        if abs(weight - 1) < _ALMOST_ONE:
            continue
        if spans and spans[-1][1:] == (start, weight):
            spans[-1] = (spans[-1][0], start + 1, weight)
        else:
            spans.append((start, start + 1, weight))
    return WeightedPrompt("".join(letters), tuple(spans))
