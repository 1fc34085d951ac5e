from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.recipes.captions import vocabulary_corpus
from models.recipes.concepts import load_concepts
from models.recipes.tokenizer import END, POSITIONS, START, load_tokenizer, train_tokenizer

TOKENIZER = train_tokenizer(vocabulary_corpus(load_concepts()))


def test_a_common_word_is_one_piece() -> None:
    assert TOKENIZER.tokenize("a cat on a blue background") == [
        "a</w>",
        "cat</w>",
        "on</w>",
        "a</w>",
        "blue</w>",
        "background</w>",
    ]
    assert TOKENIZER.tokenize("แมว") == TOKENIZER.tokenize(" แมว ")
    assert len(TOKENIZER.tokenize("แมว")) == 1


def test_sequences_start_end_and_are_padded_with_the_end_token() -> None:
    ids = TOKENIZER("cat", padding="max_length", truncation=True).input_ids
    assert len(ids) == POSITIONS
    start, end = TOKENIZER.convert_tokens_to_ids([START, END])
    assert ids[0] == start
    assert set(ids[2:]) == {end}
    assert len(TOKENIZER("cat " * 200, truncation=True).input_ids) == POSITIONS


@given(st.text(alphabet=st.characters(whitelist_categories=("Ll", "Lo", "Mn", "Nd")), max_size=20))
def test_every_text_comes_back(text: str) -> None:
    decoded = TOKENIZER.decode(TOKENIZER(text).input_ids, skip_special_tokens=True)
    normal = TOKENIZER.backend_tokenizer.normalizer.normalize_str(text)
    assert decoded.replace(" ", "") == normal.replace(" ", "")


def test_it_loads_from_its_folder(tmp_path: Path) -> None:
    TOKENIZER.save_pretrained(tmp_path)
    again = load_tokenizer(tmp_path, len(TOKENIZER))
    caption = "a small cat on the left, blue background แมว พื้นหลังสีน้ำเงิน"
    assert again(caption).input_ids == TOKENIZER(caption).input_ids


def test_an_empty_folder_is_noticed(tmp_path: Path) -> None:
    with pytest.raises(Exception, match=str(tmp_path)):
        load_tokenizer(tmp_path, len(TOKENIZER))


def test_training_is_deterministic() -> None:
    again = train_tokenizer(vocabulary_corpus(load_concepts()))
    assert again.get_vocab() == TOKENIZER.get_vocab()
