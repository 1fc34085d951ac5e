"""`diffuscope prompt` as a shell runs it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from webui.cli import run

pytestmark = pytest.mark.usefixtures("emoji_suite")


def test_candidates_are_printed_as_lines_or_as_json(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = ("--data-dir", str(tmp_path))
    assert run(["prompt", "repair", "a cat on a bleu backgruond", "--candidates", "2", *folder]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "a cat on a blue background"
    assert len(lines) == 2
    assert run(["prompt", "fill", "a [mask] cat on a blue background", "--json", *folder]) == 0
    answer = json.loads(capsys.readouterr().out)
    assert len({candidate["text"] for candidate in answer["candidates"]}) == 3
    assert all({"text", "clip_similarity", "log_probability", "tokens"} <= set(one) for one in answer["candidates"])


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (("sing", "a"), "translate, shorten, expand, repair, fill"),
        (("fill", "a cat"), "[mask]"),
        (("expand", "a\x07"), "U+0007"),
    ],
)
def test_mistakes_are_told_in_one_line(
    arguments: tuple[str, ...], sentence: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["prompt", *arguments, "--data-dir", str(tmp_path)]) == 2
    told = capsys.readouterr().err
    assert sentence in told
    assert told.count("\n") == 1
