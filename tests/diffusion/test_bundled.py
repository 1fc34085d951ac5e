from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from webui.diffusion.bundled import bundled_traces, find_bundled_trace
from webui.diffusion.trace import open_trace
from webui.errors import UserError


def test_the_shipped_traces_open_and_fit_the_shipped_model(emoji_suite: Path) -> None:
    traces = bundled_traces()
    assert list(traces) == ["cat-and-car", "cat-blue", "cat-blue-thai"]
    for path in traces.values():
        trace = open_trace(path)
        assert path.stat().st_size < 2_000_000
        assert trace.picture is not None
        assert trace.picture.std() > 20, "there is something in the picture"
        assert trace.head_maps
        assert trace.header.r_squared > 0.5
        assert np.abs(sum(trace.mean_maps[0].astype(np.float32)) - 1).max() < 0.01


def test_thai_words_are_found_though_there_are_no_spaces() -> None:
    header = open_trace(find_bundled_trace("cat-blue-thai")).header
    assert header.words == ("แมว", "พื้นหลัง", "สี", "น้ำเงิน")


@pytest.mark.parametrize("name", ["../clip/model", "/etc/passwd", "", "cat-blue.safetensors"])
def test_only_names_are_names(name: str) -> None:
    with pytest.raises(UserError) as caught:
        find_bundled_trace(name)
    assert caught.value.key == "error.trace_unknown"
