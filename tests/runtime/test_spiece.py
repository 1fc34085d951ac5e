"""T5's tokenizer from SentencePiece's own file, beside the one that transformers builds of the same pieces."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.tiny_families import save_spiece, t5_tokenizer
from webui.errors import UserError
from webui.runtime import spiece
from webui.runtime.safety import SPIECE


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("tokenizer")
    save_spiece(path)
    return path


def test_every_text_becomes_what_transformers_makes_of_it(folder: Path) -> None:
    ours, theirs = spiece.t5_tokenizer(folder), t5_tokenizer()
    assert ours.get_vocab() == theirs.get_vocab()

    @given(st.text() | st.text("aB c</s>_é\n\u2581\u3000<extra_id_0>"))
    def compare(text: str) -> None:
        assert ours.encode(text).ids == theirs(text).input_ids

    compare()


@given(st.binary(max_size=64) | st.binary(max_size=64).map(lambda tail: b"\x0a\x05\x0a\x01a\x18\x02" + tail))
def test_whatever_a_file_holds_it_is_read_or_refused(tmp_path_factory: pytest.TempPathFactory, data: bytes) -> None:
    path = tmp_path_factory.getbasetemp() / "any.model"
    path.write_bytes(data)
    try:
        found = spiece.read_pieces(path)
    except ValueError:
        return
    assert found.pieces[found.unknown] is not None


@pytest.mark.parametrize("cut", [1, 2, 5])
def test_a_file_that_ends_early_is_refused_by_its_name(folder: Path, tmp_path: Path, cut: int) -> None:
    whole = (folder / SPIECE).read_bytes()
    (tmp_path / SPIECE).write_bytes(whole[:-cut])
    (tmp_path / "tokenizer_config.json").write_text(json.dumps({"extra_ids": 1}), encoding="utf-8")
    with pytest.raises(UserError, match="model_file_broken") as caught:
        spiece.t5_tokenizer(tmp_path)
    assert caught.value.values["file"] == str(tmp_path / SPIECE)


def test_another_kind_of_model_is_refused(tmp_path: Path) -> None:
    (tmp_path / SPIECE).write_bytes(b"\x12\x02\x18\x02")
    with pytest.raises(UserError, match="model_file_broken") as caught:
        spiece.t5_tokenizer(tmp_path)
    assert caught.value.values["reason"] == "not a unigram model"
