from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from transformers import CLIPTokenizer

from models.recipes.tokenizer import train_tokenizer
from webui.diffusion.prompt import PromptTokenizers, count_tokens, read_tokenizer
from webui.errors import UserError

CAPTIONS = ["a cat on a blue background", "two kittens", "แมว พื้นหลังสีน้ำเงิน", "it's the dog's", "😀 face 12"]

TEXTS = st.text() | st.text("แมวน้ำเงิน กขค ๑๒") | st.text("aB c'ts,.!<|>\n\t😀👩‍🚀é") | st.sampled_from(CAPTIONS)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tokenizer as transformers 5 saves it: tokenizer.json."""
    path = tmp_path_factory.mktemp("new") / "tokenizer"
    train_tokenizer(CAPTIONS * 4, 640).save_pretrained(path)
    return path


@pytest.fixture(scope="module")
def old_folder(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same as Stable Diffusion 1.x came: vocab.json and merges.txt."""
    path = tmp_path_factory.mktemp("old")
    model = json.loads((folder / "tokenizer.json").read_text(encoding="utf-8"))["model"]
    (path / "vocab.json").write_text(json.dumps(model["vocab"]), encoding="utf-8")
    merges = "\n".join(" ".join(pair) for pair in model["merges"])
    (path / "merges.txt").write_text(f"#version: 0.2\n{merges}\n", encoding="utf-8")
    special = {"lstrip": False, "normalized": True, "rstrip": False, "single_word": False, "__type": "AddedToken"}
    config = {
        "bos_token": {**special, "content": "<|startoftext|>"},
        "eos_token": {**special, "content": "<|endoftext|>"},
        "pad_token": "<|endoftext|>",
        "model_max_length": 77,
        "tokenizer_class": "CLIPTokenizer",
    }
    (path / "tokenizer_config.json").write_text(json.dumps(config), encoding="utf-8")
    return path


@given(text=TEXTS)
@example(text="a cat <|endoftext|> on <|StartOfText|>")
@example(text="แมว " * 60)
@example(text="e\u0301 \u00e9 \u0e33 \u0e4d\u0e32 ﬁ ǅ İ")
def test_ids_and_counts_are_those_of_clip_tokenizer(text: str, folder: Path, old_folder: Path) -> None:
    for path in (folder, old_folder):
        ours = read_tokenizer_once(path)
        theirs = clip_tokenizer_once(path)
        ids = theirs(text).input_ids
        assert ours.encode(text).ids == ids
        count = count_tokens(ours, text)
        assert (count.used, count.limit) == (len(ids), 77)
        assert count.kept_text + count.cut_text == text
        assert bool(count.cut_text) == (len(ids) > 77)


@given(text=st.text("แมว cat😀,", min_size=60, max_size=300))
def test_what_is_kept_begins_what_the_model_reads(text: str, folder: Path) -> None:
    tokenizer = read_tokenizer_once(folder)
    count = count_tokens(tokenizer, text)
    kept = tokenizer.encode(count.kept_text, add_special_tokens=False)
    if count.cut_text:
        read = clip_tokenizer_once(folder)(text, truncation=True, max_length=77).input_ids
        assert len(read) == 77
        # A word that is cut in the middle ends otherwise; whatever comes before it is the same.
        whole_words = [i for i, (_, end) in enumerate(kept.offsets) if count.kept_text[end : end + 1].isspace()]
        last = whole_words[-1] + 1 if whole_words else 0
        assert kept.ids[:last] == read[1 : 1 + last]


def read_tokenizer_once(path: Path, known: dict[Path, object] = {}):  # type: ignore[no-untyped-def]  # noqa: ANN201, B006
    if path not in known:
        known[path] = read_tokenizer(path)
    return known[path]


def clip_tokenizer_once(path: Path, known: dict[Path, object] = {}):  # type: ignore[no-untyped-def]  # noqa: ANN201, B006
    if path not in known:
        known[path] = CLIPTokenizer.from_pretrained(path, local_files_only=True)
    return known[path]


def test_the_emoji_suites_tokenizer_gives_the_same_ids(emoji_suite: Path) -> None:
    path = next(emoji_suite.glob("*/model_index.json")).parent / "tokenizer"
    ours, theirs = read_tokenizer(path), CLIPTokenizer.from_pretrained(path, local_files_only=True)
    for text in (*CAPTIONS, "ลูกแมวสองตัวกับรถยนต์สีแดง", "a <|endoftext|> b"):
        assert ours.encode(text).ids == theirs(text).input_ids


def test_an_empty_prompt_takes_two_tokens(folder: Path) -> None:
    count = count_tokens(read_tokenizer(folder), "")
    assert (count.used, count.kept_text, count.cut_text) == (2, "", "")


def test_a_tokenizer_is_read_once_a_revision(folder: Path, tmp_path: Path) -> None:
    model = tmp_path / "model"
    model.mkdir()
    (model / "tokenizer").symlink_to(folder)
    tokenizers = PromptTokenizers()
    assert tokenizers.count(model, "1", "a cat").used == tokenizers.count(model, "1", "a cat").used == 4
    (model / "tokenizer").unlink()
    assert tokenizers.count(model, "1", "a cat").used == 4, "the files are not read again"
    with pytest.raises(UserError):
        tokenizers.count(model, "2", "a cat")


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("tokenizer.json", "{"),
        ("tokenizer.json", "{}"),
        ("tokenizer.json", '{"model": {"vocab": {"a": 0}, "merges": ["a b"]}}'),
        ("vocab.json", '{"a": 0}'),
    ],
)
def test_a_broken_tokenizer_is_named(name: str, content: str, tmp_path: Path) -> None:
    (tmp_path / "merges.txt").write_text("#version: 0.2\n", encoding="utf-8")
    (tmp_path / name).write_text(content, encoding="utf-8")
    with pytest.raises(UserError) as refusal:
        read_tokenizer(tmp_path)
    assert refusal.value.key == "error.model_file_broken"
    assert refusal.value.values["file"] == str(tmp_path)


def test_counting_needs_neither_torch_nor_transformers(folder: Path) -> None:
    code = (
        "import sys; from pathlib import Path; from webui.diffusion.prompt import PromptTokenizers\n"
        f"print(PromptTokenizers().count(Path({str(folder.parent)!r}), '', 'a cat').used)\n"
        "print([m for m in ('torch', 'transformers') if m in sys.modules])"
    )
    assert subprocess.check_output([sys.executable, "-c", code], text=True).split("\n")[:2] == ["4", "[]"]
