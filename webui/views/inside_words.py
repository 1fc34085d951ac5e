"""The words of the page "Inside" for the scripts that draw it."""

from __future__ import annotations

import json

from webui.i18n import Translator

_PREFIX = "inside."


def inside_words(say: Translator) -> str:
    """All messages of the page in the reader's language, as JSON; the scripts fill in the `{name}` placeholders."""
    table = say.messages.tables[say.language]
    return json.dumps({key: words for key, words in table.items() if key.startswith(_PREFIX)}, ensure_ascii=False)
