from __future__ import annotations

import csv
import io
import json
import threading
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image

from tests.clip.samples import png
from webui.clip.cache import Embedded, EmbeddingCache, EmbeddingKey
from webui.clip.embed import embed_pictures, embed_texts
from webui.clip.encoder import ClipParts, Encoder
from webui.clip.request import ScoreLimits, ScoreRequest, check_score_request, read_texts
from webui.clip.score import score, score_as_csv, score_as_dict
from webui.clip.similarity import ranking, unit
from webui.errors import UserError
from webui.vision.pictures import PictureFile

TEXTS = ["a cat", "a dog and a cat on a blue background", "แมว", "قطة", "🐱"]


def decoded(file: PictureFile) -> Image.Image:
    assert isinstance(file.content, bytes)
    return Image.open(io.BytesIO(file.content)).convert("RGB")


def test_scores_equal_clip_model(encoder: Encoder, pictures: list[PictureFile]) -> None:
    processor = encoder.clip.processor
    inputs = processor(text=TEXTS, images=[decoded(p) for p in pictures], return_tensors="pt", padding=True)
    with torch.no_grad():
        expected = encoder.model(**inputs)
    result = score(encoder, pictures, TEXTS)
    logits = expected.logits_per_image.numpy()
    np.testing.assert_allclose(result.similarity.logit, logits, atol=1e-5, rtol=1e-5)
    np.testing.assert_allclose(result.similarity.softmax_texts, torch.tensor(logits).softmax(1), atol=1e-5)
    np.testing.assert_allclose(result.similarity.softmax_pictures, torch.tensor(logits).softmax(0), atol=1e-5)
    cosine = expected.image_embeds @ expected.text_embeds.T
    np.testing.assert_allclose(result.similarity.cosine, cosine.numpy(), atol=1e-5)
    assert result.similarity.sigmoid is None


def test_a_sigmoid_head_has_a_bias_and_no_softmax(siglip_encoder: Encoder, pictures: list[PictureFile]) -> None:
    processor, model = siglip_encoder.clip.processor, siglip_encoder.model
    tokens = processor.tokenizer(TEXTS, padding="max_length", max_length=64, truncation=True, return_tensors="pt")
    images = processor.image_processor(images=[decoded(p) for p in pictures], return_tensors="pt")
    with torch.no_grad():
        logits = model(**tokens, **images).logits_per_image
    result = score(siglip_encoder, pictures, TEXTS)
    np.testing.assert_allclose(result.similarity.logit, logits.numpy(), atol=1e-5, rtol=1e-5)
    np.testing.assert_allclose(result.similarity.sigmoid, torch.sigmoid(logits).numpy(), atol=1e-5)
    assert result.similarity.head.bias == -3.0
    assert list(result.similarity.measures) == ["cosine", "logit", "sigmoid"]


def test_one_more_text_encodes_one_text(encoder: Encoder, pictures: list[PictureFile]) -> None:
    first = score(encoder, pictures, TEXTS)
    again = score(encoder, pictures, [*TEXTS, "a car"])
    assert (first.encoded_pictures, first.encoded_texts) == (3, 5)
    assert (again.encoded_pictures, again.encoded_texts) == (0, 1)
    np.testing.assert_array_equal(again.similarity.cosine[:, :5], first.similarity.cosine)
    assert [p.facts for p in again.pictures] == [p.facts for p in first.pictures]


def test_vectors_of_another_model_or_preprocessing_are_never_mixed(
    encoder: Encoder, pictures: list[PictureFile]
) -> None:
    embed_pictures(encoder, pictures)
    assert embed_pictures(replace(encoder, identity="other"), pictures).encoded == 3
    assert embed_pictures(replace(encoder, draft=True), pictures).encoded == 3
    renamed = [PictureFile("renamed.png", p.content) for p in pictures]
    assert embed_pictures(encoder, renamed).encoded == 0


def test_bad_files_are_named_and_the_rest_is_scored(encoder: Encoder, pictures: list[PictureFile]) -> None:
    files = [PictureFile("notes.txt", b"hello"), pictures[0], PictureFile("empty.png", b""), pictures[1]]
    result = score(encoder, files, ["a cat"])
    assert [(r.source, r.name, r.error.key) for r in result.refused] == [
        (0, "notes.txt", "error.picture_unknown"),
        (2, "empty.png", "error.picture_empty"),
    ]
    assert [(p.source, p.name) for p in result.pictures] == [(1, "picture-0.png"), (3, "picture-1.png")]
    alone = score(encoder, [pictures[1]], ["a cat"])
    np.testing.assert_allclose(result.similarity.cosine[1], alone.similarity.cosine[0], atol=1e-6)


@pytest.mark.parametrize("batch_size", [1, 2, 16])
def test_order_is_kept_whatever_the_batch(encoder: Encoder, batch_size: int) -> None:
    files = [png(20 + seed, 30, seed) for seed in range(5)]
    small = replace(encoder, batch_size=batch_size, cache=EmbeddingCache(), threads=4)
    one_by_one = np.stack([embed_pictures(replace(encoder, cache=EmbeddingCache()), [f]).vectors[0] for f in files])
    np.testing.assert_allclose(embed_pictures(small, files).vectors, one_by_one, atol=1e-5)


def test_no_pictures_and_no_texts_give_empty_matrices(encoder: Encoder, pictures: list[PictureFile]) -> None:
    assert score(encoder, [], ["a cat", "a dog"]).similarity.cosine.shape == (0, 2)
    assert score(encoder, pictures, []).similarity.cosine.shape == (3, 0)


class StoppedError(Exception):
    pass


class StopAfter:
    def __init__(self, checks: int) -> None:
        self.left = checks
        self.seen: list[tuple[int, int, str]] = []

    def check(self) -> None:
        self.left -= 1
        if self.left < 0:
            raise StoppedError

    def progress(self, step: int, total: int, phase: str) -> None:
        self.seen.append((step, total, phase))


def test_a_cancel_stops_between_pictures_and_leaves_no_thread(encoder: Encoder) -> None:
    before = threading.active_count()
    with pytest.raises(StoppedError):
        embed_pictures(replace(encoder, batch_size=2), [png(20, 20, seed) for seed in range(12)], StopAfter(5))
    assert threading.active_count() == before


def test_progress_ends_at_the_total(encoder: Encoder, pictures: list[PictureFile]) -> None:
    watch = StopAfter(10_000)
    score(encoder, [*pictures, PictureFile("x", b"x")], TEXTS, watch)
    assert watch.seen[-1] == (4, 4, "phase.encoding_pictures")
    assert (5, 5, "phase.encoding_texts") in watch.seen


def test_export_holds_every_figure(encoder: Encoder, pictures: list[PictureFile]) -> None:
    named = [PictureFile("=cmd.png", pictures[0].content), *pictures[1:]]
    result = score(encoder, named, ["a cat", 'say "hi", ok'])
    exported = json.loads(json.dumps(score_as_dict(result)))
    assert exported["pictures"] == ["=cmd.png", "picture-1.png", "picture-2.png"]
    np.testing.assert_array_equal(exported["softmax_texts"], result.similarity.softmax_texts)
    rows = list(csv.DictReader(io.StringIO(score_as_csv(result))))
    assert len(rows) == 6
    assert (rows[0]["picture"], rows[1]["text"]) == ("'=cmd.png", 'say "hi", ok')
    assert float(rows[3]["logit"]) == result.similarity.logit[1, 1]


def test_texts_are_read_a_line_each() -> None:
    listed = read_texts("a cat\n\n  a dog \r\na cat\n\t\n")
    assert (listed.texts, listed.empty, listed.duplicates) == (("a cat", "a dog"), 2, ("a cat",))


@pytest.mark.parametrize(
    ("request_", "key"),
    [
        (ScoreRequest((), ()), "error.nothing_to_score"),
        (ScoreRequest((PictureFile("a", b""),) * 3, ()), "error.too_many_pictures"),
        (ScoreRequest((), ("a", "b", "c", "d")), "error.too_many_texts"),
        (ScoreRequest((), ("a" * 11,)), "error.text_too_long"),
        (ScoreRequest((), ("a\0b",)), "error.text_control_character"),
    ],
)
def test_requests_are_checked(request_: ScoreRequest, key: str) -> None:
    with pytest.raises(UserError) as error:
        check_score_request(request_, ScoreLimits(max_pictures=2, max_texts=3, max_text_characters=10))
    assert error.value.key == key


def test_the_cache_keeps_what_was_used_last() -> None:
    keys = [EmbeddingKey(str(number), "m", "p") for number in range(3)]
    one = Embedded(np.zeros(100, np.float32))
    cache = EmbeddingCache(2 * one.size)
    cache.put(keys[0], one)
    cache.put(keys[1], one)
    cache.get(keys[0])
    cache.put(keys[2], one)
    assert [cache.get(key) is not None for key in keys] == [True, False, True]
    cache.put(keys[2], one)
    assert len(cache) == 2


def test_ranking_puts_the_best_first_and_keeps_ties() -> None:
    assert ranking(np.array([0.1, 0.5, 0.5, 0.2]), axis=0).tolist() == [1, 2, 3, 0]


def test_a_vector_of_zeros_has_no_direction() -> None:
    with pytest.raises(ValueError, match="no direction"):
        unit(np.zeros((1, 4)))


def test_texts_are_encoded_as_get_text_features_does(clip: ClipParts) -> None:
    encoder = Encoder(clip, "tiny", batch_size=1)
    tokens = clip.processor.tokenizer(TEXTS, padding=True, return_tensors="pt")
    with torch.no_grad():
        expected = clip.model.get_text_features(**tokens).pooler_output.numpy()
    np.testing.assert_allclose(embed_texts(encoder, TEXTS).vectors, expected, atol=1e-5)
