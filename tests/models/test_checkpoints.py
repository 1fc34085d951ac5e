import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from models.recipes.checkpoints import load_checkpoint, save_checkpoint

WRITER = """
import sys, torch
from pathlib import Path
from models.recipes.checkpoints import save_checkpoint
step = 0
while True:
    step += 1
    save_checkpoint(Path(sys.argv[1]), {"step": step, "weights": torch.full((300_000,), float(step))})
    print(step, flush=True)
"""


def test_no_checkpoint_is_none(tmp_path: Path) -> None:
    assert load_checkpoint(tmp_path / "none.pt") is None


def test_a_failed_write_leaves_the_old_one(tmp_path: Path) -> None:
    file = tmp_path / "a.pt"
    save_checkpoint(file, {"step": 1})
    with pytest.raises(Exception, match="pickle"):
        save_checkpoint(file, {"step": lambda: None})
    assert load_checkpoint(file) == {"step": 1}
    assert list(tmp_path.iterdir()) == [file]


def test_a_killed_writer_leaves_a_whole_checkpoint(tmp_path: Path) -> None:
    file = tmp_path / "a.pt"
    with subprocess.Popen([sys.executable, "-c", WRITER, str(file)], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        process.stdout.readline()
        time.sleep(0.3)
        process.kill()
    state = load_checkpoint(file)
    assert state is not None
    assert torch.equal(state["weights"], torch.full((300_000,), float(state["step"])))
