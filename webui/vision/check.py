"""Does a picture show what its prompt says? Two judges that did not draw it, and what neither of them can know."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from webui.i18n import Language
from webui.vision.labels import Colour, Noun, PromptNouns

if TYPE_CHECKING:
    from webui.clip.request import RefusedPicture
    from webui.vision.background import RimColour
    from webui.vision.labels import LabelSet
    from webui.vision.vit import ClassifiedPicture

TOP: int = 5
"""Among how many of the likeliest labels a noun has to be."""


@dataclass(frozen=True, slots=True)
class NounVerdict:
    """Whether a noun of the prompt is seen: `rank` is the best place of its labels, from 1, `probability` their sum."""

    noun: Noun
    rank: int
    probability: float

    @property
    def seen(self) -> bool:
        """Whether one of its labels is among the top ones."""
        return self.rank <= TOP


@dataclass(frozen=True, slots=True)
class ExtraScore:
    """A figure that an extension gives a picture; `title` says in each language what it is."""

    title: Mapping[Language, str]
    value: float


@dataclass(frozen=True, slots=True, eq=False)
class CheckedPicture:
    """What was found in one picture. `place` is its place among the pictures given.

    `cosine` is CLIP's score of the whole prompt, None when there was no CLIP to ask; `rim` the measured background.
    `extra` are the scores of extensions.
    """

    place: int
    name: str
    classified: ClassifiedPicture
    verdicts: tuple[NounVerdict, ...]
    rim: RimColour
    cosine: float | None
    extra: tuple[ExtraScore, ...] = ()

    @property
    def all_seen(self) -> bool:
        """Whether every noun that could be looked for is seen."""
        return all(verdict.seen for verdict in self.verdicts)


@dataclass(frozen=True, slots=True, eq=False)
class PictureCheck:
    """The answer for all pictures of one prompt. `nouns` says what was looked for and what could not be."""

    prompt: str
    nouns: PromptNouns
    labels: LabelSet
    vit: str
    clip: str | None
    pictures: tuple[CheckedPicture, ...]
    refused: tuple[RefusedPicture, ...]

    @property
    def ranked(self) -> tuple[CheckedPicture, ...]:
        """The pictures by CLIP's score, the best first; without CLIP by the nouns seen. Equal ones keep their order."""

        def merit(picture: CheckedPicture) -> float:
            if picture.cosine is not None:
                return picture.cosine
            return sum(min(verdict.probability, 1.0) + verdict.seen for verdict in picture.verdicts)

        return tuple(sorted(self.pictures, key=merit, reverse=True))


def judge_nouns(nouns: Sequence[Noun], classified: ClassifiedPicture) -> tuple[NounVerdict, ...]:
    """Where each noun stands among the labels of one picture."""
    places = {label: place for place, (label, _) in enumerate(classified.top(len(classified.probabilities)), start=1)}
    return tuple(
        NounVerdict(
            noun,
            min(places[label] for label in noun.labels),
            float(sum(classified.probabilities[label] for label in noun.labels)),
        )
        for noun in nouns
    )


def background_matches(wanted: Colour | None, rim: RimColour) -> bool | None:
    """Whether the measured background is the one that was asked for; None when none was."""
    return None if wanted is None else rim.colour == wanted


def check_as_dict(check: PictureCheck) -> dict[str, Any]:
    """JSON-ready: for each picture, the best first, its `labels`, `nouns`, `background` and `clip_score`."""
    from webui.vision.vit import labels_as_list

    wanted = check.nouns.background
    return {
        "prompt": check.prompt,
        "vit": check.vit,
        "clip": check.clip,
        "not_checked": list(check.nouns.unknown),
        "pictures": [
            {
                "place": picture.place,
                "picture": picture.name,
                "labels": labels_as_list(check.labels, picture.classified, TOP),
                "nouns": [
                    {"noun": v.noun.written, "seen": v.seen, "rank": v.rank, "probability": v.probability}
                    for v in picture.verdicts
                ],
                "background": {
                    "measured": picture.rim.colour.en,
                    "share": picture.rim.share,
                    "wanted": wanted.en if wanted else None,
                    "matches": background_matches(wanted, picture.rim),
                },
                "clip_score": picture.cosine,
                "extra_scores": [{"title": one.title["en"], "value": one.value} for one in picture.extra],
            }
            for picture in check.ranked
        ],
        "refused": [{"name": refused.name, "error": refused.error.key} for refused in check.refused],
    }
