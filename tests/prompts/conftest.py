from __future__ import annotations

from pathlib import Path

import pytest

from tests.tiny_rewriters import save_bart, save_t5


@pytest.fixture(scope="session")
def rewriters(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a tiny `t5` and a tiny `bart`."""
    folder = tmp_path_factory.mktemp("rewriters")
    save_t5(folder / "t5")
    save_bart(folder / "bart")
    return folder
