import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from transformers import AutoTokenizer, PreTrainedTokenizerFast

from models.recipes.concepts import load_concepts
from models.recipes.prompts import prompt_corpus
from models.recipes.text_tokenizer import MASK, SENTINELS, train_bart_tokenizer, train_t5_tokenizer

CORPUS = prompt_corpus(load_concepts())
T5, BART = train_t5_tokenizer(CORPUS), train_bart_tokenizer(CORPUS)

PRINT_IDS = """
from models.recipes.concepts import load_concepts
from models.recipes.prompts import prompt_corpus
from models.recipes.text_tokenizer import train_bart_tokenizer
print(train_bart_tokenizer(prompt_corpus(load_concepts())).backend_tokenizer.to_str())
"""


@pytest.mark.parametrize("tokenizer", [T5, BART])
@given(text=st.text(alphabet=st.characters(whitelist_categories=("Ll", "Lo", "Mn", "Nd", "Po", "So")), max_size=20))
def test_every_text_comes_back_in_lower_case(tokenizer: PreTrainedTokenizerFast, text: str) -> None:
    decoded = tokenizer.decode(tokenizer(text).input_ids, skip_special_tokens=True)
    assert decoded == tokenizer.backend_tokenizer.normalizer.normalize_str(text).strip()


def test_spaces_and_control_characters_become_one_space() -> None:
    assert T5(" A  Cat\x00\n\ton ").input_ids == T5("a cat on").input_ids


@pytest.mark.parametrize(("typed", "meant"), [("เเมว", "แมว"), ("สีน้ําเงิน", "สีน้ำเงิน")])
def test_letters_typed_with_two_keys_are_the_letter(typed: str, meant: str) -> None:
    assert typed != meant
    assert T5(typed).input_ids == T5(meant).input_ids


def test_a_thai_word_is_the_same_piece_wherever_it_stands() -> None:
    alone = T5("หมา").input_ids[-2]
    assert T5("แมวกับหมา").input_ids[-2] == T5("แมว หมา").input_ids[-2] == alone


def test_special_tokens_are_those_of_the_classes() -> None:
    assert (T5.pad_token_id, T5.eos_token_id, T5.unk_token_id) == (0, 1, 2)
    assert T5.convert_tokens_to_ids(list(SENTINELS)) == list(range(len(T5) - len(SENTINELS), len(T5)))
    assert (BART.bos_token_id, BART.pad_token_id, BART.eos_token_id, BART.unk_token_id) == (0, 1, 2, 3)
    assert BART.mask_token_id == len(BART) - 1
    assert T5("a cat").input_ids[-1] == T5.eos_token_id
    assert [BART("a cat").input_ids[i] for i in (0, -1)] == [BART.bos_token_id, BART.eos_token_id]
    assert BART(f"a {MASK} cat").input_ids.count(BART.mask_token_id) == 1


@pytest.mark.parametrize("tokenizer", [T5, BART])
def test_it_loads_offline_from_its_folder(tokenizer: PreTrainedTokenizerFast, tmp_path: Path) -> None:
    tokenizer.save_pretrained(tmp_path)
    again = AutoTokenizer.from_pretrained(tmp_path, local_files_only=True)
    text = "translate Thai to English: แมว พื้นหลังสีน้ำเงิน <extra_id_0> <mask>"
    assert again(text).input_ids == tokenizer(text).input_ids
    assert len(again) == len(tokenizer)
    assert set(again(text)) == {"input_ids", "attention_mask"}


def test_another_process_learns_the_same() -> None:
    other = subprocess.run([sys.executable, "-c", PRINT_IDS], capture_output=True, text=True, check=True)
    assert other.stdout.strip() == train_bart_tokenizer(CORPUS).backend_tokenizer.to_str()
