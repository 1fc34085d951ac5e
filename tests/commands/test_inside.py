"""`diffuscope trace` and `diffuscope inspect` as somebody types them."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from webui.cli import run
from webui.diffusion.bundled import find_bundled_trace
from webui.diffusion.trace import open_trace
from webui.store.infotext import read_infotext


@dataclass(frozen=True)
class Answer:
    """What a command said, and the code that it ended with."""

    returncode: int
    stdout: str
    stderr: str


Command = Callable[..., Answer]


@pytest.fixture
def command(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Command:
    """Runs `diffuscope` in a folder of its own."""
    monkeypatch.setenv("DIFFUSCOPE_DATA_DIR", str(tmp_path / "data"))
    monkeypatch.chdir(tmp_path)

    def call(*arguments: str) -> Answer:
        return Answer(run(arguments), *capsys.readouterr())

    return call


def test_a_run_is_recorded_and_inspected(command: Command, tmp_path: Path) -> None:
    asked = ("trace", "a cat", "--seed", "7", "--steps", "2", "--out", "run.safetensors", "--image", "run.png")
    done = command(*asked)
    assert (done.returncode, done.stdout) == (0, "run.safetensors\nrun.png\n"), done.stderr
    trace = open_trace(tmp_path / "run.safetensors")
    with Image.open(tmp_path / "run.png") as picture:
        assert np.array_equal(np.asarray(picture), trace.picture)  # type: ignore[arg-type]
    assert "Seed: 7" in read_infotext(tmp_path / "run.png")
    told = json.loads(command("inspect", "run.safetensors", "--json").stdout)
    assert told["seed"] == 7
    assert [entry["word"] for entry in told["word_peaks"]] == ["a", "cat"]
    assert len(told["guidance"]["ratio"]) == len(told["steps"]) == 2


def test_the_report_is_for_people_and_in_their_language(command: Command) -> None:
    bundled = str(find_bundled_trace("cat-blue-thai"))
    english, thai = (command("--language", language, "inspect", bundled) for language in ("en", "th"))
    assert english.returncode == thai.returncode == 0
    assert "12 of 12 calls" in english.stdout
    assert "128 x 128 พิกเซล" in thai.stdout
    assert "แมว: " in english.stdout


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (("trace", "a cat", "--out", "run.bin"), "Let run.bin end in .safetensors."),
        (("trace", "a cat", "--out", "run.safetensors", "--image", "run.jpg"), ".png"),
        (("trace", "a cat", "--out", "gone/run.safetensors"), "gone"),
        (("inspect", "missing.safetensors"), "missing.safetensors is missing or cannot be read."),
    ],
)
def test_mistakes_are_told_in_one_line(
    command: Command, arguments: tuple[str, ...], sentence: str, tmp_path: Path
) -> None:
    done = command(*arguments)
    assert done.returncode == 2
    assert sentence in done.stderr
    assert done.stderr.count("\n") == 1
    assert [path.name for path in tmp_path.iterdir() if path.name != "data"] == []
