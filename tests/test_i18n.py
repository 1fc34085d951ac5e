from __future__ import annotations

import ast
import json
import re
import string
from pathlib import Path

import pytest

from webui.errors import UserError
from webui.i18n import LANGUAGES, load_messages

ROOT = Path(__file__).resolve().parent.parent
WEBUI = ROOT / "webui"
ENGLISH = load_messages().tables["en"]
THAI = load_messages().tables["th"]

KEY = re.compile(r"[a-z0-9_]+(\.[a-z0-9_]+)+")
QUOTED_KEY = re.compile(rf"['\"`]({KEY.pattern})['\"`]")
THAI_LETTER = re.compile("[\u0e01-\u0e5b]")

# Entries that are the same in both languages: names, symbols and numbers only.
SAME_IN_BOTH = re.compile(r"(brand|language)\..*|.*\.name_only")


def placeholders(text: str) -> set[str]:
    return {name for _, name, _, _ in string.Formatter().parse(text) if name is not None}


def strings_in_code() -> set[str]:
    """Every string literal in the program, docstrings aside; in scripts and templates, whatever looks like a key."""
    found: set[str] = set()
    for path in WEBUI.rglob("*.py"):
        tree = ast.parse(path.read_text(encoding="utf-8"))
        found |= {n.value for n in ast.walk(tree) if isinstance(n, ast.Constant) and isinstance(n.value, str)}
    for suffix in ("*.js", "*.html"):
        for path in WEBUI.rglob(suffix):
            found |= {match[1] for match in QUOTED_KEY.finditer(path.read_text(encoding="utf-8"))}
    return found


def prefixes() -> set[str]:
    """First parts of the keys ("error", "cli"): a literal that starts with one of these is meant as a key."""
    return {key.partition(".")[0] for key in ENGLISH}


def test_both_languages_have_the_same_keys() -> None:
    assert len(ENGLISH) >= 60
    assert ENGLISH.keys() == THAI.keys()


def test_every_key_that_the_code_uses_exists() -> None:
    used = {text for text in strings_in_code() if KEY.fullmatch(text) and text.partition(".")[0] in prefixes()}
    assert len(used) >= 60
    file_names = {
        text for text in used if text.endswith((".json", ".png", ".txt", ".safetensors", ".toml", ".css", ".js", ".py"))
    }
    missing = used - file_names - ENGLISH.keys()
    assert not missing


def test_every_key_is_used() -> None:
    unused = ENGLISH.keys() - strings_in_code()
    assert not unused


def test_both_languages_fill_in_the_same_values() -> None:
    assert [key for key in ENGLISH if placeholders(ENGLISH[key]) != placeholders(THAI[key])] == []
    spaced = [(key, text) for table in (ENGLISH, THAI) for key, text in table.items() if text != text.strip()]
    assert spaced == []
    assert [key for key in ENGLISH if not ENGLISH[key] or not THAI[key]] == []


def test_thai_entries_are_thai_and_english_ones_are_not() -> None:
    without = {key for key, text in THAI.items() if not THAI_LETTER.search(text) and not SAME_IN_BOTH.fullmatch(key)}
    assert not {key for key in without if THAI[key] != ENGLISH[key] or len(ENGLISH[key].split()) > 2}
    assert not {key for key, text in ENGLISH.items() if THAI_LETTER.search(text) and not SAME_IN_BOTH.fullmatch(key)}


def test_errors_are_one_sentence_on_one_line() -> None:
    errors = [key for key in ENGLISH if key.startswith("error.")]
    assert len(errors) >= 15
    for key in errors:
        assert "\n" not in ENGLISH[key] + THAI[key], key
        assert ENGLISH[key].endswith("."), key


AREAS = sorted(path.name for path in (WEBUI / "i18n" / "en").iterdir())


def test_both_languages_have_the_same_areas() -> None:
    assert len(AREAS) >= 5
    assert sorted(path.name for path in (WEBUI / "i18n" / "th").iterdir()) == AREAS


@pytest.mark.parametrize("language", LANGUAGES)
@pytest.mark.parametrize("area", AREAS)
def test_areas_are_sorted_so_that_two_people_do_not_add_the_same_key(language: str, area: str) -> None:
    pairs = json.loads((WEBUI / "i18n" / language / area).read_text(encoding="utf-8"), object_pairs_hook=list)
    keys = [key for key, _ in pairs]
    assert keys == sorted(set(keys))


@pytest.mark.parametrize("area", AREAS)
def test_an_area_holds_the_same_keys_in_both_languages(area: str) -> None:
    english, thai = (json.loads((WEBUI / "i18n" / language / area).read_text("utf-8")) for language in LANGUAGES)
    assert english.keys() == thai.keys()


def test_an_error_speaks_both_languages() -> None:
    error = UserError("error.steps_out_of_range", value=0, low=1, high=150)
    messages = load_messages()
    assert messages.error("en", error) == "The number of steps is 0; choose 1 to 150."
    assert messages.error("th", error).startswith("จำนวนสเต็ปคือ 0")
    with pytest.raises(KeyError):
        messages.text("en", "error.steps_out_of_range", value=0)
