from __future__ import annotations

import pytest
from transformers import CLIPTokenizer

from tests.tiny_families import t5_tokenizer
from webui.diffusion.text_rows import prompt_pieces
from webui.runtime.random_weights import save_clip_tokenizer


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> CLIPTokenizer:
    folder = tmp_path_factory.mktemp("clip")
    save_clip_tokenizer(folder)
    return CLIPTokenizer.from_pretrained(folder)


def test_the_rows_of_two_encoders_stand_one_after_the_other(clip: CLIPTokenizer) -> None:
    rows, cut = prompt_pieces("a cat", [(clip, 8), (t5_tokenizer(), 10), (None, 3)])
    assert [(row.kind, row.first, row.positions) for row in rows if row.kind != "word"] == [
        ("start", 0, 1), ("end", 5, 1), ("padding", 6, 2), ("end", 14, 1), ("padding", 15, 3), ("padding", 18, 3),
    ]  # fmt: skip
    assert sum(row.positions for row in rows) == 21
    assert cut == ""


@pytest.mark.parametrize("prompt", ["abcdefgh", "แมว", ""])
def test_a_window_is_never_left_and_what_does_not_fit_is_told(prompt: str, clip: CLIPTokenizer) -> None:
    for tokenizer, length in ((clip, 6), (t5_tokenizer(), 6)):
        rows, cut = prompt_pieces(prompt, [(tokenizer, length)])
        assert sum(row.positions for row in rows) == length
        assert rows[-1].kind in ("end", "padding")
        assert prompt.endswith(cut)
    assert prompt_pieces("abcdefgh", [(clip, 6)])[1] == "efgh"
