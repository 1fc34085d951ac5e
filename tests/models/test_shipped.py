"""The shipped T5 and BART do what the card says of them."""

import pytest
import torch
from transformers import BartForConditionalGeneration, T5ForConditionalGeneration

from models.recipes.evaluate_texts import load
from models.recipes.export import EMOJI_FOLDER
from models.recipes.seq2seq import rewrite


@pytest.mark.parametrize(
    ("source", "target"),
    [
        ("translate Thai to English: แมว พื้นหลังสีน้ำเงิน", "a cat on a blue background"),
        ("expand: cat blue", "a cat on a blue background"),
        ("shorten: a beautiful small cat on the left, blue background, highly detailed", "cat"),
    ],
)
def test_t5_rewrites_prompts(source: str, target: str) -> None:
    assert rewrite(*load(EMOJI_FOLDER / "t5", T5ForConditionalGeneration), [source]) == [target]


def test_bart_fills_masks_in_several_ways() -> None:
    bart, tokenizer = load(EMOJI_FOLDER / "bart", BartForConditionalGeneration)
    torch.manual_seed(0)
    answers = rewrite(bart, tokenizer, ["a <mask> cat on a <mask> background"] * 5, do_sample=True)
    assert len(set(answers)) >= 3
    assert all(answer.endswith(" background") for answer in answers)
