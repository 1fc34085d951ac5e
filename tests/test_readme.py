"""What the README promises and a machine can check: its example runs, its settings are settings, its links lead on."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from webui.settings import load_settings

ROOT = Path(__file__).resolve().parent.parent
DOCUMENTS = ("README.md", "CONTRIBUTING.md", "SECURITY.md", "models/README.md", "extensions/README.md")


def block(language: str) -> str:
    (found,) = re.findall(rf"```{language}\n(.*?)```", (ROOT / "README.md").read_text(encoding="utf-8"), re.DOTALL)
    return str(found)


def test_the_notebook_example_draws(tmp_path: Path, emoji_suite: Path) -> None:
    assert emoji_suite.is_dir()
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "DIFFUSCOPE_DATA_DIR": str(tmp_path)}
    subprocess.run([sys.executable, "-c", block("python")], cwd=tmp_path, env=environment, check=True)
    assert (tmp_path / "cat.png").is_file()


def test_the_settings_example_is_accepted(tmp_path: Path) -> None:
    config = tmp_path / "config.toml"
    config.write_text(block("toml"), encoding="utf-8")
    assert load_settings(config).outputs_dir == tmp_path / "pictures"


@pytest.mark.parametrize("document", DOCUMENTS)
def test_links_lead_somewhere(document: str) -> None:
    path = ROOT / document
    links = re.findall(r"\]\(([^)#]+)\)", path.read_text(encoding="utf-8"))
    missing = [link for link in links if "://" not in link and not (path.parent / link).exists()]
    assert not missing
