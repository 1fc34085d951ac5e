from __future__ import annotations

import json
from pathlib import Path

import pytest

from webui.clip.concepts import concept_labels, read_concepts
from webui.errors import UserError


def test_concepts_lie_beside_the_model(tmp_path: Path) -> None:
    listed = [{"id": "cat", "emoji": "🐱", "en": ["cat", "kitten"], "th": ["แมว"], "group": "animals"}]
    (tmp_path / "concepts.json").write_text(json.dumps(listed), encoding="utf-8")
    concepts = read_concepts(tmp_path / "clip")
    assert concepts[0].emoji == "🐱"
    assert (concept_labels(concepts, "en"), concept_labels(concepts, "th")) == (("cat",), ("แมว",))


def test_a_model_without_a_list_has_no_concepts(tmp_path: Path) -> None:
    assert read_concepts(tmp_path / "clip") == ()


@pytest.mark.parametrize("content", ["{", "[1]", '[{"id": "cat"}]', "3"])
def test_a_broken_list_is_named(tmp_path: Path, content: str) -> None:
    (tmp_path / "concepts.json").write_text(content, encoding="utf-8")
    with pytest.raises(UserError) as error:
        read_concepts(tmp_path / "clip")
    assert error.value.key == "error.model_file_broken"
