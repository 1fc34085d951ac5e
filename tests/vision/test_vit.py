from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file
from transformers import ViTForImageClassification, ViTImageProcessorPil

from tests.clip.samples import picture, png
from webui.errors import UserError
from webui.runtime.catalog import Catalog
from webui.runtime.entries import VIT
from webui.runtime.manager import ModelManager
from webui.vision.pictures import PictureFile
from webui.vision.vit import Classifier, VitParts, classification_as_dict, classify


def stock(folder: Path, images: list[Image.Image]) -> np.ndarray:
    """The probabilities by the stock classes alone."""
    model = ViTForImageClassification.from_pretrained(folder, dtype=torch.float32).eval()
    inputs = ViTImageProcessorPil.from_pretrained(folder)(images, return_tensors="pt")
    with torch.no_grad():
        return model(**inputs).logits.softmax(-1).numpy()


def test_the_probabilities_are_the_stock_models(classifier: Classifier, tiny_vit_folder: Path) -> None:
    found = classify(classifier, [png(48, 40, 0), png(40, 64, 1)])
    wanted = stock(tiny_vit_folder, [picture(48, 40, 0), picture(40, 64, 1)])
    for ours, theirs in zip(found.pictures, wanted, strict=True):
        np.testing.assert_allclose(ours.probabilities, theirs, atol=1e-6)
        assert ours.probabilities.sum() == pytest.approx(1)
    (best, probability), *_ = found.pictures[0].top(3)
    assert (best, probability) == (int(wanted[0].argmax()), pytest.approx(float(wanted[0].max()), abs=1e-6))


def test_what_cannot_be_read_is_named_and_the_rest_goes_on(classifier: Classifier) -> None:
    found = classify(classifier, [PictureFile("broken", b"x"), png()])
    assert [refused.name for refused in found.refused] == ["broken"]
    assert [one.source for one in found.pictures] == [1]
    answer = classification_as_dict(found, 2)
    assert [label["label"] in ("cat", "dog", "car") for label in answer["pictures"][0]["labels"]] == [True, True]


def test_a_recipe_for_another_size_is_refused(classifier: Classifier) -> None:
    other = ViTImageProcessorPil(size={"height": 48, "width": 48})
    with pytest.raises(UserError, match=r"error\.vit_preprocessing"):
        classify(Classifier(VitParts(classifier.model, other), "tiny"), [png()])


def test_a_folder_in_the_layout_of_google_is_found_and_loaded(tiny_vit_folder: Path, tmp_path: Path) -> None:
    """Its weights have the names of transformers 4, its size is one number, its processor is called by its old name."""
    folder = tmp_path / "google" / "vit-base"
    folder.mkdir(parents=True)
    (folder / "config.json").write_text((tiny_vit_folder / "config.json").read_text("utf-8"), encoding="utf-8")
    processor = '{"do_normalize": true, "do_resize": true, "image_mean": [0.5, 0.5, 0.5], "image_std": [0.5, 0.5, 0.5]'
    (folder / "preprocessor_config.json").write_text(processor + ', "size": 32}', encoding="utf-8")
    weights = load_file(tiny_vit_folder / "model.safetensors")
    save_file(
        {old_name(name): tensor for name, tensor in weights.items()}, folder / "model.safetensors", {"format": "pt"}
    )
    catalog = Catalog(tmp_path, tmp_path / "none")
    entry = catalog.find("google/vit-base", VIT)
    manager = ModelManager(catalog.roots)
    with manager.use(entry.key("float32")) as vit:
        found = classify(Classifier(vit, entry.id), [png(48, 40, 0)])
    manager.close()
    np.testing.assert_allclose(
        found.pictures[0].probabilities, stock(tiny_vit_folder, [picture(48, 40, 0)])[0], atol=1e-6
    )


def old_name(name: str) -> str:
    """The name that transformers 4 gave a weight."""
    for new, old in (
        ("vit.layers.", "vit.encoder.layer."),
        ("attention.q_proj", "attention.attention.query"),
        ("attention.k_proj", "attention.attention.key"),
        ("attention.v_proj", "attention.attention.value"),
        ("attention.o_proj", "attention.output.dense"),
        ("mlp.fc1", "intermediate.dense"),
        ("mlp.fc2", "output.dense"),
    ):
        name = name.replace(new, old)
    return name


def test_a_vit_without_a_classifier_is_listed_with_its_problem(tiny_vit_folder: Path, tmp_path: Path) -> None:
    folder = tmp_path / "features"
    folder.mkdir()
    config = (tiny_vit_folder / "config.json").read_text("utf-8").replace("ViTForImageClassification", "ViTModel")
    (folder / "config.json").write_text(config, encoding="utf-8")
    (entry,) = Catalog(tmp_path, tmp_path / "none").entries(VIT)
    assert entry.problem is not None
    assert entry.problem.key == "error.model_not_supported"
