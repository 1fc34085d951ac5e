"""`python -m tests.fullsize t5|bart FOLDER`: a full-size configuration through the Prompt page's own functions.

The weights are random and written in shards without the model ever being whole in memory. Each runs in a process of its
own, so that its peak of memory can be measured, and prints one JSON object.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

from tests.tiny_rewriters import byte_tokenizer
from webui.prompts.request import prompt_request_from_values
from webui.runtime.jobs import JobContext
from webui.settings import load_settings
from webui.studio import Studio, open_studio
from webui.tasks.prompt import AttentionRequest, attend, rewrite_prompt

ROOT = Path(__file__).resolve().parent.parent
GIB = 2**30
NAMES = {"t5": "google-t5/t5-base", "bart": "facebook/bart-large"}
_SHARD_BYTES = 256 * 2**20


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
    source = folder / "models" / NAMES[name]
    source.mkdir(parents=True)
    _save_t5_base(source) if name == "t5" else _save_bart_large(source)
    studio = open_studio(load_settings(data_dir=folder))
    try:
        answer = _ask(studio, name)
    finally:
        studio.close()
    sys.stdout.write(json.dumps({**answer, "peak_gib": _peak() / GIB}) + "\n")


def _ask(studio: Studio, name: str) -> dict[str, Any]:
    context = JobContext("cpu", threading.Event(), lambda event, kept: None)
    model, short = NAMES[name], {"candidates": 2, "beams": 2, "max_new_tokens": 4}
    tasks = ("shorten", "translate") if name == "t5" else ("repair", "fill")
    wrote: dict[str, list[str]] = {}
    for task in tasks:
        text = "a [mask] cat" if task == "fill" else "a cat on a blue background"
        asked = prompt_request_from_values(task, {"text": text, "family": name, "model": model, **short})
        answer = rewrite_prompt(studio, asked, context)
        wrote[task] = [candidate.text for candidate in answer.candidates]
    found = attend(studio, AttentionRequest(name, model, answer.source, "a cat"), context)
    (loaded,) = [one for one in studio.manager.status() if one.key.task == name]
    return {
        "wrote": wrote,
        "attention": list(found.weights.shape),
        "rows": [float(found.weights.sum(-1).min()), float(found.weights.sum(-1).max())],
        "loaded_bytes": loaded.loaded_bytes,
    }


def _save_t5_base(folder: Path) -> None:
    """The configuration of google-t5/t5-base (Raffel et al. 2020): 223 million weights."""
    from transformers import T5Config, T5ForConditionalGeneration

    config = T5Config(
        vocab_size=32128, d_model=768, d_kv=64, d_ff=3072, num_layers=12, num_heads=12, decoder_start_token_id=0
    )  # fmt: skip
    tokenizer = byte_tokenizer(["<pad>", "</s>", "<unk>"], [f"<extra_id_{n}>" for n in range(4)], "$A </s>", 32128)
    _save(T5ForConditionalGeneration, config, tokenizer, folder)


def _save_bart_large(folder: Path) -> None:
    """The configuration of facebook/bart-large (Lewis et al. 2020): 406 million weights."""
    from transformers import BartConfig, BartForConditionalGeneration

    tokenizer = byte_tokenizer(["<s>", "<pad>", "</s>", "<unk>"], ["<mask>"], "<s> $A </s>", 50265)
    _save(BartForConditionalGeneration, BartConfig(vocab_size=50265, forced_bos_token_id=0), tokenizer, folder)


def _save(model_class: Any, config: Any, tokenizer: Any, folder: Path) -> None:
    """Write the configuration and random weights in float32, as the Hub has them, a shard at a time."""
    import torch
    from accelerate import init_empty_weights
    from safetensors.torch import save_file

    with init_empty_weights():
        model = model_class(config)
    model.config.architectures = [model_class.__name__]
    model.config.save_pretrained(folder)
    model.generation_config.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    tied = set(model.all_tied_weights_keys)
    shapes = [(key, tensor.shape) for key, tensor in model.state_dict().items() if key not in tied]
    torch.manual_seed(0)
    where: dict[str, str] = {}
    shard: dict[str, torch.Tensor] = {}
    for place, (key, shape) in enumerate(shapes):
        shard[key] = torch.empty(shape).uniform_(-0.05, 0.05)
        if place == len(shapes) - 1 or sum(tensor.nbytes for tensor in shard.values()) >= _SHARD_BYTES:
            file = f"model-{len(set(where.values())) + 1:05d}.safetensors"
            save_file(shard, folder / file, {"format": "pt"})
            where |= dict.fromkeys(shard, file)
            shard.clear()
    index = {"metadata": {}, "weight_map": where}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index), encoding="utf-8")


def _peak() -> int:
    """The most bytes this process has had in memory, by Linux's count: `ru_maxrss` would have its parent's too."""
    status = Path("/proc/self/status").read_text(encoding="ascii")
    return int(status.split("VmHWM:")[1].split()[0]) * 1024


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]))
