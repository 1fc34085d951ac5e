"""Colour scales whose order survives colour-vision deficiency, greyscale print, and dark and light pages."""

from __future__ import annotations

from typing import Final

Rgb = tuple[int, int, int]

# Cividis (Nunez, Anderton and Renslow 2018): lightness rises evenly, and it looks nearly the same to everyone.
_CIVIDIS: Final = (
    "#00224e", "#123570", "#3b496c", "#575d6d", "#707173", "#8a8678", "#a59c74", "#c3b369", "#e1cc55", "#fee838",
)  # fmt: skip

# Okabe and Ito 2008: told apart with every common deficiency.
POSITIVE: Final = "#0072b2"
NEGATIVE: Final = "#d55e00"


def sequential(fraction: float) -> str:
    """The colour "#rrggbb" at 0 (low) to 1 (high); values outside are clipped."""
    place = min(max(fraction, 0.0), 1.0) * (len(_CIVIDIS) - 1)
    index = min(int(place), len(_CIVIDIS) - 2)
    share = place - index
    low, high = _rgb(_CIVIDIS[index]), _rgb(_CIVIDIS[index + 1])
    mixed = (round(a + (b - a) * share) for a, b in zip(low, high, strict=True))
    return "#" + "".join(f"{channel:02x}" for channel in mixed)


def ink_on(colour: str) -> str:
    """Black or white, whichever is easier to read on `colour`; always at least 4.5:1."""
    return max(("#000000", "#ffffff"), key=lambda ink: contrast(ink, colour))


def contrast(one: str, other: str) -> float:
    """Contrast ratio of two colours, 1 to 21 (WCAG 2.2, relative luminance)."""
    light, dark = sorted((_luminance(one), _luminance(other)), reverse=True)
    return (light + 0.05) / (dark + 0.05)


def sequential_stops() -> tuple[str, ...]:
    """The colours of the scale at even distances, low to high: what a legend draws."""
    return _CIVIDIS


def _luminance(colour: str) -> float:
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in (v / 255 for v in _rgb(colour))]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def _rgb(colour: str) -> Rgb:
    return int(colour[1:3], 16), int(colour[3:5], 16), int(colour[5:7], 16)
