from __future__ import annotations

import math

import pytest
import torch
from diffusers import StableDiffusionPipeline
from hypothesis import example, given
from hypothesis import strategies as st

from webui.diffusion.prompt_weights import check_weights, read_weights
from webui.diffusion.weighted_text import weights_applied
from webui.errors import UserError

BACKSLASH = chr(92)


def weighed(prompt: str) -> list[tuple[str, float]]:
    read = read_weights(prompt)
    return [(read.text[start:end], round(weight, 4)) for start, end, weight in read.spans]


@pytest.mark.parametrize(
    ("prompt", "text", "spans"),
    [
        ("a (cat) here", "a cat here", [("cat", 1.1)]),
        ("a ((cat)) here", "a cat here", [("cat", 1.21)]),
        ("a (cat:1.3), b", "a cat, b", [("cat", 1.3)]),
        ("(a cat: 0.25)", "a cat", [("a cat", 0.25)]),
        ("(cat:.5)(dog:-2)", "catdog", [("cat", 0.5), ("dog", -2.0)]),
        ("a [cat]", "a cat", [("cat", 0.9091)]),
        ("[[cat]]", "cat", [("cat", 0.8264)]),
        ("[(cat)]", "cat", []),
        ("(a (big:1.5) cat)", "a big cat", [("a ", 1.1), ("big", 1.65), (" cat", 1.1)]),
        ("a !(cat!) ![x!] !!", "a (cat) [x] !", []),
        ("(a !(b!))", "a (b)", [("a (b)", 1.1)]),
        ("sad :( cat", "sad :( cat", []),
        ("(a (cat)", "(a cat", [("cat", 1.1)]),
        ("a) b] (c", "a) b] (c", []),
        ("at 10:30)", "at 10:30)", []),
        ("(cat:big)", "cat:big", [("cat:big", 1.1)]),
        ("(cat:1.0)", "cat", []),
        ("C:!dir !", "C:!dir !", []),
        ("(แมว:1.2)สีฟ้า", "แมวสีฟ้า", [("แมว", 1.2)]),
        ("()", "", []),
    ],
)
def test_it_is_read_as_a1111_does(prompt: str, text: str, spans: list[tuple[str, float]]) -> None:
    """A "!" stands for a backslash here."""
    prompt, text = prompt.replace("!", BACKSLASH), text.replace("!", BACKSLASH)
    assert read_weights(prompt).text == text
    assert weighed(prompt) == spans


@given(st.text("ab :.19()[]-แ" + BACKSLASH) | st.text())
@example("(((((:9)")
def test_every_text_is_read_and_only_its_syntax_goes(prompt: str) -> None:
    read = read_weights(prompt)
    letters = iter(prompt)
    assert all(letter in letters for letter in read.text), "what is read is what was typed, in order, without syntax"
    ends = [place for start, end, _ in read.spans for place in (start, end)]
    assert ends == sorted(ends)
    assert all(0 <= start < end <= len(read.text) for start, end, _ in read.spans)
    assert len(read.letter_weights()) == len(read.text)
    syntax = "()[]" + BACKSLASH
    escaped = "".join(BACKSLASH + letter if letter in syntax else letter for letter in prompt)
    assert read_weights(escaped) == type(read)(prompt)
    if not set(prompt) & set(syntax):
        assert read == type(read)(prompt)


@given(st.text("ab c:", min_size=1), st.floats(-10, 10), st.integers(0, 3))
def test_weights_multiply_as_they_are_nested(words: str, weight: float, depth: int) -> None:
    weight = round(weight, 2)
    read = read_weights("(" * depth + f"({words}:{weight:.2f})" + ")" * depth)
    assert read.text == words
    assert all(math.isclose(found, weight * 1.1**depth) for found in read.letter_weights())


def test_words_are_counted_and_weights_have_limits() -> None:
    assert read_weights("a (big red:1.2) [cat] on ((a)) mat").words == 4
    check_weights("(cat:10)", "[dog]")
    for prompt in ("(cat:10.5)", "((cat:-9.5))", "(((cat:9)))"):
        with pytest.raises(UserError, match="prompt_weight"):
            check_weights("a cat", prompt)


def test_vectors_without_a_mean_get_their_weights_alone(tiny_pipe: StableDiffusionPipeline) -> None:
    """An untrained encoder's mean is rounding: to divide by it would make anything of the vectors."""
    plain = tiny_pipe.encode_prompt("a cat", "cpu", 1, False)[0]
    with weights_applied(tiny_pipe, [read_weights("a (cat:2)")]), torch.no_grad():
        weighted = tiny_pipe.encode_prompt("a cat", "cpu", 1, False)[0]
    again = tiny_pipe.encode_prompt("a cat", "cpu", 1, False)[0]
    assert torch.equal(again, plain)
    factors = (weighted / plain).median(dim=-1).values[0]
    assert factors[0] == factors[-1] == 1
    assert set(factors.tolist()) == {1.0, 2.0}
