"""What the documents promise and a machine can check: their examples run, their links lead on, their names are real."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.test_architecture import LAYERS
from webui.cli import run
from webui.i18n import load_messages
from webui.settings import load_settings

ROOT = Path(__file__).resolve().parent.parent
DOCUMENTS = (
    *("README.md", "CONTRIBUTING.md", "SECURITY.md", "models/README.md", "extensions/README.md"),
    *sorted(f"docs/{path.name}" for path in (ROOT / "docs").glob("*.md")),
)


def blocks(document: str, language: str) -> list[str]:
    text = (ROOT / document).read_text(encoding="utf-8")
    fenced = re.findall(r"^```(\w*)\n(.*?)^```$", text, re.DOTALL | re.MULTILINE)
    return [str(found) for name, found in fenced if name == language]


def block(language: str) -> str:
    (found,) = blocks("README.md", language)
    return found


@pytest.mark.usefixtures("emoji_suite")
def test_the_notebook_example_draws(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DIFFUSCOPE_DATA_DIR", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    exec(compile(block("python"), "README.md", "exec"), {})  # noqa: S102 - as a reader would
    assert (tmp_path / "cat.png").is_file()


def test_the_settings_example_is_accepted(tmp_path: Path) -> None:
    config = tmp_path / "config.toml"
    config.write_text(block("toml"), encoding="utf-8")
    assert load_settings(config).outputs_dir == tmp_path / "pictures"


def test_the_lines_that_convert_pickles_do_it(tmp_path: Path) -> None:
    """Of a checkpoint as its trainer wrote it, and of a textual inversion as A1111 did."""
    import torch
    from safetensors.torch import load_file

    text = (ROOT / "models" / "README.md").read_text(encoding="utf-8")
    checkpoint, inversion = re.findall(r"```\n(python -c .*?)```", text, re.DOTALL)
    weights = {"model.x": torch.ones(2, 3).T, "model.y": torch.zeros(4)}
    vectors = torch.randn(2, 8, requires_grad=True)
    for line, kept in (
        (checkpoint, {"state_dict": weights, "global_step": 7}),
        (inversion, {"string_to_token": {"*": 265}, "string_to_param": {"*": vectors}, "name": "old", "step": 3}),
    ):
        torch.save(kept, tmp_path / "old.ckpt")
        torch.save(kept, tmp_path / "old.pt")
        here = line.replace("python -c", f"{sys.executable} -c", 1)
        subprocess.run(["bash", "-c", here], cwd=tmp_path, check=True)
        found = load_file(tmp_path / "old.safetensors")
        expected = weights if line.count("state_dict") else {"emb_params": vectors}
        assert found.keys() == expected.keys()
        assert all(torch.equal(found[name], expected[name]) for name in expected)


@pytest.mark.usefixtures("emoji_suite")
def test_the_notebook_guide_runs_from_top_to_bottom(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DIFFUSCOPE_DATA_DIR", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    examples = blocks("docs/notebook.md", "python")
    assert len(examples) >= 7
    names: dict[str, Any] = {}
    for example in examples:
        exec(compile(example, "docs/notebook.md", "exec"), names)  # noqa: S102 - as a reader would
    assert (tmp_path / "cat.safetensors").is_file()


@pytest.mark.usefixtures("emoji_suite")
def test_the_commands_of_the_guide_run_one_after_another(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DIFFUSCOPE_DATA_DIR", str(tmp_path / "data"))
    monkeypatch.chdir(tmp_path)
    lines = "".join(blocks("docs/commands.md", "sh")).splitlines()
    assert len(lines) >= 15
    assert {line: code for line in lines if (code := run(words_of(line)))} == {}


def test_every_command_is_in_the_guide_and_every_flag_of_it_is_one(capsys: pytest.CaptureFixture[str]) -> None:
    guide = (ROOT / "docs" / "commands.md").read_text(encoding="utf-8")
    assert run(["--language", "en", "--help"]) == 0
    commands = re.findall(r"^  ([a-z]+)  ", capsys.readouterr().out.partition("Commands:")[2], re.MULTILINE)
    assert len(commands) > 10
    assert [name for name in commands if not re.search(rf"\b{name}\b", guide)] == []
    for line in "".join(blocks("docs/commands.md", "")).splitlines():
        run([*words_of(line)[:1], "--help"])
        flags = capsys.readouterr().out
        assert [word for word in words_of(line) if word.startswith("--") and word not in flags] == []


def words_of(line: str) -> list[str]:
    program, *words = shlex.split(line)
    assert program == "diffuscope"
    return words


def test_the_layers_are_those_that_the_sources_are_held_to() -> None:
    text = (ROOT / "docs" / "how-it-works.md").read_text(encoding="utf-8")
    told = {name: int(row[0]) for row in re.findall(r"^\| (\d+) \| (.*) \|$", text, re.MULTILINE)
            for name in re.findall(r"`(\w+)`", row[1])}  # fmt: skip
    assert told == {name: layer for name, layer in LAYERS.items() if name != "__main__"}
    paths = re.findall(r"`((?:webui|models|tests)/[\w./]+)`", text)
    assert [path for path in paths if not (ROOT / path).exists()] == []


def test_the_thai_guide_names_the_tabs_and_buttons_as_the_page_does() -> None:
    guide = (ROOT / "docs" / "guide.th.md").read_text(encoding="utf-8")
    said = set(load_messages().tables["th"].values())
    tabs = [row.partition("|")[0].strip() for row in re.findall(r"^\| ([^-].*)$", guide, re.MULTILINE)][1:]
    quoted = [name for name in re.findall(r'"([^"\n]+)"', guide) if name != "ไทย"]
    assert len(tabs) >= 8
    assert len(quoted) >= 4
    assert [name for name in (*tabs, *quoted) if name not in said] == []


@pytest.mark.parametrize("document", DOCUMENTS)
def test_links_lead_somewhere(document: str) -> None:
    path = ROOT / document
    links = re.findall(r"\]\(([^)#]+)\)", path.read_text(encoding="utf-8"))
    missing = [link for link in links if "://" not in link and not (path.parent / link).exists()]
    assert not missing
