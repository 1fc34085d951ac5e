"""Scenes: what a training picture contains, before it is drawn or described.

A scene has a background colour and one or two objects. Some scenes are never trained on (`is_held_out`): whole
compositions (these two things together, this thing on this colour at this place), chosen by a hash, so that
evaluation can ask for something that was never seen while every part of it was.
"""

import hashlib
from dataclasses import dataclass

import numpy as np

SIZES = ("small", "normal", "big")
PLACES = ("center", "left", "right", "top", "bottom")


@dataclass(frozen=True)
class Background:
    """A background colour with its names and its sRGB value before jitter."""

    en: str
    th: str
    rgb: tuple[int, int, int]


BACKGROUNDS = (
    Background("red", "แดง", (222, 52, 52)),
    Background("orange", "ส้ม", (244, 144, 44)),
    Background("yellow", "เหลือง", (250, 222, 72)),
    Background("green", "เขียว", (58, 168, 84)),
    Background("blue", "น้ำเงิน", (48, 98, 216)),
    Background("purple", "ม่วง", (138, 70, 196)),
    Background("pink", "ชมพู", (248, 164, 204)),
    Background("brown", "น้ำตาล", (132, 84, 50)),
    Background("black", "ดำ", (24, 24, 26)),
    Background("white", "ขาว", (248, 248, 248)),
    Background("gray", "เทา", (146, 148, 152)),
)


@dataclass(frozen=True)
class Placed:
    """An object of a scene: concept index, one of SIZES, one of PLACES."""

    concept: int
    size: str = "normal"
    place: str = "center"


@dataclass(frozen=True)
class Scene:
    """Background index and one object, or two (the left one first)."""

    background: int
    objects: tuple[Placed, ...]

    @property
    def is_pair(self) -> bool:
        """Whether there are two objects."""
        return len(self.objects) == 2


def single(concept: int, background: int, size: str = "normal", place: str = "center") -> Scene:
    """One object."""
    return Scene(background, (Placed(concept, size, place),))


def pair(left: int, right: int, background: int) -> Scene:
    """Two objects side by side."""
    return Scene(background, (Placed(left, "small", "left"), Placed(right, "small", "right")))


def is_held_out(scene: Scene, share: float = 0.04) -> bool:
    """True for the fixed `share` of compositions that training never sees.

    Pairs are held out whatever their order and background; a single object with its colour and place. A centred
    object is never held out: it is what everyone asks for first.
    """
    if scene.is_pair:
        parts = sorted(placed.concept for placed in scene.objects)
    elif scene.objects[0].place == "center":
        return False
    else:
        placed = scene.objects[0]
        parts = [placed.concept, scene.background, PLACES.index(placed.place)]
    digest = hashlib.sha256(",".join(map(str, parts)).encode()).digest()
    return int.from_bytes(digest[:4], "big") < share * 2**32


def random_scene(rng: np.random.Generator, concepts: int, pair_share: float, held_out: bool = False) -> Scene:
    """A scene with every attribute drawn at random, from the training side (or from the held-out side)."""
    while True:
        background = int(rng.integers(len(BACKGROUNDS)))
        if rng.random() < pair_share:
            left, right = rng.choice(concepts, size=2, replace=False)
            scene = pair(int(left), int(right), background)
        else:
            size, place = random_layout(rng)
            scene = single(int(rng.integers(concepts)), background, size, place)
        if is_held_out(scene) == held_out:
            return scene


def random_layout(rng: np.random.Generator) -> tuple[str, str]:
    """Size and place of one object. Big objects fill the picture, so they are always in the centre."""
    size = SIZES[rng.choice(3, p=(0.3, 0.45, 0.25))]
    return size, "center" if size == "big" else PLACES[rng.integers(len(PLACES))]
