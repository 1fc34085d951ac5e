from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from webui.errors import UserError
from webui.runtime.catalog import Catalog
from webui.runtime.entries import CLIP, TXT2IMG, ModelKey


@pytest.fixture
def suite_dir(tmp_path: Path, models_dir: Path) -> Path:
    """A bundled folder with a suite "emoji" of one pipeline and one CLIP."""
    suite = tmp_path / "bundled" / "emoji"
    shutil.copytree(models_dir / "tiny", suite / "ldm")
    shutil.copytree(models_dir / "clip", suite / "clip")
    content = {
        "name": "Emoji",
        "version": "1",
        "languages": ["en", "th"],
        "licences": ["Font: OFL-1.1", "Annotations: Unicode-3.0"],
        "models": [
            {"id": "emoji", "task": "txt2img", "folder": "ldm", "parameters": 1153403},
            {
                "id": "emoji",
                "task": "clip",
                "folder": "clip",
                "title": "Its CLIP",
                "titles": {"th": "CLIP ของชุด"},
            },
            {"id": "emoji", "task": "a-task-to-come", "folder": "t5"},
        ],
    }
    (suite / "suite.json").write_text(json.dumps(content))
    return tmp_path / "bundled"


def test_the_bundled_suite_comes_first_with_its_licences(models_dir: Path, suite_dir: Path) -> None:
    catalog = Catalog(models_dir, suite_dir)
    emoji, tiny = catalog.entries(TXT2IMG)
    assert (emoji.id, emoji.bundled, emoji.title, emoji.languages) == ("emoji", True, "Emoji", ("en", "th"))
    assert emoji.licence == "Font: OFL-1.1\nAnnotations: Unicode-3.0"
    assert emoji.parameters == 1153403
    assert (tiny.id, tiny.bundled, tiny.parameters, tiny.languages) == ("tiny", False, None, ())
    assert [entry.id for entry in catalog.entries(CLIP)] == ["emoji", "clip"]
    assert [entry.title_in("en") for entry in catalog.entries(CLIP)] == ["Its CLIP", "clip"]
    assert [entry.title_in("th") for entry in catalog.entries(CLIP)] == ["CLIP ของชุด", "clip"]
    assert len(catalog.entries()) == 4


def test_sizes_come_from_the_models_own_configuration(models_dir: Path, suite_dir: Path) -> None:
    tiny = Catalog(models_dir, suite_dir).find("tiny", TXT2IMG)
    assert (tiny.default_width, tiny.default_height, tiny.size_multiple) == (16, 16, 2)
    assert tiny.size_bytes == sum(file.stat().st_size for file in (models_dir / "tiny").rglob("*") if file.is_file())


def test_one_folder_may_hold_the_suite_and_the_users_models(models_dir: Path, suite_dir: Path) -> None:
    shutil.copytree(suite_dir / "emoji", models_dir / "emoji")
    entries = Catalog(models_dir, models_dir).entries(TXT2IMG)
    assert [(entry.id, entry.bundled) for entry in entries] == [("emoji", True), ("tiny", False)]


def test_models_may_lie_one_folder_deeper(models_dir: Path, suite_dir: Path) -> None:
    (models_dir / "maker").mkdir()
    (models_dir / "tiny").rename(models_dir / "maker" / "tiny-v1")
    assert Catalog(models_dir, suite_dir).find("maker/tiny-v1", TXT2IMG).title == "maker/tiny-v1"


def test_two_models_of_one_name_get_two_ids(models_dir: Path, suite_dir: Path) -> None:
    (models_dir / "tiny").rename(models_dir / "emoji")
    assert [entry.id for entry in Catalog(models_dir, suite_dir).entries(TXT2IMG)] == ["emoji", "emoji (2)"]


def test_a_model_that_appears_or_changes_or_goes_is_noticed(models_dir: Path, suite_dir: Path) -> None:
    catalog = Catalog(models_dir, suite_dir)
    shutil.copytree(models_dir / "tiny", models_dir / "second")
    before = catalog.find("second", TXT2IMG)
    assert catalog.find("second", TXT2IMG) is before
    os.utime(models_dir / "second" / "unet" / "config.json", ns=(0, 0))
    after = catalog.find("second", TXT2IMG)
    assert before.key() != after.key()
    shutil.rmtree(models_dir / "second")
    with pytest.raises(UserError, match="unknown_model"):
        catalog.find("second", TXT2IMG)


def test_a_broken_model_is_listed_with_its_problem_and_cannot_be_used(models_dir: Path, suite_dir: Path) -> None:
    file = models_dir / "tiny" / "unet" / "diffusion_pytorch_model.safetensors"
    file.write_bytes(file.read_bytes()[:1000])
    catalog = Catalog(models_dir, suite_dir)
    broken = catalog.entries(TXT2IMG)[1]
    assert broken.problem is not None
    assert broken.problem.values["file"] == str(file)
    with pytest.raises(UserError, match="model_file_broken"):
        broken.key()
    with pytest.raises(UserError, match="model_file_broken"):
        catalog.find("tiny", TXT2IMG)


@pytest.mark.parametrize("change", [{"sample_size": None}, {"sample_size": [8]}, {"sample_size": "x"}])
def test_a_unet_without_a_size_is_a_problem(models_dir: Path, suite_dir: Path, change: dict[str, object]) -> None:
    file = models_dir / "tiny" / "unet" / "config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | change))
    with pytest.raises(UserError, match="model_file_broken"):
        Catalog(models_dir, suite_dir).find("tiny", TXT2IMG)


@pytest.mark.parametrize("text", ["{", "{}", '{"models": [3]}', '{"models": [{"id": "x"}]}'])
def test_a_broken_suite_is_listed_with_its_problem(models_dir: Path, suite_dir: Path, text: str) -> None:
    (suite_dir / "emoji" / "suite.json").write_text(text)
    broken = Catalog(models_dir, suite_dir).entries()[0]
    assert broken.problem is not None
    assert broken.problem.values["file"].endswith("suite.json")


def test_a_suite_cannot_point_out_of_its_folder(models_dir: Path, suite_dir: Path, tmp_path: Path) -> None:
    shutil.copytree(models_dir / "tiny", tmp_path / "elsewhere")
    suite = {"models": [{"id": "x", "task": "txt2img", "folder": "../../elsewhere"}]}
    (suite_dir / "emoji" / "suite.json").write_text(json.dumps(suite))
    with pytest.raises(UserError, match="model_path_outside"):
        Catalog(models_dir, suite_dir).find("x", TXT2IMG)


@pytest.mark.parametrize("model", ["../tiny", "/etc", "tiny/../tiny", "", "tiny\x00"])
def test_an_id_is_looked_up_never_opened(models_dir: Path, suite_dir: Path, model: str) -> None:
    with pytest.raises(UserError) as caught:
        Catalog(models_dir, suite_dir).find(model, TXT2IMG)
    assert caught.value.key == "error.unknown_model"
    assert caught.value.values["known"] == "emoji, tiny"


def test_no_models_at_all_says_where_to_put_one(tmp_path: Path) -> None:
    catalog = Catalog(tmp_path / "models", tmp_path / "bundled")
    assert catalog.entries() == ()
    with pytest.raises(UserError, match="no_models"):
        catalog.find("emoji", TXT2IMG)


def test_folders_that_hold_no_model_are_passed_over(models_dir: Path, suite_dir: Path) -> None:
    (models_dir / "recipes").mkdir()
    (models_dir / ".hidden").mkdir()
    (models_dir / "README.md").write_text("models go here")
    (models_dir / "bert").mkdir()
    (models_dir / "bert" / "config.json").write_text('{"model_type": "bert"}')
    assert len(Catalog(models_dir, suite_dir).entries()) == 4


def test_the_licence_of_a_users_model_is_read_from_its_card(models_dir: Path, suite_dir: Path) -> None:
    card = "---\ntags:\n- x\nlicense: creativeml-openrail-m\n---\nlicense: not this\n"
    (models_dir / "tiny" / "README.md").write_text(card)
    assert Catalog(models_dir, suite_dir).find("tiny", TXT2IMG).licence == "creativeml-openrail-m"


def test_a_key_names_the_model_and_its_revision(models_dir: Path, suite_dir: Path) -> None:
    entry = Catalog(models_dir, suite_dir).find("tiny", TXT2IMG)
    assert entry.key() == ModelKey("txt2img", str((models_dir / "tiny").resolve()), entry.revision, "auto")
    assert entry.key("float16").dtype == "float16"


def test_listing_models_imports_no_model_library(models_dir: Path, suite_dir: Path) -> None:
    code = (
        "import sys; from pathlib import Path; from webui.runtime.catalog import Catalog; "
        "from webui.runtime.manager import ModelManager; "
        "catalog = Catalog(Path(sys.argv[1]), Path(sys.argv[2])); assert len(catalog.entries()) == 4; "
        "manager = ModelManager(catalog.roots); manager.status(); manager.memory_status(); manager.close(); "
        "print(*sorted({'torch', 'diffusers', 'transformers', 'accelerate', 'gradio'} & sys.modules.keys()))"
    )
    command = [sys.executable, "-c", code, str(models_dir), str(suite_dir)]
    assert subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip() == ""
