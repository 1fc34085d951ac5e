from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import CLIPTokenizer

from webui.clip.tokens import TokenizedText, joined_pieces, tokenize, words


def check(tokenizer: CLIPTokenizer, tokenized: TokenizedText, limit: int = 77) -> None:
    """What must hold for every text."""
    expected = tokenizer(tokenized.text, truncation=True, max_length=limit)["input_ids"]
    assert [piece.token_id for piece in tokenized.pieces] == expected
    assert len(tokenized.pieces) == min(tokenized.used, limit)
    assert tokenized.kept_text + tokenized.cut_text == tokenized.text
    assert bool(tokenized.is_cut) == (tokenized.used > limit)
    for piece in tokenized.pieces:
        touched = b"".join(letter.raw for letter in tokenized.letters[piece.start : piece.end])
        assert piece.raw in touched


def test_english_pieces_bytes_and_ids(tokenizer: CLIPTokenizer) -> None:
    tokenized = tokenize(tokenizer, "A Cat", 77)
    check(tokenizer, tokenized)
    assert "".join(letter.character for letter in tokenized.letters) == "a cat"
    assert [(p.spelling, p.raw, p.start, p.end, p.ends_word) for p in tokenized.pieces[1:-1]] == [
        ("a</w>", b"a", 0, 1, True),
        ("cat</w>", b"cat", 2, 5, True),
    ]
    assert [piece.is_special for piece in tokenized.pieces] == [True, False, False, True]
    assert words(tokenized) == ((1,), (2,))


def test_pieces_that_share_a_thai_letter_are_joined(tokenizer: CLIPTokenizer) -> None:
    tokenized = tokenize(tokenizer, "กข", 77)
    check(tokenizer, tokenized)
    inner = tokenized.pieces[1:-1]
    assert [piece.raw for piece in inner] == [b"\xe0\xb8", b"\x81", b"\xe0\xb8", b"\x82"]
    assert [piece.continues_letter for piece in inner] == [False, True, False, True]
    assert [(piece.start, piece.end) for piece in inner] == [(0, 1), (0, 1), (1, 2), (1, 2)]
    assert joined_pieces(tokenized) == ((0,), (1, 2), (3, 4), (5,))
    assert [letter.raw for letter in tokenized.letters] == ["ก".encode(), "ข".encode()]


def test_what_is_cut_is_told(tokenizer: CLIPTokenizer) -> None:
    tokenized = tokenize(tokenizer, "cat " * 10 + "dog", 8)
    check(tokenizer, tokenized, 8)
    assert tokenized.kept_text == "cat cat cat cat cat cat"
    assert tokenized.cut_text.strip() == "cat cat cat cat dog"
    assert tokenized.used == 10 + 3 + 2


def test_a_text_that_just_fits_is_not_cut(tokenizer: CLIPTokenizer) -> None:
    tokenized = tokenize(tokenizer, "cat " * 6, 8)
    assert (tokenized.used, tokenized.cut_text, tokenized.is_cut) == (8, "", False)


def test_empty_text_has_only_its_ends(tokenizer: CLIPTokenizer) -> None:
    tokenized = tokenize(tokenizer, "", 77)
    assert [piece.is_special for piece in tokenized.pieces] == [True, True]


def test_right_to_left_emoji_and_literal_end_tokens(tokenizer: CLIPTokenizer) -> None:
    for text in ("قطة", "👨‍👩‍👧 🐱", "a <|endoftext|> b", "น้ำ  ตา\tแมว", "\u00a0x\u3000y"):
        check(tokenizer, tokenize(tokenizer, text, 77))


@settings(max_examples=100, deadline=None)
@given(text=st.text(st.characters(exclude_categories=["Cs"]), max_size=60), limit=st.integers(3, 77))
def test_every_text_is_taken_apart(tokenizer: CLIPTokenizer, text: str, limit: int) -> None:
    check(tokenizer, tokenize(tokenizer, text, limit), limit)
