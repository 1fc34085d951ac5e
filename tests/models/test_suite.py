"""The whole way on tiny networks: train, cache, export, load with the stock classes, draw."""

import json
from pathlib import Path

import pytest
import torch
from diffusers import StableDiffusionPipeline
from PIL import Image
from transformers import CLIPModel, CLIPProcessor, CLIPTokenizer

from models.recipes import train_clip, train_vae
from models.recipes.checkpoints import load_checkpoint
from models.recipes.concepts import Concept
from models.recipes.evaluate import Measured, background_of, write_card
from models.recipes.export import EMOJI_FOLDER, export
from models.recipes.scenes import BACKGROUNDS
from tests.models.tiny import TINY_CLIP, TINY_VAE, tiny_run


@pytest.fixture(scope="module")
def suite(trained_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("suite") / "emoji"
    export(trained_dir, out)
    return out


def test_the_pipeline_loads_and_draws_at_its_default_size(suite: Path) -> None:
    pipeline = StableDiffusionPipeline.from_pretrained(
        suite / "txt2img", local_files_only=True, use_safetensors=True, dtype=torch.float32
    )
    pipeline.set_progress_bar_config(disable=True)
    assert len(pipeline.tokenizer) == pipeline.text_encoder.config.vocab_size
    picture = pipeline("a cat on a blue background", num_inference_steps=2).images[0]
    assert picture.size == (128, 128)
    assert pipeline.scheduler.config.prediction_type == "v_prediction"
    assert 0 < pipeline.vae.config.scaling_factor < 100


def test_clip_loads_and_its_text_tower_is_the_pipelines(suite: Path) -> None:
    clip = CLIPModel.from_pretrained(suite / "clip", local_files_only=True, dtype=torch.float32).eval()
    processor = CLIPProcessor.from_pretrained(suite / "clip", local_files_only=True)
    assert len(processor.tokenizer) == clip.config.text_config.vocab_size
    picture = Image.new("RGB", (200, 150), "blue")
    inputs = processor(text=["a cat", "แมว"], images=picture, return_tensors="pt", padding=True)
    assert inputs.pixel_values.shape == (1, 3, 128, 128)
    assert clip(**inputs).logits_per_image.shape == (1, 2)
    pipeline = StableDiffusionPipeline.from_pretrained(suite / "txt2img", local_files_only=True, dtype=torch.float32)
    ids = inputs.input_ids
    ours = clip.text_model(ids).last_hidden_state
    assert torch.equal(pipeline.text_encoder(ids).last_hidden_state, ours)


def test_the_suite_says_what_is_in_it(suite: Path, concepts: tuple[Concept, ...]) -> None:
    description = json.loads((suite / "suite.json").read_text("utf-8"))
    assert [(m["task"], m["folder"]) for m in description["models"]] == [("txt2img", "txt2img"), ("clip", "clip")]
    assert all((suite / model["folder"]).is_dir() for model in description["models"])
    listed = json.loads((suite / "concepts.json").read_text("utf-8"))
    assert len(listed) == len(concepts)
    assert listed[0]["prompt"] == {"en": "a cat", "th": "แมว"}
    assert {file.name for file in (suite / "LICENSES").iterdir()} == {"OFL-1.1.txt", "Unicode-3.0.txt", "README.md"}


def test_exporting_again_keeps_the_card(suite: Path, trained_dir: Path) -> None:
    (suite / "MODEL_CARD.md").write_text("measured", "utf-8")
    export(trained_dir, suite)
    assert (suite / "MODEL_CARD.md").read_text("utf-8") == "measured"
    assert [file.name for file in suite.parent.iterdir()] == ["emoji"]


def test_export_without_training_says_what_to_run(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="train_clip"):
        export(tmp_path, tmp_path / "emoji")


def test_training_goes_on_from_its_checkpoint(trained_dir: Path, tmp_path: Path) -> None:
    (tmp_path / "clip.pt").write_bytes((trained_dir / "clip.pt").read_bytes())
    progress = train_clip.train(TINY_CLIP, tiny_run(tmp_path, steps=1))
    assert progress.step == 3


def test_freezing_the_encoder_keeps_it(trained_dir: Path, tmp_path: Path) -> None:
    (tmp_path / "vae.pt").write_bytes((trained_dir / "vae.pt").read_bytes())
    config = train_vae.VaeTraining(freeze_encoder=True, shape=TINY_VAE.shape)
    train_vae.train(config, tiny_run(tmp_path, steps=1))
    frozen = load_checkpoint(tmp_path / "vae.pt")["model"]
    train_vae.train(config, tiny_run(tmp_path, steps=2))
    later = load_checkpoint(tmp_path / "vae.pt")["model"]
    same = {name for name in frozen if torch.equal(frozen[name], later[name])}
    assert same >= {name for name in frozen if name.startswith(("encoder", "quant_conv"))}
    assert any(name.startswith("decoder") for name in frozen.keys() - same)


@pytest.mark.parametrize("tower", ["text", "vision"])
def test_a_frozen_tower_does_not_move(trained_dir: Path, tmp_path: Path, tower: str) -> None:
    (tmp_path / "clip.pt").write_bytes((trained_dir / "clip.pt").read_bytes())
    before = load_checkpoint(tmp_path / "clip.pt")["model"]
    config = train_clip.ClipTraining(tower=tower, shape=TINY_CLIP.shape)
    train_clip.train(config, tiny_run(tmp_path, steps=2))
    after = load_checkpoint(tmp_path / "clip.pt")["model"]
    frozen = "vision_model" if tower == "text" else "text_model"
    moved = {name for name in before if not torch.equal(before[name], after[name])}
    assert moved
    assert not any(name.startswith(frozen) for name in moved)


def test_a_card_holds_the_figures(tmp_path: Path) -> None:
    both = {"en": 0.5, "th": 0.25}
    write_card(tmp_path, Measured(concepts=3, zero_shot=both, zero_shot_synonyms=both, drawn=both, worst=["cat"]))
    card = (tmp_path / "MODEL_CARD.md").read_text("utf-8")
    assert "| CLIP: the same, Thai | 25.0% |" in card
    assert "{" not in card


@pytest.mark.parametrize("index", range(len(BACKGROUNDS)))
def test_backgrounds_are_told_apart_by_their_corners(index: int) -> None:
    assert background_of(Image.new("RGB", (128, 128), BACKGROUNDS[index].rgb)) == index


@pytest.mark.skipif(not (EMOJI_FOLDER / "suite.json").is_file(), reason="models/emoji has not been trained here")
@pytest.mark.parametrize("part", ["txt2img/tokenizer", "clip"])
def test_the_shipped_tokenizers_fit_their_models(part: str) -> None:
    config = json.loads((EMOJI_FOLDER / "clip" / "config.json").read_text("utf-8"))
    tokenizer = CLIPTokenizer.from_pretrained(EMOJI_FOLDER / part, local_files_only=True)
    assert len(tokenizer) == config["text_config"]["vocab_size"]
