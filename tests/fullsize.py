"""`python -m tests.fullsize NAME FOLDER`: a full-size T5 or BART through the Prompt page's own functions.

The configurations are `diffuscope rehearse`'s. Each runs in a process of its own, so that its peak of memory can be
measured, and prints one JSON object.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

from webui.prompts.request import prompt_request_from_values
from webui.runtime.fullsize import full_size_models
from webui.runtime.jobs import JobContext
from webui.runtime.memory import PeakMemory
from webui.runtime.random_weights import write_full_size
from webui.settings import load_settings
from webui.studio import Studio, open_studio
from webui.tasks.prompt import AttentionRequest, attend, rewrite_prompt

ROOT = Path(__file__).resolve().parent.parent
GIB = 2**30


def measure(name: str, folder: Path) -> dict[str, Any]:
    """What `main` prints, from a process of its own."""
    done = subprocess.run(
        [sys.executable, "-m", "tests.fullsize", name, str(folder)],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=900,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    answer: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return answer


def main(name: str, folder: Path) -> None:
    """Build the model, ask it through the tasks, and print what came of it."""
    model = full_size_models()[name]
    with PeakMemory() as peak:
        write_full_size(model, folder / "models" / model.like)
        studio = open_studio(load_settings(data_dir=folder))
        try:
            answer = _ask(studio, model.task, model.like)
        finally:
            studio.close()
        sys.stdout.write(json.dumps({**answer, "peak_gib": peak.highest / GIB}) + "\n")


def _ask(studio: Studio, family: str, model: str) -> dict[str, Any]:
    context = JobContext("cpu", threading.Event(), lambda event, kept: None)
    short = {"candidates": 2, "beams": 2, "max_new_tokens": 4}
    tasks = ("shorten", "translate") if family == "t5" else ("repair", "fill")
    wrote: dict[str, list[str]] = {}
    for task in tasks:
        text = "a [mask] cat" if task == "fill" else "a cat on a blue background"
        asked = prompt_request_from_values(task, {"text": text, "family": family, "model": model, **short})
        answer = rewrite_prompt(studio, asked, context)
        wrote[task] = [candidate.text for candidate in answer.candidates]
    found = attend(studio, AttentionRequest(family, model, answer.source, "a cat"), context)
    (loaded,) = [one for one in studio.manager.status() if one.key.task == family]
    return {
        "wrote": wrote,
        "attention": list(found.weights.shape),
        "rows": [float(found.weights.sum(-1).min()), float(found.weights.sum(-1).max())],
        "loaded_bytes": loaded.loaded_bytes,
    }


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]))
