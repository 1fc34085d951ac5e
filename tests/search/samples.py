"""Rows of the index made from a number alone, so that any process can tell whether one is whole."""

from __future__ import annotations

import numpy as np

from webui.search.rows import PictureRow

WIDTH = 16


def row(number: int, folder: str = "") -> PictureRow:
    """Row `number`: every field follows from it."""
    vector = np.random.default_rng(number).normal(size=WIDTH).astype(np.float32)
    return PictureRow(
        path=f"/pictures/{number:06}.png",
        folder=folder or ("even" if number % 2 == 0 else "odd"),
        content=f"{number:064x}",
        size=number,
        modified_ns=number * 1_000,
        width=100 + number,
        height=200,
        prompt=f"The Cat's {number}",
        look=bytes(192),
        vector=vector / np.linalg.norm(vector),
    )


def rows(first: int, last: int) -> list[PictureRow]:
    return [row(number) for number in range(first, last)]
