"""The wheel is built and used as someone would who has no checkout: its files, its command and its weights."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import sysconfig
import zipfile
from pathlib import Path

import pytest
from PIL import Image

ROOT = Path(__file__).resolve().parent.parent


def build_wheel(source: Path, out: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(out), str(source)]
    return subprocess.run(command, cwd=out, capture_output=True, text=True, check=False)


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory, emoji_suite: Path) -> Path:
    assert emoji_suite.is_dir()
    out = tmp_path_factory.mktemp("wheel")
    result = build_wheel(ROOT, out)
    assert result.returncode == 0, result.stdout + result.stderr
    (built,) = out.glob("diffuscope-*.whl")
    return built


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory, wheel: Path) -> Path:
    """The `bin` folder of an environment with the wheel, which borrows the dependencies but not the checkout."""
    environment = tmp_path_factory.mktemp("elsewhere") / "env"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", environment], check=True)
    python = environment / "bin" / "python"
    pip = [sys.executable, "-m", "pip", "--python", str(python), "install", "--quiet", "--no-index", "--no-deps"]
    subprocess.run([*pip, str(wheel)], check=True, capture_output=True)
    # A folder named in a .pth file is searched, but its own .pth files, the editable install among them, are not read.
    site = subprocess.run(
        [python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))"],
        check=True,
        capture_output=True,
        text=True,
    )
    dependencies = dict.fromkeys([sysconfig.get_path("purelib"), sysconfig.get_path("platlib")])
    (Path(site.stdout.strip()) / "dependencies.pth").write_text("\n".join(dependencies))
    return environment / "bin"


def run_installed(installed: Path, folder: Path, program: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    environment = {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "VIRTUAL_ENV")}
    return subprocess.run(
        [installed / program, *arguments],
        cwd=folder,
        env={**environment, "HOME": str(folder / "home"), "XDG_DATA_HOME": str(folder / "home" / "data")},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )


@pytest.mark.xdist_group("wheel")
def test_it_holds_the_program_the_weights_and_the_licences(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
    wanted = {"webui/cli.py", "webui/i18n/en/app.json", "webui/i18n/th/app.json", "webui/bundled/emoji/suite.json"}
    wanted |= {path.relative_to(ROOT).as_posix() for path in (ROOT / "webui" / "assets").rglob("*") if path.is_file()}
    emoji = ROOT / "models" / "emoji"
    shipped = [path for path in emoji.rglob("*") if path.is_file()]
    assert len(shipped) > 10
    wanted |= {f"webui/bundled/emoji/{path.relative_to(emoji).as_posix()}" for path in shipped}
    extensions = [path.parent for path in (ROOT / "extensions").glob("*/extension.toml")]
    brought = [path for folder in extensions for path in folder.rglob("*") if path.is_file() and path.suffix != ".pyc"]
    assert len(brought) > 10
    wanted |= {f"webui/bundled_extensions/{path.relative_to(ROOT / 'extensions').as_posix()}" for path in brought}
    assert not wanted - names
    assert any(name.endswith(".dist-info/licenses/LICENSE") for name in names)
    assert not [name for name in names if name.startswith(("tests/", "models/", "scripts/"))]


@pytest.mark.xdist_group("wheel")
def test_it_draws_outside_the_checkout_with_its_own_weights(installed: Path, tmp_path: Path) -> None:
    where = run_installed(installed, tmp_path, "python", "-c", "import webui; print(webui.__file__)")
    assert Path(where.stdout.strip()).is_relative_to(installed.parent), where.stderr

    listed = json.loads(run_installed(installed, tmp_path, "diffuscope", "models", "--json").stdout)
    models = [model for model in listed if model["downloaded"]]
    assert {model["task"] for model in models} >= {"txt2img", "clip"}
    for model in models:
        assert Path(model["folder"]).is_relative_to(installed.parent)
        assert model["problem"] is None

    arguments = ("a cat on a blue background", "--seed", "7", "--steps", "2", "--out", "cat.png", "--json")
    drawn = run_installed(installed, tmp_path, "diffuscope", "generate", *arguments)
    assert drawn.returncode == 0, drawn.stderr
    parameters = json.loads(drawn.stdout)["parameters"]
    with Image.open(tmp_path / "cat.png") as picture:
        assert picture.size == (parameters["width"], parameters["height"])


@pytest.mark.xdist_group("wheel")
def test_without_weights_none_is_built(tmp_path: Path) -> None:
    source = tmp_path / "source"
    source.mkdir()
    for name in ("pyproject.toml", "hatch_build.py", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source / name)
    shutil.copytree(ROOT / "webui", source / "webui")
    result = build_wheel(source, tmp_path)
    assert result.returncode != 0
    assert "no trained weights" in result.stdout + result.stderr
    assert not list(tmp_path.glob("*.whl"))
