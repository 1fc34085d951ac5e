"""t5-base and bart-large with random weights, through the Prompt page's own functions, within 6 GiB."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.fullsize import GIB, measure


@pytest.mark.fullsize
@pytest.mark.xdist_group("fullsize")
@pytest.mark.parametrize(
    ("name", "weights", "tasks", "layers_and_heads"),
    [
        ("t5-base", 222_903_552, {"shorten", "translate"}, [12, 12]),
        ("bart-large", 406_291_456, {"repair", "fill"}, [12, 16]),
    ],
)
def test_it_loads_writes_and_is_looked_into_within_six_gib(
    tmp_path: Path, name: str, weights: int, tasks: set[str], layers_and_heads: list[int]
) -> None:
    answer = measure(name, tmp_path)
    assert answer["loaded_bytes"] == pytest.approx(4 * weights, rel=0.01), "every weight, in float32"
    assert set(answer["wrote"]) == tasks
    assert all(texts for texts in answer["wrote"].values())
    assert answer["attention"][:2] == layers_and_heads
    assert answer["rows"] == pytest.approx([1, 1], abs=1e-4)
    assert answer["peak_gib"] < 6, f"{answer['peak_gib']:.2f} GiB"
    assert 4 * weights < answer["peak_gib"] * GIB
