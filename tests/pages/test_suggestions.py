from __future__ import annotations

import json
from pathlib import Path

import pytest

from webui.i18n import LANGUAGES, Language, load_messages
from webui.pages.create_form import SUGGESTIONS, translated_suggestion


@pytest.mark.parametrize("language", LANGUAGES)
@pytest.mark.parametrize("key", SUGGESTIONS)
def test_a_ready_prompt_names_something_that_the_suite_can_draw(
    key: str, language: Language, emoji_suite: Path
) -> None:
    concepts = json.loads((emoji_suite / "concepts.json").read_text(encoding="utf-8"))
    prompt = load_messages().text(language, key)
    assert any(name in prompt for concept in concepts for name in concept[language])


def test_an_untouched_ready_prompt_is_translated_and_another_is_not() -> None:
    messages = load_messages()
    english, thai = messages.translator("en"), messages.translator("th")
    ready = english.text(SUGGESTIONS[0])
    assert translated_suggestion(ready, english, thai) == thai.text(SUGGESTIONS[0])
    assert translated_suggestion("something of mine", english, thai) is None
