"""The configuration of google/vit-base-patch16-224 with random weights, through the page's own functions."""

from __future__ import annotations

import json
import threading
from pathlib import Path

import pytest

from tests.clip.samples import png
from webui.runtime.fullsize import full_size_models
from webui.runtime.jobs import JobContext
from webui.runtime.random_weights import write_full_size
from webui.settings import load_settings
from webui.studio import open_studio
from webui.tasks.vision import classify_pictures, read_attention, see_picture, work_out_row
from webui.vision.request import AttentionRequest, ClassifyRequest, SeeRequest

LABELS = 1000


@pytest.mark.fullsize
@pytest.mark.xdist_group("fullsize")
def test_vit_base_loads_and_goes_through_the_pages_functions(tmp_path: Path) -> None:
    folder = tmp_path / "models" / "google" / "vit-base-patch16-224"
    write_full_size(full_size_models()["vit-b16"], folder)
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    names = {index: f"label {index}, synonym {index}" for index in range(LABELS)}
    (folder / "config.json").write_text(json.dumps({**config, "id2label": names}), encoding="utf-8")
    context = JobContext("cpu", threading.Event(), lambda event, kept: None)
    studio = open_studio(load_settings(models_dir=tmp_path / "models", data_dir=tmp_path))
    try:
        name = "google/vit-base-patch16-224"
        found = classify_pictures(studio, ClassifyRequest((png(300, 200),), model=name), context)
        seen = see_picture(studio, SeeRequest(png(300, 200), name), context)
        row = read_attention(studio, AttentionRequest(png(300, 200), 0, 0, 100, name), context)
        worked = work_out_row(studio, AttentionRequest(png(300, 200), 11, 11, 100, name), context)
    finally:
        studio.close()
    assert (seen.grid.columns, seen.grid.count, seen.embedding_width) == (14, 196, 768)
    assert seen.rows.weights.shape == (12, 12, 1, 197), "of a large model only [CLS]'s rows are kept"
    assert row.weights.sum(-1) == pytest.approx(1, abs=1e-4)
    assert seen.rollout.sum(-1) == pytest.approx(1)
    assert worked.passed
    assert found.labels.names[0] == "label 0, synonym 0"
    assert found.pictures[0].probabilities.shape == (LABELS,)
