"""How the four figures are called and written."""

from __future__ import annotations

import base64
from typing import Final

from webui.i18n import Translator

_PROBABILITIES: Final = ("softmax_texts", "softmax_pictures", "sigmoid")


def measure_name(measure: str, say: Translator) -> str:
    """The name of "cosine", "logit", "softmax_texts", "softmax_pictures" or "sigmoid" as a heading."""
    names = {
        "cosine": say.text("score.cosine"),
        "logit": say.text("score.logit"),
        "softmax_texts": say.text("score.softmax_texts"),
        "softmax_pictures": say.text("score.softmax_pictures"),
        "sigmoid": say.text("score.sigmoid"),
    }
    return names[measure]


def measure_meaning(measure: str, say: Translator) -> str:
    """One sentence on what the figure answers."""
    meanings = {
        "cosine": say.text("score.cosine.meaning"),
        "logit": say.text("score.logit.meaning"),
        "softmax_texts": say.text("score.softmax_texts.meaning"),
        "softmax_pictures": say.text("score.softmax_pictures.meaning"),
        "sigmoid": say.text("score.sigmoid.meaning"),
    }
    return meanings[measure]


def is_probability(measure: str) -> bool:
    """Whether the figure lies in 0..1 and is written in per cent."""
    return measure in _PROBABILITIES


def written(value: float, measure: str) -> str:
    """A figure as it stands in a cell: cosine to three places, logit to two, probabilities in per cent."""
    if is_probability(measure):
        return percent(value)
    return f"{value:.3f}" if measure == "cosine" else f"{value:.2f}"


def percent(share: float) -> str:
    """A share of 1 in per cent; what is not zero is never written as zero."""
    if 0 < share < 0.001:
        return "<0.1 %"
    if 0.999 < share < 1:
        return ">99.9 %"
    return f"{100 * share:.1f} %"


def file_size(size: int) -> str:
    """The bytes of a picture or an archive as people read them."""
    return f"{size / 2**20:.1f} MiB" if size >= 2**20 else f"{size / 1024:.0f} KiB"


def data_url(content: bytes, kind: str) -> str:
    """A picture as an address that needs no second request; `kind` is "jpeg" or "png"."""
    return f"data:image/{kind};base64,{base64.b64encode(content).decode('ascii')}"
