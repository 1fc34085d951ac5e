"""Small charts as SVG: data in, markup out, colours of the page by CSS variables.

Every chart has a `<title>` that says what it shows; the numbers stand in a table beside it, which the caller makes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from webui.views.colours import NEGATIVE, POSITIVE
from webui.views.markup import element, text

_TEXT: Final = "var(--body-text-color, currentColor)"
_FAINT: Final = "var(--border-color-primary, #999)"


@dataclass(frozen=True, slots=True)
class Bar:
    """One bar of a signed bar chart."""

    label: str
    value: float
    written: str


@dataclass(frozen=True, slots=True)
class Line:
    """One line of a line chart: `points` are (x, y); a dashed one is told apart without colour."""

    name: str
    points: tuple[tuple[float, float], ...]
    dashed: bool = False


def bar_chart(bars: Sequence[Bar], title: str) -> str:
    """Horizontal bars on both sides of zero, positive ones to the right."""
    height, width, middle, reach = 20, 480, 240, 150
    largest = max((abs(bar.value) for bar in bars), default=0.0) or 1.0
    drawn = [element("title", text(title))]
    for index, bar in enumerate(bars):
        length = reach * abs(bar.value) / largest
        top, right = index * height, bar.value >= 0
        drawn.append(
            element(
                "rect",
                x=_n(middle if right else middle - length),
                y=_n(top + 3),
                width=_n(length),
                height=_n(height - 6),
                fill=POSITIVE if right else NEGATIVE,
            )
        )
        drawn.append(_words(bar.label, middle - 4 if right else middle + 4, top + 14, "end" if right else "start"))
        end = middle + length + 4 if right else middle - length - 4
        drawn.append(_words(bar.written, end, top + 14, "start" if right else "end"))
    drawn.append(element("line", x1=_n(middle), x2=_n(middle), y1="0", y2=_n(len(bars) * height), stroke=_TEXT))
    return _svg(width, max(len(bars), 1) * height, drawn, "bar-chart")


def line_chart(lines: Sequence[Line], title: str, x_name: str, y_name: str) -> str:
    """Lines over x from 0 to 1, y from the smallest to the largest value, both written at the axis."""
    width, height, left, top, bottom = 480, 250, 56, 26, 34
    values = [y for line in lines for _, y in line.points]
    low, high = min(values, default=0.0), max(values, default=1.0)
    span = high - low or 1.0

    def at(x: float, y: float) -> str:
        return f"{_n(left + x * (width - left - 24))},{_n(top + (height - top - bottom) * (1 - (y - low) / span))}"

    drawn = [element("title", text(title))]
    for share in (0.0, 0.25, 0.5, 0.75, 1.0):
        x, y = at(share, low).split(",")
        drawn.append(element("line", x1=x, x2=x, y1=_n(top), y2=y, stroke=_FAINT))
        drawn.append(_words(f"{share:.0%}", float(x), height - bottom + 14, "middle"))
    drawn += [_words(f"{value:.3f}", left - 6, float(at(0, value).split(",")[1]) + 4, "end") for value in (low, high)]
    for line, colour in zip(lines, (POSITIVE, NEGATIVE, _TEXT), strict=False):
        points = " ".join(at(x, y) for x, y in line.points)
        dash = "6 4" if line.dashed else "none"
        drawn.append(
            element("polyline", points=points, fill="none", stroke=colour, stroke_width="2.5", stroke_dasharray=dash)
        )
    drawn.append(_words(x_name, (width + left) / 2, height - 4, "middle"))
    drawn.append(_words(y_name, 4, 12, "start"))
    return element("div", _svg(width, height, drawn, "line-chart"), _key(lines), class_="chart")


def _key(lines: Sequence[Line]) -> str:
    items = []
    for line, colour in zip(lines, (POSITIVE, NEGATIVE, _TEXT), strict=False):
        dash = "6 4" if line.dashed else "none"
        stroke = element(
            "line", x1="0", x2="28", y1="6", y2="6", stroke=colour, stroke_width="2.5", stroke_dasharray=dash
        )
        swatch = element("svg", stroke, viewBox="0 0 28 12", width="28", height="12", aria_hidden="true")
        items.append(element("li", swatch, " ", text(line.name)))
    return element("ul", *items, class_="chart-key")


def _words(words: str, x: float, y: float, anchor: str) -> str:
    return element("text", text(words), x=_n(x), y=_n(y), text_anchor=anchor, fill=_TEXT, font_size="12")


def _svg(width: int, height: int, children: Sequence[str], css_class: str) -> str:
    return element("svg", *children, viewBox=f"0 0 {width} {height}", role="img", class_=css_class)


def _n(value: float) -> str:
    return f"{value:.1f}".removesuffix(".0")
