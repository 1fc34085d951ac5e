"""What is drawn instead of a Thai prompt, said beside the picture."""

from __future__ import annotations

from typing import TYPE_CHECKING

from webui.i18n import Translator
from webui.views.markup import element, text

if TYPE_CHECKING:
    from webui.tasks.translate import Translation


def render_translation(translation: Translation | None, say: Translator) -> str:
    """The English that is drawn, under it what was written; nothing where nothing was translated."""
    if translation is None:
        return ""
    lines = [
        element("p", text(say.text("create.translated", model=translation.model)), class_="translation-said"),
        element("p", text(translation.text), dir="auto", lang="en", class_="translation-text"),
        element("p", text(translation.original), dir="auto", class_="translation-original"),
    ]
    remarks = translation_remarks(translation, say)
    lines += [element("p", text(remark), class_="translation-said") for remark in remarks]
    return element("section", *lines, class_="notice translation", role="status")


def translation_remarks(translation: Translation, say: Translator) -> list[str]:
    """What a reader must know beside the words: that a long prompt was read in parts, and what was left out of it."""
    remarks = []
    if translation.parts > 1:
        remarks.append(say.text("prompt.note.parts", parts=translation.parts))
    if translation.negative_left:
        remarks.append(say.text("create.translated.negative"))
    if translation.weights_left:
        remarks.append(say.text("create.translated.weights"))
    return remarks
