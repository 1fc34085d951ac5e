from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from webui.cli import run
from webui.store.infotext import read_infotext

CODE = """
def register(api):
    api.add_translations({"en": {"no": "No {what}."}, "th": {"no": "ไม่มี {what}"}})
    def work(line):
        if line.arguments == ("refuse",):
            raise api.error("no", what="cats")
        if line.arguments == ("break",):
            raise RuntimeError("my own mistake")
        line.write(str(line.run(lambda context: [context.device, *line.arguments])))
        return 7
    api.add_command({"en": "does it", "th": "ทำ"}, work)
"""


@pytest.fixture
def data(tmp_path: Path) -> Path:
    folder = tmp_path / "extensions" / "mine"
    folder.mkdir(parents=True)
    manifest = 'id = "mine"\nversion = "1"\napi = 1\ntitle = { en = "Mine", th = "ของฉัน" }\n'
    (folder / "extension.toml").write_text(manifest, encoding="utf-8")
    (folder / "extension.py").write_text(CODE, encoding="utf-8")
    return tmp_path


def extension(data: Path, *arguments: str) -> int:
    return run(["extension", "--data-dir", str(data), *arguments])


def test_they_are_listed_and_run_with_their_exit_code(data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert extension(data) == 0
    said = capsys.readouterr().out
    assert "Extension Mine 1: loaded in" in said
    assert "diffuscope extension mine: does it" in said
    assert extension(data, "mine", "a", "--", "--b") == 7
    assert capsys.readouterr().out == "['cpu', 'a', '--b']\n"


def test_what_goes_wrong_is_said(data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert extension(data, "mine", "refuse") == 2
    assert capsys.readouterr().err == "No cats.\n"
    assert extension(data, "--language", "th", "mine", "refuse") == 2
    assert capsys.readouterr().err == "ไม่มี cats\n"
    assert extension(data, "mine", "break") == 1
    assert "RuntimeError: my own mistake" in capsys.readouterr().err
    assert extension(data, "nobody") == 2
    assert "mine, prompt_styles" in capsys.readouterr().err.replace("prompt_styles, mine", "mine, prompt_styles")


def test_the_shipped_one_fills_in_wildcards(data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert extension(data, "prompt_styles", "a __animal__", "1", "2", "1") == 0
    first, _, third = capsys.readouterr().out.splitlines()
    assert first == third
    assert "__" not in first
    assert extension(data, "prompt_styles", "a cat", "x") == 2
    assert '"x" are no seeds' in capsys.readouterr().err


TOOL = """
from dataclasses import replace
def register(api):
    api.add_translations({"en": {"no": "No {what}."}, "th": {"no": "ไม่มี {what}"}})
    def tool(draft):
        if "cats" in draft.prompt:
            raise api.error("no", what="cats")
        return replace(draft, prompt=draft.prompt + " !")
    api.add_prompt_tool(tool)
"""


def test_prompt_tools_work_for_generate_too(
    data: Path, tiny_pipeline_folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copytree(tiny_pipeline_folder, data / "models" / "tiny")
    mine = data / "extensions" / "mine"
    shutil.copytree(mine, data / "extensions" / "broken")
    (data / "extensions" / "broken" / "extension.toml").write_text("id = 1", encoding="utf-8")
    (mine / "extension.py").write_text(TOOL, encoding="utf-8")
    flags = ("--data-dir", str(data), "--model", "tiny", "--steps", "1")
    assert run(["generate", *flags, "a cat"]) == 0
    said = capsys.readouterr()
    assert read_infotext(Path(said.out.strip())).startswith("a cat !\n")
    assert said.err.startswith("Extension broken is off: ")
    assert run(["--language", "th", "generate", *flags, "cats"]) == 2
    assert '"ไม่มี cats"' in capsys.readouterr().err.splitlines()[-1]
