from __future__ import annotations

import numpy as np
import pytest

from webui.clip.embed import embed_pictures, embed_texts
from webui.clip.encoder import Encoder
from webui.clip.similarity import ScoreHead, unit
from webui.clip.zeroshot import (
    ZeroShot,
    accuracy,
    answers_from_csv,
    answers_from_names,
    check_templates,
    classify,
    embed_labels,
    nearest_labels,
)
from webui.errors import UserError
from webui.vision.pictures import PictureFile

LABELS = ("cat", "dog", "fire truck", "truck", "แมวน้ำ", "แมว")


def test_a_label_is_the_mean_of_its_templates(encoder: Encoder) -> None:
    labels = embed_labels(encoder, ["cat", "dog", "cat "], ["a {}", "a photo of a {}"])
    sentences = unit(embed_texts(encoder, ["a dog", "a photo of a dog"]).vectors)
    assert labels.labels == ("cat", "dog")
    np.testing.assert_allclose(labels.vectors[1], unit(sentences.mean(axis=0)))
    assert embed_texts(encoder, ["a cat"]).encoded == 0


def test_labels_are_classified_with_the_models_head(encoder: Encoder, pictures: list[PictureFile]) -> None:
    embedded = embed_pictures(encoder, pictures)
    labels = embed_labels(encoder, ["cat", "dog", "car"])
    found = classify([p.name for p in embedded.pictures], embedded.vectors, labels, encoder.head)
    np.testing.assert_allclose(found.probability.sum(axis=1), 1)
    best = found.top(0, 2)
    assert best[0][1] >= best[1][1]
    assert best[0][0] == labels.labels[int(found.cosine[0].argmax())]
    alone = classify(["x"], embedded.vectors[:1], labels, ScoreHead("sigmoid", 10.0, -5.0))
    np.testing.assert_allclose(alone.probability, 1 / (1 + np.exp(5 - 10 * alone.cosine)))


def test_texts_find_their_nearest_label(encoder: Encoder) -> None:
    labels = embed_labels(encoder, ["cat", "dog", "car"])
    (best,) = nearest_labels(embed_texts(encoder, ["dog"]).vectors, labels, 2)
    assert best[0][0] == "dog"
    assert best[0][1] == pytest.approx(1.0)


def test_templates_need_one_placeholder() -> None:
    assert check_templates([" a {} ", "", "{}"]) == ("a {}", "{}")
    assert check_templates([]) == ("{}",)
    for template in ("a photo", "{} {}"):
        with pytest.raises(UserError, match=r"error\.template_placeholder"):
            check_templates([template])


def test_no_labels_is_an_error(encoder: Encoder) -> None:
    with pytest.raises(UserError, match=r"error\.no_labels"):
        embed_labels(encoder, [" "])


def test_answers_are_read_from_file_names() -> None:
    names = ["Cat_01.png", "fire-truck.jpg", "catalogue.png", "my dog & cat.png", "แมวน้ำ2.png", "แมว1.png", "x.png"]
    assert answers_from_names(names, LABELS).right == (0, 2, None, 0, 4, 5, None)


def test_answers_are_read_from_csv() -> None:
    table = '\ufefffile,label\na.png,Cat\nb.png,fire truck\n\nc.png,"unicorn"\n'
    answers = answers_from_csv(table, ["a.png", "b.png", "c.png", "d.png"], LABELS)
    assert answers.right == (0, 2, None, None)
    assert answers.unknown == ("unicorn",)
    with pytest.raises(UserError) as error:
        answers_from_csv("a.png\n", ["a.png"], LABELS)
    assert error.value.key == "error.answers_csv"


def test_accuracy_counts_only_pictures_with_an_answer() -> None:
    cosine = np.array([[0.9, 0.1, 0.0], [0.9, 0.1, 0.0], [0.1, 0.2, 0.3]])
    result = ZeroShot(("a", "b", "c"), ("x", "y", "z"), cosine, cosine, ScoreHead("softmax", 1.0))
    found = accuracy(result, answers_from_csv("a,x\nb,y\n", ("a", "b", "c"), ("x", "y", "z")), k=2)
    assert (found.counted, found.top1, found.topk) == (2, 1, 2)
