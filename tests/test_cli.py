"""The command `diffuscope`: in a process of its own, as a shell starts it, where the process matters; else called.

Starting Python and importing a model library takes longer than most of what is asked here.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
from PIL import Image

from tests.tiny import TINY_SIDE
from webui.cli import choose_language, run
from webui.store.infotext import read_infotext

DIFFUSCOPE = (sys.executable, "-m", "webui")
ROOT = Path(__file__).resolve().parent.parent


class Shell:
    """Runs `diffuscope` with a data folder of its own that holds one tiny model."""

    def __init__(
        self, data_dir: Path, model: Path, capture: pytest.CaptureFixture[str], patch: pytest.MonkeyPatch
    ) -> None:
        self._capture = capture
        self._patch = patch
        self.data_dir = data_dir
        self.working_dir = data_dir / "here"
        self.working_dir.mkdir()
        shutil.copytree(model, data_dir / "models" / "tiny")
        self.environment = {**os.environ, "DIFFUSCOPE_DATA_DIR": str(data_dir), "PYTHONPATH": str(ROOT)}

    def run(self, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [*DIFFUSCOPE, *arguments],
            cwd=self.working_dir,
            env={**self.environment, **environment},
            capture_output=True,
            text=True,
            timeout=300,
            check=False,
        )

    def call(self, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
        """As `run`, in this process."""
        with self._patch.context() as patch:
            for name, value in {"DIFFUSCOPE_DATA_DIR": str(self.data_dir), **environment}.items():
                patch.setenv(name, value)
            patch.chdir(self.working_dir)
            self._capture.readouterr()
            code = run(arguments)
        return subprocess.CompletedProcess(arguments, code, *self._capture.readouterr())

    def start(self, *arguments: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [*DIFFUSCOPE, *arguments],
            cwd=self.working_dir,
            env=self.environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def written(self) -> list[str]:
        """All files and folders that a command has left."""
        made = (*self.working_dir.rglob("*"), *(self.data_dir / "outputs").rglob("*"))
        return sorted(path.name for path in made)


@pytest.fixture
def shell(
    tmp_path: Path, tiny_pipeline_folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> Shell:
    return Shell(tmp_path, tiny_pipeline_folder, capsys, monkeypatch)


def assert_refused(result: subprocess.CompletedProcess[str], *words: str) -> None:
    assert result.returncode == 2, result.stderr
    assert result.stdout == ""
    assert len(result.stderr.splitlines()) == 1, result.stderr
    for word in words:
        assert word in result.stderr


@pytest.mark.parametrize("command", [(), ("serve",), ("generate",), ("models",)])
def test_help_tells_the_exit_codes(shell: Shell, command: Sequence[str]) -> None:
    result = shell.run(*command, "--help")
    assert result.returncode == 0
    assert "130" in result.stdout
    assert "--data-dir" in result.stdout


def test_help_speaks_the_language_of_the_terminal(shell: Shell) -> None:
    assert "พอร์ต" in shell.call("serve", "--help", LC_ALL="th_TH.UTF-8").stdout
    assert "พอร์ต" in shell.call("--language", "th", "serve", "--help").stdout
    assert "พอร์ต" in shell.call("serve", "--language", "th", "--help").stdout


def test_an_unknown_language_is_refused(shell: Shell) -> None:
    assert_refused(shell.call("models", "--language", "de"), "language", "--language")


def test_no_command_shows_the_help(shell: Shell) -> None:
    assert "generate" in shell.call().stdout


def test_version(shell: Shell) -> None:
    assert shell.call("--version").stdout.startswith("diffuscope ")


@pytest.mark.parametrize(
    ("arguments", "word"),
    [
        (("--steps", "0"), "0"),
        (("--steps", "10000"), "10000"),
        (("--steps", "many"), "--steps"),
        (("--seed", "4294967296"), "4294967296"),
        (("--seed", "-2"), "-2"),
        (("--width", "17"), "17"),
        (("--height", "100000"), "100000"),
        (("--width", "2048", "--height", "2048"), "2048"),
        (("--cfg", "nan"), "CFG"),
        (("--batch-size", "99"), "99"),
        (("--sampler", "nonsense"), "nonsense"),
        (("--model", "nothing"), "nothing"),
        (("--out", "picture.jpg"), ".png"),
        (("--out", "nowhere/picture.png"), "nowhere"),
        (("--unknown",), "--unknown"),
        (("--config", "missing.toml"), "missing.toml"),
    ],
)
def test_a_bad_flag_is_one_line_and_leaves_nothing(shell: Shell, arguments: tuple[str, ...], word: str) -> None:
    model = () if "--model" in arguments else ("--model", "tiny")
    assert_refused(shell.call("generate", "a cat", *model, *arguments), word)
    assert shell.written() == []


@pytest.mark.parametrize("prompt", ["word " * 10_000, "a\x07cat", "a\x1b[31mcat"])
def test_a_bad_prompt_is_one_line_and_leaves_nothing(shell: Shell, prompt: str) -> None:
    result = shell.call("generate", prompt, "--model", "tiny", "--out", "cat.png")
    assert_refused(result)
    assert "\x1b" not in result.stderr
    assert shell.written() == []


def test_refusals_speak_thai(shell: Shell) -> None:
    assert_refused(shell.call("generate", "แมว", "--steps", "0", LC_ALL="th_TH.UTF-8"), "จำนวนสเต็ป")


@pytest.mark.parametrize(
    ("part", "damage"),
    [
        ("unet/diffusion_pytorch_model.safetensors", "missing"),
        ("unet/diffusion_pytorch_model.safetensors", "cut short"),
        ("text_encoder/model.safetensors", "cut short"),
        ("vae/config.json", "cut short"),
        ("tokenizer", "missing"),
    ],
)
def test_a_damaged_model_is_one_line_and_leaves_nothing(shell: Shell, part: str, damage: str) -> None:
    path = shell.data_dir / "models" / "tiny" / part
    if path.is_dir():
        shutil.rmtree(path)
    elif damage == "missing":
        path.unlink()
    else:
        path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    assert_refused(shell.call("generate", "a cat", "--model", "tiny", "--out", "cat.png"))
    assert shell.written() == []


def test_generate_writes_exactly_where_it_is_told(shell: Shell) -> None:
    result = shell.run(
        "generate", "แมว", "--model", "tiny", "--seed", "7", "--steps", "2", "--out", "cat.png", "--json"
    )
    assert (result.returncode, result.stderr) == (0, "")
    answer = json.loads(result.stdout)
    assert answer["pictures"] == [{"path": str(shell.working_dir / "cat.png"), "seed": 7}]
    wanted = {"prompt": "แมว", "seed": 7, "steps": 2, "width": TINY_SIDE, "height": TINY_SIDE}
    assert answer["parameters"].items() >= wanted.items()
    assert answer["seconds"] > 0
    assert shell.written() == ["cat.png"]
    with Image.open(shell.working_dir / "cat.png") as picture:
        assert picture.size == (TINY_SIDE, TINY_SIDE)
    assert "Seed: 7" in read_infotext(shell.working_dir / "cat.png")


def test_generate_without_out_adds_to_the_outputs_folder_and_prints_the_paths(shell: Shell) -> None:
    result = shell.call("generate", "a cat", "--model", "tiny", "--steps", "1", "--batch-count", "2", "--seed", "5")
    assert result.returncode == 0, result.stderr
    paths = [Path(line) for line in result.stdout.splitlines()]
    assert len(paths) == 2
    assert all(path.is_file() and path.is_relative_to(shell.data_dir / "outputs") for path in paths)


def test_several_pictures_and_folders_are_numbered(shell: Shell) -> None:
    common = ("generate", "a cat", "--model", "tiny", "--steps", "1", "--seed", "5", "--batch-size", "2")
    assert shell.call(*common, "--out", "cat.png").returncode == 0
    assert shell.written() == ["cat-1.png", "cat-2.png"]
    result = shell.call(*common, "--out", "pictures")
    assert len(list((shell.working_dir / "pictures").rglob("*.png"))) == 2, result.stderr


@pytest.mark.parametrize("stop", [signal.SIGINT, signal.SIGTERM])
def test_a_stop_keeps_what_is_finished_and_nothing_half_made(shell: Shell, stop: signal.Signals) -> None:
    """Batch after batch of slow steps; once the first picture is there, the process is told to stop."""
    many = ("--steps", "150", "--batch-size", "2", "--batch-count", "16", "--out", "cat.png")
    process = shell.start("generate", "a cat", "--model", "tiny", *many)
    hidden = None
    while hidden is None:
        assert process.poll() is None, process.communicate()
        time.sleep(0.02)
        hidden = next(shell.working_dir.glob(".diffuscope-*/*/*.png"), None)
    process.send_signal(stop)
    stdout, stderr = process.communicate(timeout=120)
    assert process.returncode == 130, stderr
    kept = stdout.splitlines()
    assert 2 <= len(kept) < 32
    assert shell.written() == sorted(Path(line).name for line in kept)


def test_models_lists_ids_folders_and_licences(shell: Shell) -> None:
    model = shell.data_dir / "models" / "tiny"
    (model / "README.md").write_text("---\nlicense: apache-2.0\n---\n# Tiny\n", encoding="utf-8")
    listing = {entry["id"]: entry for entry in json.loads(shell.call("models", "--json").stdout)}
    assert listing["tiny"]["task"] == "txt2img"
    assert listing["tiny"]["folder"] == str(model)
    assert listing["tiny"]["licences"] == ["apache-2.0"]
    assert listing["tiny"]["size_bytes"] > 1_000_000
    text = shell.call("models").stdout
    assert "apache-2.0" in text
    assert str(model) in text


def test_models_shows_the_licences_of_the_font_and_the_annotations(shell: Shell, emoji_suite: Path) -> None:
    entries = [entry for entry in json.loads(shell.call("models", "--json").stdout) if entry["bundled"]]
    assert {entry["task"] for entry in entries} >= {"txt2img", "clip"}
    for entry in entries:
        assert entry["problem"] is None
        licences = " ".join(entry["licences"])
        assert "OFL-1.1" in licences
        assert "Unicode" in licences


def test_the_port_is_taken(shell: Shell) -> None:
    with socket.socket() as holder:
        holder.bind(("127.0.0.1", 0))
        holder.listen()
        port = str(holder.getsockname()[1])
        assert_refused(shell.call("serve", "--port", port), port)


def test_serve_answers_without_loading_a_model_library_and_stops_cleanly(
    shell: Shell, free_port: Callable[[], int]
) -> None:
    """The served process itself says what it has imported, through a module that Python runs at start-up."""
    report = shell.data_dir / "modules.txt"
    (shell.working_dir / "sitecustomize.py").write_text(
        f"import atexit, sys\natexit.register(lambda: open({str(report)!r}, 'w').write(' '.join(sys.modules)))\n",
        encoding="utf-8",
    )
    shell.environment["PYTHONPATH"] = f"{ROOT}{os.pathsep}{shell.working_dir}"
    port = free_port()
    process = shell.start("serve", "--port", str(port))
    try:
        assert "gradio" in fetch(f"http://127.0.0.1:{port}/", process)
        assert process.stdout is not None
        assert f"127.0.0.1:{port}" in process.stdout.readline()
    finally:
        process.send_signal(signal.SIGINT)
        stdout, stderr = process.communicate(timeout=60)
    assert process.returncode == 0, stderr
    assert "Stopped." in stdout
    assert "Traceback" not in stderr
    loaded = set(report.read_text(encoding="utf-8").split())
    assert "gradio" in loaded
    assert not loaded & {"torch", "diffusers", "transformers", "accelerate"}


def fetch(url: str, process: subprocess.Popen[str]) -> str:
    while True:
        assert process.poll() is None, process.communicate()
        try:
            with urllib.request.urlopen(url) as answer:  # noqa: S310
                return str(answer.read().decode("utf-8"))
        except OSError:
            time.sleep(0.1)


@pytest.mark.parametrize("arguments", [("--help",), ("models", "--json"), ("generate", "a", "--steps", "0")])
def test_quick_commands_import_neither_torch_nor_gradio(shell: Shell, arguments: Sequence[str]) -> None:
    code = f"import sys; from webui.cli import run; run({list(arguments)!r}); print('LOADED', *sys.modules)"
    result = subprocess.run(
        [sys.executable, "-c", code], env=shell.environment, cwd=ROOT, capture_output=True, text=True, check=True
    )
    loaded = set(result.stdout.rpartition("LOADED")[2].split())
    assert "typer" in loaded
    assert not loaded & {"torch", "gradio", "diffusers", "transformers", "accelerate"}


@pytest.mark.parametrize(
    ("arguments", "environment", "language"),
    [
        ([], {}, "en"),
        ([], {"LANG": "th_TH.UTF-8"}, "th"),
        ([], {"LANG": "th_TH.UTF-8", "LC_ALL": "C.UTF-8"}, "en"),
        ([], {"LANG": "de_DE"}, "en"),
        ([], {"LANG": "en_US", "DIFFUSCOPE_LANGUAGE": "th"}, "th"),
        (["--language", "en"], {"LANG": "th_TH"}, "en"),
        (["--language=th"], {}, "th"),
        (["--language"], {}, "en"),
    ],
)
def test_the_language_is_the_readers(arguments: list[str], environment: dict[str, str], language: str) -> None:
    assert choose_language(arguments, environment) == language
