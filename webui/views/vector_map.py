"""Pictures and texts as points of a plane, the gap between the two kinds drawn."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from webui.i18n import Translator
from webui.views.colours import NEGATIVE, POSITIVE
from webui.views.figures import data_url, percent
from webui.views.markup import element, text

if TYPE_CHECKING:
    from webui.clip.embed import EmbeddedPicture
    from webui.clip.projection import VectorMap

WIDTH, HEIGHT, MARGIN, THUMBNAIL = 640, 420, 50, 44
_LONGEST = 18  # letters of a label


def render_vector_map(
    found: VectorMap, pictures: Sequence[EmbeddedPicture], texts: Sequence[str], say: Translator
) -> str:
    """Thumbnails for pictures, named dots for texts, one scale for both axes, the explained variance written below."""
    scale = _Scale(found)
    drawn = [element("title", text(say.text("score.map")))]
    for picture, point in zip(pictures, found.pictures, strict=True):
        x, y = scale.at(point)
        drawn.append(_thumbnail(picture, x, y))
    for words, point in zip(texts, found.texts, strict=True):
        x, y = scale.at(point)
        drawn.append(
            element("circle", element("title", text(words)), cx=f"{x:.1f}", cy=f"{y:.1f}", r="5", fill=POSITIVE)
        )
        drawn.append(_label(words if len(words) <= _LONGEST else words[:_LONGEST] + "…", x + 8, y + 4))
    if found.gap_line is not None:
        drawn.append(_gap([scale.at(point) for point in found.gap_line], say))
    first, second = found.explained_variance
    notes = [say.text("score.map.variance", first=percent(first), second=percent(second), both=percent(first + second))]
    if found.modality_gap is not None:
        notes.append(say.text("score.map.gap", gap=f"{found.modality_gap:.3f}"))
    chart = element("svg", *drawn, viewBox=f"0 0 {WIDTH} {HEIGHT}", role="img", class_="vector-map")
    return element(
        "figure",
        element("div", chart, class_="heatmap-scroll"),
        element("figcaption", *(element("p", text(note)) for note in notes)),
        _table(found, pictures, texts, say),
    )


def _gap(means: Sequence[tuple[float, float]], say: Translator) -> str:
    """The line between the two means, over everything else, its ends named."""
    (x1, y1), (x2, y2) = means
    place = {"x1": f"{x1:.1f}", "y1": f"{y1:.1f}", "x2": f"{x2:.1f}", "y2": f"{y2:.1f}"}
    under = element("line", **place, stroke="var(--block-background-fill, white)", stroke_width="5")
    line = element("line", **place, stroke=NEGATIVE, stroke_width="2.5", stroke_dasharray="6 4")
    above, below = ("mean_picture", "mean_text") if y1 <= y2 else ("mean_text", "mean_picture")
    names = {"mean_picture": say.text("score.map.mean_picture"), "mean_text": say.text("score.map.mean_text")}
    (xa, ya), (xb, yb) = sorted(means, key=lambda end: end[1]) if y1 != y2 else means
    return element(
        "g", under, line, _end(xa, ya), _end(xb, yb), _label(names[above], xa + 8, ya - 6),
        _label(names[below], xb + 8, yb + 16),
    )  # fmt: skip


def _end(x: float, y: float) -> str:
    return element("path", d=f"M{x - 5:.1f} {y:.1f}h10m-5 -5v10", stroke=NEGATIVE, stroke_width="3")


def _label(words: str, x: float, y: float) -> str:
    """Words with a rim of the ground's colour, readable over pictures."""
    return element(
        "text", text(words), x=f"{x:.1f}", y=f"{y:.1f}", fill="var(--body-text-color, currentColor)", font_size="13",
        stroke="var(--block-background-fill, white)", stroke_width="4", stroke_linejoin="round", paint_order="stroke",
    )  # fmt: skip


class _Scale:
    """Both axes at the same scale, so that distances in the picture are distances of the plane."""

    def __init__(self, found: VectorMap) -> None:
        points = [*found.pictures, *found.texts]
        self._xs = [float(point[0]) for point in points] or [0.0]
        self._ys = [float(point[1]) for point in points] or [0.0]
        across, down = max(self._xs) - min(self._xs), max(self._ys) - min(self._ys)
        self._factor = min(
            (WIDTH - 2 * MARGIN - 120) / across if across else 1e9, (HEIGHT - 2 * MARGIN) / down if down else 1e9
        )
        self._factor = 0.0 if self._factor >= 1e9 else self._factor

    def at(self, point: Sequence[float]) -> tuple[float, float]:
        x = MARGIN + (float(point[0]) - min(self._xs)) * self._factor
        y = HEIGHT - MARGIN - (float(point[1]) - min(self._ys)) * self._factor
        return x, y


def _thumbnail(picture: EmbeddedPicture, x: float, y: float) -> str:
    return element(
        "image",
        element("title", text(picture.name)),
        href=data_url(picture.facts.thumbnail, "jpeg"),
        x=f"{x - THUMBNAIL / 2:.1f}",
        y=f"{y - THUMBNAIL / 2:.1f}",
        width=str(THUMBNAIL),
        height=str(THUMBNAIL),
    )


def _table(found: VectorMap, pictures: Sequence[EmbeddedPicture], texts: Sequence[str], say: Translator) -> str:
    named = [*zip((p.name for p in pictures), found.pictures, strict=True), *zip(texts, found.texts, strict=True)]
    rows = [
        element(
            "tr",
            element("th", text(name), scope="row", dir="auto"),
            element("td", text(f"{point[0]:+.4f}")),
            element("td", text(f"{point[1]:+.4f}")),
        )
        for name, point in named
    ]
    head = element(
        "thead", element("tr", element("td"), element("th", "PC1", scope="col"), element("th", "PC2", scope="col"))
    )
    table = element("table", head, element("tbody", *rows), class_="numbers-table")
    return element(
        "details",
        element("summary", text(say.text("score.as_table"))),
        element("div", table, class_="heatmap-scroll tall"),
    )
