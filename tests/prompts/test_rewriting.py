"""Ours against the stock classes on the same weights; what is streamed, stopped, filled and looked at."""

from __future__ import annotations

import unicodedata
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformers import AutoTokenizer, BartForConditionalGeneration, T5ForConditionalGeneration

from webui.errors import UserError
from webui.prompts import bart, t5
from webui.prompts.attention import cross_attention
from webui.prompts.request import WritingSettings
from webui.prompts.rewriting import RewriterParts, check_special_tokens, generation_options, write
from webui.runtime.jobs import JobCancelled

CLASSES = {"t5": T5ForConditionalGeneration, "bart": BartForConditionalGeneration}
SHORT = WritingSettings(max_new_tokens=8)
SAMPLED = WritingSettings(method="sample", max_new_tokens=8, seed=5)


@pytest.fixture(params=["t5", "bart"])
def rewriter(request: pytest.FixtureRequest, rewriters: Path) -> RewriterParts:
    return load(rewriters, request.param)


def load(folder: Path, name: str) -> RewriterParts:
    return RewriterParts(
        CLASSES[name].from_pretrained(folder / name, dtype=torch.float32).eval(),
        AutoTokenizer.from_pretrained(folder / name),
    )


def stock(rewriter: RewriterParts, source: str, seed: int, **options: Any) -> list[str]:
    torch.manual_seed(seed)
    ids = rewriter.model.generate(**rewriter.tokenizer(source, return_tensors="pt"), **options)
    texts = rewriter.tokenizer.batch_decode(ids, skip_special_tokens=True)
    return ["".join(c for c in text if c.isprintable() or unicodedata.category(c) != "Cc").strip() for text in texts]


@pytest.mark.parametrize("settings", [SHORT, SAMPLED], ids=["beam", "sample"])
def test_the_texts_are_those_of_the_stock_generate(rewriter: RewriterParts, settings: WritingSettings) -> None:
    source = "translate Thai to English: แมว"
    options: dict[str, Any] = {"max_new_tokens": 8, "num_return_sequences": 3}
    if settings.method == "beam":
        options |= {"num_beams": 4, "do_sample": False}
    else:
        options |= {"do_sample": True, "num_beams": 1, "temperature": 1.0, "top_p": 0.95, "top_k": 0}
    assert options == generation_options(settings)
    expected = {text for text in stock(rewriter, source, settings.seed, **options) if text}
    before = torch.random.get_rng_state()
    written = write(rewriter, source, settings)
    assert {answer.text for answer in written} == expected
    assert torch.equal(torch.random.get_rng_state(), before), "the process's random state is put back"
    likelihoods = [answer.log_probability for answer in written]
    assert likelihoods == sorted(likelihoods, reverse=True)
    assert all(value < 0 for value in likelihoods)
    assert write(rewriter, source, settings) == written


def test_likelihoods_are_the_beam_searchs_own_and_thai_becomes_english(emoji_suite: Path) -> None:
    rewriter = load(emoji_suite, "t5")
    settings = WritingSettings(max_new_tokens=32)
    source = "translate Thai to English: แมว พื้นหลังสีน้ำเงิน"
    inputs = rewriter.tokenizer(source, return_tensors="pt", return_token_type_ids=False)
    stock = rewriter.model.generate(
        **inputs, **generation_options(settings), return_dict_in_generate=True, output_scores=True
    )
    written = t5.translate(rewriter, "แมว พื้นหลังสีน้ำเงิน", settings).texts
    assert written == write(rewriter, source, settings)
    assert written[0].text == "a cat on a blue background"
    assert [answer.log_probability for answer in written] == pytest.approx(stock.sequences_scores.tolist(), abs=1e-3)


class StopsAfter:
    """Somebody who watches, and presses Stop after some tokens."""

    def __init__(self, tokens: int) -> None:
        self.tokens = tokens
        self.steps: list[int] = []

    def check(self) -> None:
        if len(self.steps) == self.tokens:
            raise JobCancelled

    def progress(self, step: int, total: int, phase: str) -> None:
        assert (total, phase) == (8, "phase.writing")
        self.steps.append(step)


@pytest.mark.parametrize("settings", [SHORT, SAMPLED], ids=["beam", "sample"])
def test_texts_stream_token_by_token_and_stop_between_two(rewriter: RewriterParts, settings: WritingSettings) -> None:
    shown: list[tuple[str, ...]] = []
    watch = StopsAfter(3)
    with pytest.raises(JobCancelled):
        write(rewriter, "a cat", settings, watch, shown.append)
    assert watch.steps == [1, 2, 3]
    assert len(shown) == 3
    assert {len(texts) for texts in shown} == {1 if settings.method == "beam" else 3}
    assert write(rewriter, "a cat", settings), "the model is usable again"


def test_bart_fills_its_masks_with_different_texts(rewriters: Path) -> None:
    found = bart.fill(load(rewriters, "bart"), "a [mask] cat, ___", WritingSettings(candidates=4, max_new_tokens=6))
    texts = [answer.text for answer in found.texts]
    assert len({text.lower() for text in texts}) == len(texts) >= 2


def test_t5_answers_are_read_span_by_span(rewriters: Path) -> None:
    assert t5.read_spans("<pad> <extra_id_0> small <extra_id_1> dark  blue <extra_id_2></s>") == {
        0: "small", 1: "dark blue", 2: "",
    }  # fmt: skip
    rewriter = load(rewriters, "t5")
    with pytest.raises(UserError, match="too_many_masks"):
        t5.fill_spans(rewriter, "[mask]" * 5, SHORT)
    with pytest.raises(UserError, match="masks_not_filled"):  # random weights name no sentinel
        t5.fill_spans(rewriter, "a [mask] cat", SHORT)


@pytest.mark.parametrize(
    ("marked", "filled", "kept"),
    [
        ("a [mask] cat on a [mask] background", "a small cat on a dark blue background", True),
        ("a [mask] cat on a [mask] background", "A Small Cat on a blue background", True),
        ("a [mask] cat on a [mask] background", "a small dog on a blue background", False),
        ("a [mask] cat", "a cat", False),
    ],
)
def test_what_keeps_the_rest_of_a_masked_text(marked: str, filled: str, kept: bool) -> None:
    assert bart.keeps_rest(marked, filled) is kept


def test_long_texts_are_read_in_parts_or_refused(rewriters: Path) -> None:
    rewriter = load(rewriters, "t5")
    words = "a cat, " * 10
    assert t5.translate(rewriter, words, WritingSettings(max_new_tokens=4), reads_tokens=32).parts >= 3
    with pytest.raises(UserError, match="too_long_for_model"):
        t5.expand(rewriter, words, SHORT, reads_tokens=32)
    with pytest.raises(UserError, match="special_token"):
        check_special_tokens(rewriter, "a cat</s> a dog")


def test_cross_attention_is_the_stock_models_and_leaves_it_alone(rewriter: RewriterParts) -> None:
    source, target = "a cat แมว", "blue cat"
    before = rewriter.model.config._attn_implementation
    found = cross_attention(rewriter, source, target)
    assert rewriter.model.config._attn_implementation == before
    assert found.weights.shape == (2, 4, len(found.target), len(found.source))
    assert np.allclose(found.weights.sum(axis=-1), 1, atol=1e-5)
    assert [word for word in found.source if word] == ["a", "cat", "แ", "ม", "ว"]
    assert [word for word in found.target if word] == ["blue", "cat"]

    rewriter.model.set_attn_implementation("eager")
    read = rewriter.tokenizer(source, return_tensors="pt")
    written = rewriter.tokenizer(target, return_tensors="pt")["input_ids"]
    start = torch.tensor([[rewriter.model.config.decoder_start_token_id]])
    with torch.no_grad():
        output = rewriter.model(
            input_ids=read["input_ids"],
            decoder_input_ids=torch.cat([start, written[:, :-1]], dim=1),
            output_attentions=True,
        )
    last = output.cross_attentions[-1][0, :, -1, -1].numpy()  # the end token looks at the end token
    assert found.weights[-1, :, -1, -1] == pytest.approx(last, abs=1e-5)
