"""Classifying without training: the label whose sentence is nearest wins (Radford et al. 2021, section 3.1)."""

from __future__ import annotations

import csv
import io
import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import PurePath
from typing import Final

import numpy as np
import numpy.typing as npt

from webui.clip.embed import embed_texts
from webui.clip.encoder import Encoder
from webui.clip.similarity import Matrix, ScoreHead, ranking, sigmoid, softmax, unit
from webui.clip.watch import UNWATCHED, Watch
from webui.errors import UserError

PLACEHOLDER: Final = "{}"
BARE: Final = (PLACEHOLDER,)


@dataclass(frozen=True, slots=True, eq=False)
class LabelVectors:
    """One unit vector a label, (L, D) float64: the mean over the templates, scaled back to length 1."""

    labels: tuple[str, ...]
    templates: tuple[str, ...]
    vectors: Matrix


@dataclass(frozen=True, slots=True, eq=False)
class ZeroShot:
    """`cosine` and `probability` (P, L) of `names` against `labels`.

    The probability is a softmax over these labels, or for a sigmoid head each label's own sigmoid.
    """

    names: tuple[str, ...]
    labels: tuple[str, ...]
    cosine: Matrix
    probability: Matrix
    head: ScoreHead

    def top(self, picture: int, count: int) -> tuple[tuple[str, float], ...]:
        """The `count` likeliest labels of a picture with their probabilities, the best first."""
        order = ranking(self.cosine[picture], axis=0)[:count]
        return tuple((self.labels[i], float(self.probability[picture, i])) for i in order)


@dataclass(frozen=True, slots=True)
class Answers:
    """For each picture the index of its right label, or None; `unknown` are answers that no label matches."""

    right: tuple[int | None, ...]
    unknown: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Accuracy:
    """Of `counted` pictures with an answer, how many had it first, and among the first `k`."""

    counted: int
    top1: int
    topk: int
    k: int


def check_templates(templates: Iterable[str]) -> tuple[str, ...]:
    """The templates, blanks dropped. Raises UserError for one that does not have {} exactly once."""
    kept = tuple(template.strip() for template in templates if template.strip())
    for template in kept:
        if template.count(PLACEHOLDER) != 1:
            raise UserError("error.template_placeholder", template=template)
    return kept or BARE


def embed_labels(
    encoder: Encoder, labels: Sequence[str], templates: Sequence[str] = BARE, watch: Watch = UNWATCHED
) -> LabelVectors:
    """Encode every label in every template once (the encoder's cache keeps the sentences) and average per label."""
    checked = check_templates(templates)
    unique = tuple(dict.fromkeys(label.strip() for label in labels if label.strip()))
    if not unique:
        raise UserError("error.no_labels")
    sentences = [template.replace(PLACEHOLDER, label) for label in unique for template in checked]
    each = unit(embed_texts(encoder, sentences, watch).vectors).reshape(len(unique), len(checked), -1)
    return LabelVectors(unique, checked, unit(each.mean(axis=1)))


def classify(
    names: Sequence[str], picture_vectors: npt.NDArray[np.float32], labels: LabelVectors, head: ScoreHead
) -> ZeroShot:
    """Score picture vectors (P, D), not normalised, against the labels."""
    cosine = unit(picture_vectors) @ labels.vectors.T
    logit = head.scale * cosine + head.bias
    probability = softmax(logit, axis=1) if head.kind == "softmax" else sigmoid(logit)
    return ZeroShot(tuple(names), labels.labels, cosine, probability, head)


def nearest_labels(
    text_vectors: npt.NDArray[np.float32], labels: LabelVectors, count: int
) -> tuple[tuple[tuple[str, float], ...], ...]:
    """For each text vector (T, D) the `count` labels of the largest cosine, with it: where a sentence lies."""
    cosine = unit(text_vectors) @ labels.vectors.T
    order = ranking(cosine, axis=1)[:, :count]
    return tuple(
        tuple((labels.labels[i], float(row[i])) for i in best) for row, best in zip(cosine, order, strict=True)
    )


def answers_from_names(names: Sequence[str], labels: Sequence[str]) -> Answers:
    """Read the right label from each file name: "cat_01.png" is a cat. The longest label found in the name counts."""
    return Answers(tuple(_label_in(PurePath(name).stem, labels) for name in names))


def answers_from_csv(table: str, names: Sequence[str], labels: Sequence[str]) -> Answers:
    """Read the right labels from "file,label" lines; a header line is stepped over when no picture is called that.

    Raises UserError for a table without two columns.
    """
    given: dict[str, str] = {}
    for number, row in enumerate(csv.reader(io.StringIO(table.lstrip("\ufeff"))), start=1):
        if not any(cell.strip() for cell in row):
            continue
        if len(row) < 2:
            raise UserError("error.answers_csv", line=number)
        given[row[0].strip()] = row[1].strip()
    by_label = {_letters_only(label): index for index, label in enumerate(labels)}
    found = [given.get(name) for name in names]
    unknown = {a: None for a in found if a is not None and _letters_only(a) not in by_label}
    return Answers(
        tuple(None if answer is None else by_label.get(_letters_only(answer)) for answer in found), tuple(unknown)
    )


def accuracy(result: ZeroShot, answers: Answers, k: int = 5) -> Accuracy:
    """Count right answers; pictures without one are left out."""
    k = min(k, len(result.labels))
    order = ranking(result.cosine, axis=1)
    places: Mapping[int, int] = {
        row: int(np.flatnonzero(order[row] == right)[0]) for row, right in enumerate(answers.right) if right is not None
    }
    first = sum(place == 0 for place in places.values())
    return Accuracy(len(places), first, sum(place < k for place in places.values()), k)


def _label_in(stem: str, labels: Sequence[str]) -> int | None:
    words = f" {_letters_only(stem)} "
    candidates = []
    for index, label in enumerate(labels):
        wanted = _letters_only(label)
        # Thai and others write no blanks between words, so there the label may stand anywhere.
        if wanted and (f" {wanted} " if wanted.isascii() else wanted) in words:
            candidates.append((len(wanted), -index))
    return -max(candidates)[1] if candidates else None


def _letters_only(text: str) -> str:
    """Lower case, letters with their marks kept, everything else one blank: "Cat_01-b" -> "cat b"."""
    kept = (c if unicodedata.category(c)[0] in "LM" else " " for c in unicodedata.normalize("NFC", text).casefold())
    return " ".join("".join(kept).split())
