"""How strongly each word of a prompt counts, as in A1111: (word), ((word)), (word:1.3), [word]. Imports no torch.

https://github.com/AUTOMATIC1111/stable-diffusion-webui/wiki/Features#attentionemphasis. Other than there, a bracket
that nothing closes is an ordinary character, so that ":(" in a prompt changes nothing.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

from webui.errors import UserError

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
class _Letter:
    text: str
    weight: float = 1.0


def read_weights(prompt: str) -> WeightedPrompt:
    r"""Take the brackets out of `prompt`; `\(`, `\)`, `\[`, `\]` and `\\` stand for the characters themselves.

    Every text can be read. A prompt without brackets and backslashes comes back as it is.
    """
    if not any(character in prompt for character in _SYNTAX):
        return WeightedPrompt(prompt)
    letters: list[_Letter] = []
    opened: dict[str, list[int]] = {"(": [], "[": []}
    place = 0
    while place < len(prompt):
        letter, following = prompt[place], prompt[place + 1 : place + 2]
        number = _NUMBER.match(prompt, place) if letter == ":" and opened["("] else None
        if letter == "\\" and following and following in _SYNTAX:
            letters.append(_Letter(following))
            place += 1
        elif number is not None:
            _close(letters, opened["("].pop(), float(number[1]))
            place = number.end() - 1
        elif letter == ")" and opened["("]:
            _close(letters, opened["("].pop(), MORE)
        elif letter == "]" and opened["["]:
            _close(letters, opened["["].pop(), 1 / MORE)
        else:
            if letter in opened:
                opened[letter].append(len(letters))
            letters.append(_Letter(letter))
        place += 1
    return _joined(letters)


def check_weights(*prompts: str) -> None:
    """Raise UserError for a weight out of -10..10, where no picture comes of it."""
    for prompt in prompts:
        for _, _, weight in read_weights(prompt).spans:
            if not abs(weight) <= MAX_WEIGHT:  # nor is NaN
                raise UserError("error.prompt_weight", weight=f"{weight:.4g}", high=f"{MAX_WEIGHT:g}")


def _close(letters: list[_Letter], first: int, weight: float) -> None:
    """The bracket at `first` is closed: it is no letter any more, and what stands behind it gets the weight."""
    letters[first].text = ""
    for letter in letters[first + 1 :]:
        letter.weight *= weight


def _joined(letters: list[_Letter]) -> WeightedPrompt:
    spans: list[tuple[int, int, float]] = []
    text = ""
    for letter in letters:
        start, text = len(text), text + letter.text
        if not letter.text or abs(letter.weight - 1) < _ALMOST_ONE:
            continue
        if spans and spans[-1][1:] == (start, letter.weight):
            spans[-1] = (spans[-1][0], len(text), letter.weight)
        else:
            spans.append((start, len(text), letter.weight))
    return WeightedPrompt(text, tuple(spans))
