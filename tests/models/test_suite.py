"""The whole way on tiny networks: train, cache, export, load with the stock classes, draw."""

import json
import shutil
from dataclasses import replace
from pathlib import Path
from types import ModuleType

import pytest
import torch
from diffusers import AutoencoderKL, StableDiffusionPipeline
from PIL import Image
from transformers import (
    AutoImageProcessor,
    AutoTokenizer,
    BartForConditionalGeneration,
    CLIPModel,
    CLIPProcessor,
    CLIPTokenizer,
    PreTrainedModel,
    T5ForConditionalGeneration,
    ViTForImageClassification,
)

from models.recipes import train_bart, train_clip, train_t5, train_unet, train_vae, unet_cache
from models.recipes.checkpoints import load_checkpoint
from models.recipes.concepts import Concept
from models.recipes.evaluate import Measured, background_of, read_measured, write_card
from models.recipes.evaluate_texts import TextFigures
from models.recipes.export import EMOJI_FOLDER, export
from models.recipes.scenes import BACKGROUNDS
from tests.models.tiny import TINY_CLIP, TINY_TEXT, TINY_UNET, TINY_VAE, tiny_run


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
    assert [model["task"] for model in description["models"]] == ["txt2img", "clip", "vit", "t5", "bart"]
    assert all(model["parameters"] > 0 for model in description["models"])
    assert all((suite / model["folder"]).is_dir() for model in description["models"])
    listed = json.loads((suite / "concepts.json").read_text("utf-8"))
    assert len(listed) == len(concepts)
    assert listed[0]["prompt"] == {"en": "a cat", "th": "แมว"}
    assert {file.name for file in (suite / "LICENSES").iterdir()} == {"OFL-1.1.txt", "Unicode-3.0.txt", "README.md"}


def test_the_vit_loads_with_its_labels(suite: Path, concepts: tuple[Concept, ...]) -> None:
    vit = ViTForImageClassification.from_pretrained(suite / "vit", local_files_only=True, dtype=torch.float32)
    processor = AutoImageProcessor.from_pretrained(suite / "vit", local_files_only=True)
    pixels = processor(Image.new("RGB", (200, 150), "white"), return_tensors="pt").pixel_values
    assert pixels.shape == (1, 3, 128, 128)
    assert pixels.max() == 1
    assert vit(pixel_values=pixels).logits.shape == (1, len(concepts))
    assert vit.config.id2label == {number: concept.name("en") for number, concept in enumerate(concepts)}


@pytest.mark.parametrize(
    ("folder", "stock"), [("t5", T5ForConditionalGeneration), ("bart", BartForConditionalGeneration)]
)
def test_text_models_load_and_write(suite: Path, folder: str, stock: type[PreTrainedModel]) -> None:
    model = stock.from_pretrained(suite / folder, local_files_only=True, dtype=torch.float32).eval()
    tokenizer = AutoTokenizer.from_pretrained(suite / folder, local_files_only=True)
    assert len(tokenizer) == model.config.vocab_size
    config = model.generation_config
    assert (config.pad_token_id, config.eos_token_id) == (tokenizer.pad_token_id, tokenizer.eos_token_id)
    written = model.generate(**tokenizer(["แมว", "a small cat"], padding=True, return_tensors="pt"), num_beams=2)
    assert len(tokenizer.batch_decode(written, skip_special_tokens=True)) == 2


def test_a_part_without_a_checkpoint_stays_as_it_was(suite: Path, trained_dir: Path, tmp_path: Path) -> None:
    (tmp_path / "work").mkdir()
    shutil.copy(trained_dir / "t5.pt", tmp_path / "work")
    shutil.copytree(suite, tmp_path / "emoji")
    (tmp_path / "emoji" / "t5" / "model.safetensors").unlink()
    export(tmp_path / "work", tmp_path / "emoji")
    weights = sorted(file.relative_to(suite) for file in suite.rglob("*.safetensors"))
    assert all((tmp_path / "emoji" / file).read_bytes() == (suite / file).read_bytes() for file in weights)
    description = (tmp_path / "emoji" / "suite.json").read_text("utf-8")
    assert description == (suite / "suite.json").read_text("utf-8")


def test_training_starts_from_the_exported_weights(suite: Path, trained_dir: Path, tmp_path: Path) -> None:
    run = replace(tiny_run(tmp_path, steps=0), exported=suite)
    train_vae.train(train_vae.VaeTraining(freeze_encoder=True, shape=TINY_VAE.shape), run)
    unet_cache.build(unet_cache.CacheBuild(tmp_path, shards=1, batch=8, threads=1, exported=suite))
    train_unet.train(TINY_UNET, run)
    for name in ("vae", "unet"):
        begun = load_checkpoint(tmp_path / f"{name}.pt")
        trained = load_checkpoint(trained_dir / f"{name}.pt")["average"]["weights"]
        assert all(torch.equal(begun["model"][key], value.half().float()) for key, value in trained.items())
    exported = AutoencoderKL.from_pretrained(suite / "txt2img" / "vae", local_files_only=True)
    assert load_checkpoint(tmp_path / "vae.pt")["scaling_factor"] == exported.config.scaling_factor


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


@pytest.mark.parametrize(("name", "trainer"), [("t5", train_t5), ("bart", train_bart)])
def test_training_of_texts_goes_on_from_its_checkpoint(
    trained_dir: Path, tmp_path: Path, name: str, trainer: ModuleType
) -> None:
    shutil.copy(trained_dir / f"{name}.pt", tmp_path)
    assert trainer.train(TINY_TEXT, tiny_run(tmp_path, steps=1)).step == 3


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
    assert "BART:" not in card


def test_a_card_has_rows_for_what_was_measured(tmp_path: Path) -> None:
    both = {"en": 0.5, "th": 0.25}
    t5 = TextFigures(exact={"translate": 0.985, "shorten": 1.0, "expand": 0.9})
    bart = TextFigures(exact={"all": 0.8, "shuffled": 0.7}, distinct=0.9, kept=1.0)
    write_card(tmp_path, Measured(zero_shot=both, zero_shot_synonyms=both, drawn=both, vit_top1=0.91, t5=t5, bart=bart))
    card = (tmp_path / "MODEL_CARD.md").read_text("utf-8")
    assert "| T5: Thai to English, exact match | 98.5% |" in card
    assert "| 80.0% (shuffled 70.0%) |" in card
    assert "| ViT: held-out drawings of one object, top-1 | 91.0% |" in card
    assert read_measured(tmp_path / "measured.json").bart == bart


@pytest.mark.parametrize("index", range(len(BACKGROUNDS)))
def test_backgrounds_are_told_apart_by_their_corners(index: int) -> None:
    assert background_of(Image.new("RGB", (128, 128), BACKGROUNDS[index].rgb)) == index


@pytest.mark.skipif(not (EMOJI_FOLDER / "suite.json").is_file(), reason="models/emoji has not been trained here")
@pytest.mark.parametrize("part", ["txt2img/tokenizer", "clip"])
def test_the_shipped_tokenizers_fit_their_models(part: str) -> None:
    config = json.loads((EMOJI_FOLDER / "clip" / "config.json").read_text("utf-8"))
    tokenizer = CLIPTokenizer.from_pretrained(EMOJI_FOLDER / part, local_files_only=True)
    assert len(tokenizer) == config["text_config"]["vocab_size"]
