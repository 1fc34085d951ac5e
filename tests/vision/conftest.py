"""A Vision Transformer of a few thousand random weights, real in everything but training."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from transformers import ViTForImageClassification, ViTImageProcessorPil

from tests.tiny import save_tiny_vit
from webui.vision.vit import Classifier, VitParts


@pytest.fixture(scope="session")
def tiny_vit_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("vit") / "tiny-vit"
    save_tiny_vit(folder)
    return folder


@pytest.fixture
def classifier(tiny_vit_folder: Path) -> Classifier:
    model = ViTForImageClassification.from_pretrained(tiny_vit_folder, dtype=torch.float32).eval()
    return Classifier(VitParts(model, ViTImageProcessorPil.from_pretrained(tiny_vit_folder)), "tiny")
