from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from webui.clip.concepts import Concept
from webui.i18n import Language, load_messages
from webui.views.picture_check import render_picture_check
from webui.vision.background import RimColour
from webui.vision.check import CheckedPicture, PictureCheck, judge_nouns
from webui.vision.labels import COLOURS, LabelSet
from webui.vision.vit import ClassifiedPicture

CONCEPTS = tuple(
    Concept(name, emoji, {"en": (name,), "th": (thai,)})
    for name, emoji, thai in (("cat", "🐱", "แมว"), ("dog", "🐶", "หมา"), ("car", "🚗", "รถ"))
)
LABELS = LabelSet(("cat", "dog", "car", *(f"thing {n}" for n in range(7))), CONCEPTS)


def checked(prompt: str, *scores: float) -> PictureCheck:
    nouns = LABELS.find(prompt)
    shares = np.array([0.7, 0.01, 0.09, 0.05, 0.05, 0.03, 0.03, 0.02, 0.01, 0.01])
    pictures = []
    for place, score in enumerate(scores):
        one = ClassifiedPicture(place, f"{place}.png", shares)
        pictures.append(
            CheckedPicture(place, one.name, one, judge_nouns(nouns.found, one), RimColour(COLOURS[4], 0.98), score)
        )
    return PictureCheck(prompt, nouns, LABELS, "My <ViT>", "My CLIP", tuple(pictures), ())


@pytest.mark.parametrize(("language", "blue", "cat"), [("en", "blue", "🐱 cat"), ("th", "น้ำเงิน", "🐱 แมว")])
def test_what_is_seen_and_what_is_missing_is_said(language: Language, blue: str, cat: str) -> None:
    say = load_messages().translator(language)
    shown = render_picture_check(checked("a cat, a dog and a <zebra> on a blue background", 0.31), say)
    assert say.text("check.noun_seen", noun="cat", rank=1, share="70.0 %").replace("&", "&amp;") in shown
    assert say.text("check.noun_missing", noun="dog", rank=8, share="1.0 %") in shown
    assert say.text("check.background_right", measured=blue, share="98.0 %") in shown
    assert cat in shown
    assert say.text("check.unknown", words="zebra") in shown
    assert "0.310" in shown
    assert "<ViT>" not in shown


def test_a_batch_is_ranked_by_clip() -> None:
    say = load_messages().translator("en")
    check = checked("a cat on a red background", 0.2, 0.4, 0.3)
    shown = render_picture_check(check, say)
    places = [shown.index(f"Place {place}: picture {picture}") for place, picture in ((1, 2), (2, 3), (3, 1))]
    assert places == sorted(places)
    assert "wants a red background" in shown
    alone = replace(check, clip=None, pictures=tuple(replace(p, cosine=None) for p in check.pictures))
    assert say.text("check.ranked.nouns") in render_picture_check(alone, say)


def test_a_prompt_without_known_nouns_says_so() -> None:
    say = load_messages().translator("en")
    assert say.text("check.no_nouns") in render_picture_check(checked("something nice", 0.1), say)
