"""Pictures times texts: one call from files and sentences to the four figures, and its export."""

from __future__ import annotations

import csv
import io
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from webui.clip.embed import EmbeddedPicture, embed_pictures, embed_texts
from webui.clip.encoder import Encoder
from webui.clip.request import RefusedPicture, TextList, read_texts
from webui.clip.similarity import SimilarityMatrix, ranking, similarity
from webui.clip.tokens import TokenizedText, tokenize
from webui.clip.watch import UNWATCHED, Watch
from webui.vision.pictures import PictureFile


@dataclass(frozen=True, slots=True, eq=False)
class ScoreResult:
    """Everything the page shows of one scoring.

    `picture_vectors` (P, D) and `text_vectors` (T, D) are float32 and not normalised; `tokens` tell how each text
    was read and what was cut. `encoded_pictures` and `encoded_texts` count the ones that were not in the cache.
    """

    model: str
    pictures: tuple[EmbeddedPicture, ...]
    texts: tuple[str, ...]
    tokens: tuple[TokenizedText, ...]
    similarity: SimilarityMatrix
    picture_vectors: npt.NDArray[np.float32]
    text_vectors: npt.NDArray[np.float32]
    refused: tuple[RefusedPicture, ...]
    text_list: TextList
    encoded_pictures: int
    encoded_texts: int
    seconds: float

    def ranked_texts(self, picture: int, measure: str = "cosine") -> npt.NDArray[np.intp]:
        """Indices of the texts, the best for this picture first."""
        return ranking(self.similarity.measures[measure][picture], axis=0)

    def ranked_pictures(self, text: int, measure: str = "cosine") -> npt.NDArray[np.intp]:
        """Indices of the pictures, the best for this text first."""
        return ranking(self.similarity.measures[measure][:, text], axis=0)


def score(
    encoder: Encoder, pictures: Sequence[PictureFile], texts: str | Sequence[str], watch: Watch = UNWATCHED
) -> ScoreResult:
    """Score every picture against every text; what was scored before is not encoded again.

    `texts` may be one string with a text a line. Pictures that cannot be read are listed in `refused`. The logits equal
    `CLIPModel(...).logits_per_image` to 1e-5 (tests/clip/test_score.py).
    """
    start = time.perf_counter()
    listed = read_texts(texts)
    embedded_texts = embed_texts(encoder, listed.texts, watch)
    embedded = embed_pictures(encoder, pictures, watch)
    return ScoreResult(
        model=encoder.name,
        pictures=embedded.pictures,
        texts=listed.texts,
        tokens=tuple(tokenize(encoder.tokenizer, text, encoder.text_limit) for text in listed.texts),
        similarity=similarity(embedded.vectors, embedded_texts.vectors, encoder.head),
        picture_vectors=embedded.vectors,
        text_vectors=embedded_texts.vectors,
        refused=embedded.refused,
        text_list=listed,
        encoded_pictures=embedded.encoded,
        encoded_texts=embedded_texts.encoded,
        seconds=time.perf_counter() - start,
    )


def score_as_dict(result: ScoreResult) -> dict[str, Any]:
    """The result as JSON-ready values: `pictures`, `texts` and the matrices pictures x texts under their names.

    A softmax model has "cosine", "logit", "softmax_texts", "softmax_pictures"; a sigmoid model "cosine", "logit",
    "sigmoid", and its "bias".
    """
    head = result.similarity.head
    return {
        "model": result.model,
        "head": head.kind,
        "temperature": head.temperature,
        "logit_scale": head.scale,
        **({"bias": head.bias} if head.kind == "sigmoid" else {}),
        "pictures": [picture.name for picture in result.pictures],
        "texts": list(result.texts),
        **{name: values.tolist() for name, values in result.similarity.measures.items()},
        "refused": [
            {"name": refused.name, "error": refused.error.key, "values": _plain(refused.error.values)}
            for refused in result.refused
        ],
        "notes": [
            {"picture": picture.name, "note": note.key, "values": _plain(note.values)}
            for picture in result.pictures
            for note in picture.facts.notes
        ],
        "cut_texts": [{"text": t.text, "kept": t.kept_text, "cut": t.cut_text} for t in result.tokens if t.is_cut],
        "duplicate_texts": list(result.text_list.duplicates),
        "empty_lines": result.text_list.empty,
        "seconds": round(result.seconds, 3),
    }


def score_as_csv(result: ScoreResult) -> str:
    """One line a picture and text: picture, text, and every figure, with a header line; RFC 4180.

    Names and texts that a spreadsheet would run as a formula get a leading apostrophe.
    """
    measures = result.similarity.measures
    buffer = io.StringIO()
    writer = csv.writer(buffer)
    writer.writerow(["picture", "text", *measures])
    for row, picture in enumerate(result.pictures):
        for column, text in enumerate(result.texts):
            figures = (repr(float(values[row, column])) for values in measures.values())
            writer.writerow([_not_a_formula(picture.name), _not_a_formula(text), *figures])
    return buffer.getvalue()


def _not_a_formula(cell: str) -> str:
    return "'" + cell if cell.startswith(("=", "+", "-", "@", "\t", "\r")) else cell


def _plain(values: Any) -> dict[str, Any]:
    """Only what JSON can hold; anything else as its text."""
    return {name: v if isinstance(v, str | int | float | bool) else str(v) for name, v in dict(values).items()}
