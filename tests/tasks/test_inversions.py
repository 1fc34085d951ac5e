"""Textual inversions through the txt2img task: real files on real checkpoints, beside embeddings put in by hand."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import save_file

from tests.tasks.drawing import PATIENCE, draw_one, studio
from tests.tasks.test_loras import save_kohya
from tests.tiny_checkpoint import checkpoint_tensors, save_checkpoint, sdxl_tensors, tiny_sdxl, tiny_stable_diffusion
from tests.tiny_families import save_families
from webui.diffusion.generate import generate
from webui.diffusion.inversion_words import Expansion, InversionWord
from webui.diffusion.request import GenerateRequest
from webui.errors import UserError
from webui.i18n import LANGUAGES
from webui.runtime.checkpoint_family import FileKind
from webui.runtime.entries import TXT2IMG
from webui.store.infotext import Infotext, parse_infotext
from webui.studio import Studio
from webui.tasks.files import other_files
from webui.tasks.inside import AblationRequest, TraceRequest, leave_out_word, record_run
from webui.tasks.latents import request_to_draw
from webui.tasks.txt2img import count_prompt_tokens

__all__ = ["studio"]

REQUEST = GenerateRequest("", model="one", steps=2, seed=7, width=32, height=32, guidance_scale=4.0)
STYLE = torch.randn(3, 64, generator=torch.Generator().manual_seed(3))
XL_STYLE = {"clip_l": torch.randn(2, 64, generator=torch.Generator().manual_seed(4)), "clip_g": torch.randn(2, 128)}


@pytest.fixture(scope="module")
def models_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A1111's tree."""
    folder = tmp_path_factory.mktemp("data") / "models"
    pipe, wide = tiny_stable_diffusion(1), tiny_sdxl()
    save_checkpoint(folder / "Stable-diffusion" / "one.safetensors", checkpoint_tensors(pipe, 1))
    save_checkpoint(folder / "Stable-diffusion" / "big.safetensors", sdxl_tensors(wide))
    (folder / "Lora").mkdir()
    save_kohya(folder / "Lora" / "ink.safetensors", pipe, 1)
    words = folder / "embeddings"
    (words / "sub").mkdir(parents=True)
    save_file({"emb_params": STYLE}, words / "MyStyle.safetensors")
    save_file({"<toy>": STYLE[0].clone()}, words / "my-toy.safetensors")  # as diffusers writes one vector
    save_file(XL_STYLE, words / "bigstyle.safetensors")
    save_file({"emb_params": torch.full((1, 64), torch.nan)}, words / "hollow.safetensors")
    save_file({"emb_params": torch.ones(76, 64)}, words / "endless.safetensors")
    save_file({"emb_params": torch.ones(1, 64)}, words / "twin.safetensors")
    save_file({"emb_params": torch.ones(1, 64)}, words / "sub" / "Twin.safetensors")
    (words / "old.pt").write_bytes(b"\x80\x02}q\x00.")
    save_families(folder)
    return folder


def draw(studio: Studio, prompt: str, **fields: Any) -> tuple[Any, str]:
    return draw_one(studio, replace(REQUEST, prompt=prompt, **fields))


def by_hand(pipe: Any, names: dict[str, dict[str, torch.Tensor]], prompt: str, negative: str, model: str) -> Any:
    """The stock way: the vectors as rows of a larger embedding, a token for each."""
    for encoder, rows in names.items():
        tokenizer = getattr(pipe, encoder.replace("text_encoder", "tokenizer"))
        for token, row in rows.items():
            tokenizer.add_tokens([token])
            getattr(pipe, encoder).resize_token_embeddings(len(tokenizer))
            getattr(pipe, encoder).get_input_embeddings().weight.data[-1] = row
    request = replace(REQUEST, prompt=prompt, negative_prompt=negative, model=model)
    return np.asarray(generate(pipe, request).pictures[0].image).astype(int)


def test_a_files_name_stands_for_its_vectors_in_both_prompts(studio: Studio) -> None:
    before, _ = draw(studio, "a cat, mystyle")
    rows = {f"vec{number}": STYLE[number] for number in range(3)}
    expected = by_hand(
        tiny_stable_diffusion(1), {"text_encoder": rows}, "a cat, vec0 vec1 vec2", "vec0 bad vec0", "one"
    )  # "my-toy" has one vector, the first of the three
    plain, _ = draw(studio, "a cat, mystyles")
    pixels, infotext = draw(studio, "a cat, mystyle", negative_prompt="my-toy bad MY-TOY")
    assert np.abs(pixels - expected).max() <= 1
    assert np.abs(pixels - before).max() > 3
    assert np.abs(plain - before).max() > 3  # another word
    assert infotext.splitlines()[0] == "a cat, mystyle"
    found = parse_infotext(infotext)
    assert found.ignored == ()
    assert found.inversions == {
        name: studio.catalog.files.sha256(studio.catalog.files.named(name, FileKind.EMBEDDING))[:12]
        for name in ("MyStyle", "my-toy")
    }
    assert other_files(studio, found) == ()
    remarks = other_files(studio, Infotext(inversions={"MyStyle": "0" * 12, "gone": "0" * 12}))
    assert [remark.key for remark in remarks] == ["infotext.inversion_other", "infotext.inversion_missing"]


def test_sdxl_has_vectors_for_both_of_its_encoders(studio: Studio) -> None:
    names = {
        encoder: {f"vec{number}": row for number, row in enumerate(XL_STYLE[half])}
        for encoder, half in (("text_encoder", "clip_l"), ("text_encoder_2", "clip_g"))
    }
    expected = by_hand(tiny_sdxl(), names, "a vec0 vec1 cat", "", "big")
    pixels, infotext = draw(studio, "a bigstyle cat", model="big")
    assert np.abs(pixels - expected).max() <= 1
    assert "TI hashes" in infotext


def test_nothing_stays_behind_and_lora_go_with_it(studio: Studio) -> None:
    plain, infotext = draw(studio, "a cat")
    assert "TI hashes" not in infotext
    with studio.manager.use(studio.catalog.find("one", TXT2IMG).key()) as pipe:
        tokens, rows = len(pipe.tokenizer), pipe.text_encoder.get_input_embeddings().num_embeddings
    lora, _ = draw(studio, "a cat <lora:ink:0.7>")
    both, _ = draw(studio, "a MyStyle cat <lora:ink:0.7>")
    assert np.abs(both - lora).max() > 3
    assert np.array_equal(draw(studio, "a cat <lora:ink:0.7>")[0], lora)
    assert np.array_equal(draw(studio, "a cat")[0], plain)
    with studio.manager.use(studio.catalog.find("one", TXT2IMG).key()) as pipe:
        assert (len(pipe.tokenizer), pipe.text_encoder.get_input_embeddings().num_embeddings) == (tokens, rows)
        modules = [pipe.text_encoder, pipe.text_encoder.get_input_embeddings()]
        assert not any(module._forward_hooks or module._forward_pre_hooks for module in modules)


def test_a_recording_shows_it_as_one_word_of_several_tokens(studio: Studio) -> None:
    asked = TraceRequest(replace(REQUEST, prompt="a mystyle cat"))
    job = studio.jobs.submit(lambda context: record_run(studio, asked, context), owner="ann", kind="trace")
    trace = job.result(PATIENCE).trace
    assert list(trace.header.words) == ["a", "MyStyle", "cat"]
    assert [token.text for token in trace.header.tokens][1:6] == ["a", "MyStyle", "MyStyle·2", "MyStyle·3", "cat"]
    assert list(trace.header.rows_of_word(1)) == [2, 3, 4]
    assert trace.header.request.prompt == "a mystyle cat"
    assert np.array_equal(trace.picture.astype(int), draw(studio, "a mystyle cat")[0])
    without = AblationRequest(trace, 1)
    job = studio.jobs.submit(lambda context: leave_out_word(studio, without, context), owner="ann", kind="trace")
    assert job.result(PATIENCE).word == "MyStyle"


def test_as_many_tokens_are_counted_as_it_has_vectors(studio: Studio) -> None:
    count = count_prompt_tokens(studio, "one", "a mystyle, cat my-toy")
    assert count.used == 1 + 1 + 3 + 1 + 1 + 1 + 1
    long = count_prompt_tokens(studio, "one", "a cat " * 37 + "mystyle dog")
    assert (long.used, long.cut_text) == (2 + 74 + 3 + 1, "mystyle dog")


REFUSED = {
    ("one", "a bigstyle cat"): "error.inversion_width",
    ("big", "a mystyle cat"): "error.inversion_width",
    ("one", "a hollow cat"): "error.weights_not_finite",
    ("one", "an endless cat"): "error.inversion_shape",
    ("one", "a twin cat"): "error.inversion_same_name",
    ("one", "an old cat"): "error.inversion_pickle",
    ("flux", "a mystyle cat"): "error.inversion_not_for_model",
}


def test_one_that_cannot_be_used_is_one_sentence(studio: Studio) -> None:
    before, _ = draw(studio, "a cat")
    for (model, prompt), key in REFUSED.items():
        sampler = "Flow Euler" if model == "flux" else REQUEST.sampler
        with pytest.raises(UserError) as caught:
            draw(studio, prompt, model=model, sampler=sampler)
        assert caught.value.key == key, prompt
        for language in LANGUAGES:
            assert "\n" not in studio.messages.error(language, caught.value)
    with pytest.raises(UserError, match="inversion_not_here"):
        request_to_draw(studio, "a mystyle cat", "one", 7, "DDIM", 2)
    assert np.array_equal(draw(studio, "a cat")[0], before)


@given(st.text("ab \ue000\ue001,แ่", max_size=20), st.integers(1, 3))
def test_expanding_is_undone(text: str, vectors: int) -> None:
    """Also where somebody wrote private characters: those stay what they were."""
    expansion = Expansion([InversionWord("a", vectors), InversionWord("a b", 1)], [text])
    expanded = expansion.expanded(text)
    assert expansion.contracted(expanded) == text
    assert not set(expansion.letters) & set(text)
    assert len(expansion.letters) == vectors + 1
