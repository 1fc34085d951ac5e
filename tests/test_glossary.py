"""The words of the field are explained in both languages, and written one way."""

from __future__ import annotations

import re

import pytest

from webui.i18n import LANGUAGES, load_messages
from webui.i18n.glossary import Term, load_glossary

THAI_LETTER = re.compile("[\u0e01-\u0e5b]")
TERMS = load_glossary()


@pytest.mark.parametrize("term", TERMS, ids=lambda term: term.name["en"])
def test_a_term_is_explained_in_both_languages_and_no_thai_string_spells_it_otherwise(term: Term) -> None:
    assert all(term.name[language] and term.meaning[language] for language in LANGUAGES)
    assert THAI_LETTER.search(term.meaning["th"])
    assert not THAI_LETTER.search(term.meaning["en"])
    thai = load_messages().tables["th"]
    assert not {(key, word) for key, said in thai.items() for word in term.never if word in said}


def test_no_term_is_there_twice_and_the_page_uses_each() -> None:
    names = [term.name["en"] for term in TERMS]
    assert len(names) == len(set(names))
    for language in LANGUAGES:
        said = "\n".join(load_messages().tables[language].values()).lower()
        assert [term.name[language] for term in TERMS if term.name[language].lower() not in said] == []
