from __future__ import annotations

import re
from collections.abc import Sequence
from html.parser import HTMLParser
from itertools import pairwise

import numpy as np
import pytest

from tests.clip.samples import png
from webui.clip.calculator import TUTORIAL_PICTURE, TUTORIAL_TEXTS, NamedVector, calculate
from webui.clip.embed import EmbeddedPicture
from webui.clip.encoder import Encoder
from webui.clip.projection import project
from webui.clip.relevance import deletion_curve, explain
from webui.clip.score import ScoreResult, score
from webui.clip.worked import worked_example
from webui.clip.zeroshot import accuracy, answers_from_names, classify, embed_labels, nearest_labels
from webui.i18n import LANGUAGES, Translator, load_messages
from webui.views.calculation import render_calculation
from webui.views.charts import Bar, Line, bar_chart, line_chart
from webui.views.colours import contrast, ink_on, sequential
from webui.views.figures import percent
from webui.views.heatmap import render_heatmap
from webui.views.rankings import render_rankings, render_remarks
from webui.views.relevance import render_relevance
from webui.views.token_strip import render_token_strip
from webui.views.vector_map import render_vector_map
from webui.views.worked_cosine import render_worked_example
from webui.views.zero_shot import render_nearest, render_zero_shot
from webui.vision.pictures import PictureFile

HOSTILE = '<script>alert("1")</script>&'


@pytest.fixture(params=LANGUAGES)
def say(request: pytest.FixtureRequest) -> Translator:
    return load_messages().translator(request.param)


@pytest.fixture(scope="module")
def result(clip: object) -> ScoreResult:
    encoder = Encoder(clip, "tiny")  # type: ignore[arg-type]
    files = [PictureFile(HOSTILE + ".png", png().content), png(40, 64, 1), PictureFile("broken.png", b"no")]
    return score(encoder, files, ["a cat", HOSTILE, "แมว", "cat " * 90, "a cat"])


class Page(HTMLParser):
    """Reads markup strictly enough to notice tags that are not closed, and keeps what the tests ask for."""

    void = frozenset({"img"})

    def __init__(self, markup: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.buttons: list[dict[str, str | None]] = []
        self.words: list[str] = []
        self.tags: list[str] = []
        self.feed(markup)
        self.close()
        assert not self.open, f"not closed: {self.open}"
        assert "script" not in self.tags

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        if tag not in self.void:
            self.open.append(tag)
        if tag == "button":
            self.buttons.append(dict(attrs))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.words.append(data)

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.words).split())


@pytest.mark.parametrize("measure", ["cosine", "logit", "softmax_texts", "softmax_pictures"])
def test_each_cell_of_the_heat_map_is_a_button_with_its_figure(
    result: ScoreResult, say: Translator, measure: str
) -> None:
    page = Page(render_heatmap(result, measure, say, chosen=(1, 2)))
    places = [(int(b["data-picture"] or ""), int(b["data-text"] or "")) for b in page.buttons]
    assert places == [(i, j) for i in range(2) for j in range(4)]
    assert [p for p, b in zip(places, page.buttons, strict=True) if b["aria-pressed"] == "true"] == [(1, 2)]
    values = result.similarity.measures[measure]
    if measure == "cosine":
        for button, place in zip(page.buttons, places, strict=True):
            assert f"{values[place]:.3f}" in (button["aria-label"] or "")
    best = [
        p for p, b in zip(places, page.buttons, strict=True) if say.text("score.best_text") in (b["aria-label"] or "")
    ]
    assert best == [(i, int(values[i].argmax())) for i in range(2)]
    assert HOSTILE in page.text


def test_a_matrix_of_nothing_says_what_is_missing(encoder: Encoder, say: Translator) -> None:
    assert Page(render_heatmap(score(encoder, [], ["a"]), "cosine", say)).text == say.text("score.needs_both")


def test_rankings_and_remarks_name_everything(result: ScoreResult, say: Translator) -> None:
    assert HOSTILE in Page(render_rankings(result, "cosine", say)).text
    remarks = Page(render_remarks(result, say)).text
    assert "broken.png" in remarks
    assert say.text("score.duplicate", text="a cat") in remarks
    assert "92" in remarks, "the tokens of the text that is cut"


def test_a_scale_is_readable_everywhere_and_rises_evenly() -> None:
    shares = np.linspace(0, 1, 200)
    assert all(contrast(ink_on(sequential(share)), sequential(share)) >= 4.5 for share in shares)
    lightness = [contrast(sequential(share), "#000000") for share in shares]
    assert all(a < b for a, b in pairwise(lightness))
    assert (sequential(-1), sequential(2)) == ("#00224e", "#fee838")


def test_thai_pieces_that_share_a_letter_stand_joined(result: ScoreResult, say: Translator) -> None:
    markup = render_token_strip(result.tokens[2], say)
    Page(markup)
    assert markup.count('class="joined"') == 3
    assert "E0 B9 81" in markup
    assert "<del" in render_token_strip(result.tokens[3], say)


@pytest.mark.parametrize("kind", ["encoder", "siglip_encoder"])
def test_the_worked_example_shows_pythons_numbers(kind: str, request: pytest.FixtureRequest, say: Translator) -> None:
    worked = worked_example(request.getfixturevalue(kind), png(60, 40), f"a cat {HOSTILE}")
    page = Page(render_worked_example(worked, say))
    for number in (worked.dot, worked.image_norm, worked.text_norm, worked.cosine, worked.logit, worked.check.model):
        assert f"{number:.6f}" in page.text
    assert "✓" in page.text
    assert "16 patch" in page.text
    assert page.tags.count("rect") == len(worked.largest_terms(8))


def test_the_calculator_shows_the_tutorials_numbers(say: Translator) -> None:
    page = Page(render_calculation(calculate(TUTORIAL_PICTURE, TUTORIAL_TEXTS), say))
    for number in ("1.35", "1.22", "0.47", "≈ 1.00", "≈ 0.99", "≈ 0.40", "0.2 × 0.3"):
        assert number in page.text
    assert "cat (1.00) > dog (0.99) > car (0.40)" in page.text


def test_a_zero_vector_is_explained(say: Translator) -> None:
    page = Page(render_calculation(calculate(TUTORIAL_PICTURE, [NamedVector(HOSTILE, (0.0,) * 4)]), say))
    assert say.text("score.calculator.zero", name=HOSTILE) in page.text
    assert "nan" not in page.text.lower()


def test_zero_shot_marks_right_and_wrong(encoder: Encoder, result: ScoreResult, say: Translator) -> None:
    labels = embed_labels(encoder, ["cat", "dog", HOSTILE])
    found = classify(("cat.png", "x.png"), result.picture_vectors, labels, encoder.head)
    answers = answers_from_names(found.names, found.labels)
    page = Page(render_zero_shot(found, say, 2, answers, accuracy(found, answers)))
    assert len(re.findall("[✓✗]", page.text)) == 1
    assert percent(found.top(0, 1)[0][1]) in page.text
    Page(render_nearest(result.texts, nearest_labels(result.text_vectors, labels, 2), say))


def test_relevance_is_drawn_with_its_areas(encoder: Encoder, say: Translator) -> None:
    relevance = explain(encoder, png(60, 40), f"a cat {HOSTILE}")
    curve = deletion_curve(encoder, png(60, 40), "a cat", relevance.patches, steps=4, random_orders=2)
    page = Page(render_relevance(relevance, worked_example(encoder, png(60, 40), "a").model_view, curve, say))
    assert page.tags.count("rect") == 16
    assert f"{curve.relevant_area:.4f}" in page.text
    assert f"{curve.random_area:.4f}" in page.text


@pytest.mark.parametrize(("pictures", "texts"), [(2, 4), (0, 1), (1, 0)])
def test_the_map_prints_variance_and_gap(result: ScoreResult, say: Translator, pictures: int, texts: int) -> None:
    found = project(result.picture_vectors[:pictures], result.text_vectors[:texts])
    shown: Sequence[EmbeddedPicture] = result.pictures[:pictures]
    page = Page(render_vector_map(found, shown, result.texts[:texts], say))
    assert page.tags.count("image") == pictures
    assert page.tags.count("circle") == texts
    assert percent(found.explained_variance[0]) in page.text
    if found.modality_gap is not None:
        assert f"{found.modality_gap:.3f}" in page.text


def test_charts_of_nothing_and_of_one_value() -> None:
    Page(bar_chart([], "t"))
    Page(bar_chart([Bar("<", 0.0, "0")], "t"))
    Page(line_chart([Line("<b>", ((0.0, 1.0), (1.0, 1.0)))], "t", "x", "y"))
