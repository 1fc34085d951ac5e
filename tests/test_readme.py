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


@pytest.mark.parametrize("document", DOCUMENTS)
def test_links_lead_somewhere(document: str) -> None:
    path = ROOT / document
    links = re.findall(r"\]\(([^)#]+)\)", path.read_text(encoding="utf-8"))
    missing = [link for link in links if "://" not in link and not (path.parent / link).exists()]
    assert not missing
