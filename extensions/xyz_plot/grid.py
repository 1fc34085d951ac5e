"""Every combination of the axes' values, drawn one after the other; what is drawn stays when it is stopped."""

from __future__ import annotations

import base64
import io
import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from PIL import Image

from webui.extensions.api import ExtensionAPI, GenerateRequest, JobContext

from .axes import Axis, AxisError

THUMBNAIL = 192


@dataclass(frozen=True, slots=True)
class Cell:
    """One picture, at the places `at` of the axes (x, y, z). `thumbnail` is a data URL."""

    at: tuple[int, ...]
    path: Path
    infotext: str
    thumbnail: str


@dataclass(frozen=True, slots=True)
class Grid:
    """The axes (x, y, and perhaps z) and the cells that are drawn so far."""

    axes: tuple[Axis, ...]
    cells: tuple[Cell, ...] = ()

    @property
    def wanted(self) -> int:
        """How many cells there will be."""
        total = 1
        for axis in self.axes:
            total *= len(axis.values)
        return total

    def places(self) -> list[tuple[int, ...]]:
        """All cells in the order in which they are drawn: x fastest."""
        backwards = itertools.product(*(range(len(axis.values)) for axis in reversed(self.axes)))
        return [place[::-1] for place in backwards]


def plan(api: ExtensionAPI, base: GenerateRequest, grid: Grid) -> list[GenerateRequest]:
    """One checked request a cell; without a seed of its own all cells get the same. Raises UserError."""
    limits = api.limits
    most = limits.max_batch_size * limits.max_batch_count
    if grid.wanted > most:
        raise api.error("too_many_cells", wanted=grid.wanted, limit=most)
    base = replace(base, seed=api.check(base).seed)
    requests = []
    for at in grid.places():
        request = base
        try:
            for axis, place in zip(grid.axes, at, strict=True):
                request = axis.put(request, place)
        except AxisError as error:
            raise api.error(error.key, **error.values) from error
        requests.append(api.check(request))
    return requests


def draw(
    api: ExtensionAPI,
    requests: Sequence[GenerateRequest],
    grid: Grid,
    context: JobContext,
    on_cell: Callable[[Grid], None],
) -> Grid:
    """In a job: draw the cells; `on_cell` hears of the grid after each. Stopped, it returns what is drawn."""
    for part, (at, request) in enumerate(zip(grid.places(), requests, strict=True)):
        drawn = api.draw(request, context, part, len(requests))
        for picture in drawn.pictures:
            cell = Cell(at, picture.path, picture.infotext, _thumbnail(picture.path))
            grid = replace(grid, cells=(*grid.cells, cell))
            on_cell(grid)
        if drawn.stopped:
            break
    return grid


def _thumbnail(path: Path) -> str:
    with Image.open(path) as image:
        small = image.convert("RGB")
    small.thumbnail((THUMBNAIL, THUMBNAIL))
    buffer = io.BytesIO()
    small.save(buffer, "JPEG", quality=88)
    return "data:image/jpeg;base64," + base64.b64encode(buffer.getvalue()).decode()


def full_picture(cell: Cell) -> str:
    """The whole PNG as a data URL."""
    return "data:image/png;base64," + base64.b64encode(cell.path.read_bytes()).decode()
