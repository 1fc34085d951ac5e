"""Threads that pad and cut differently get what they asked for from one tokenizer."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from transformers import CLIPTokenizer

from webui.runtime.shared_tokenizer import share

WAYS: list[dict[str, Any]] = [
    {"padding": "max_length", "max_length": 77, "truncation": True},
    {"padding": "longest"},
    {"padding": "max_length", "max_length": 8, "truncation": True},
    {},
]
PROMPT = "a cat and a dog on the blue background, แมวสีแดง"


def test_threads_do_not_get_the_padding_of_each_other(emoji_suite: Path) -> None:
    folder = emoji_suite / "txt2img" / "tokenizer"
    alone = CLIPTokenizer.from_pretrained(folder, local_files_only=True)
    expected = [alone(PROMPT, **way)["input_ids"] for way in WAYS]
    assert len(set(map(len, expected))) == 3
    shared = share(CLIPTokenizer.from_pretrained(folder, local_files_only=True))

    def calls(way: dict[str, Any]) -> list[list[int]]:
        return [shared(PROMPT, **way)["input_ids"] for _ in range(300)]

    with ThreadPoolExecutor(len(WAYS)) as pool:
        answers = list(pool.map(calls, WAYS))
    for answer, right in zip(answers, expected, strict=True):
        assert all(ids == right for ids in answer)
