"""Pictures a second into the index: our run against a plain loop over the model, on JPEGs of three sizes.

Where the command `rclip` is installed and has its weights, it indexes the same files too, with a larger model.

`DIFFUSCOPE_BENCH_PICTURES` chooses how many (5,000 in full); both take turns over the same files, a part at a time.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
import time
from pathlib import Path

import torch
from PIL import Image

from tests.bench._clip import fresh_encoder, load_emoji_clip, write_photographs
from webui.clip.embed import ClipParts
from webui.search.index import index_folder
from webui.search.lance import LanceStore
from webui.search.rows import ModelIdentity

SIZES = ((640, 480), (1280, 960), (1920, 1080))
PICTURES = "5000"
PARTS = 10


def run() -> dict[str, object]:
    """Rates over all parts; the share of decoding is what opening and decoding alone takes of our own time."""
    count = int(os.environ.get("DIFFUSCOPE_BENCH_PICTURES", PICTURES))
    clip = load_emoji_clip()
    rclip = _Rclip()
    seconds = {"ours": 0.0, "plain": 0.0, "decode": 0.0}
    done = 0
    with tempfile.TemporaryDirectory() as folder:
        store = LanceStore(Path(folder) / "index", ModelIdentity("bench", "1"))
        warm = Path(folder) / "warm"  # what is imported and compiled once is no rate
        warm.mkdir()
        warm_files = write_photographs(warm, 1, 64, 64, first=count)
        _ours(clip, store, warm, warm_files)
        _plain(clip, store, warm, warm_files)
        for part in range(PARTS):
            place = Path(folder) / f"part-{part}"
            files: list[Path] = []
            for width, height in SIZES:
                (place / f"{width}").mkdir(parents=True)
                each = max(1, count // PARTS // len(SIZES))
                files += write_photographs(place / f"{width}", each, width, height, first=done + len(files))
            rclip.index(place)
            for name, work in (("ours", _ours), ("plain", _plain), ("decode", _decode)):
                started = time.perf_counter()
                work(clip, store, place, files)
                seconds[name] += time.perf_counter() - started
            done += len(files)
    return {
        "pictures": done,
        "sizes": [list(size) for size in SIZES],
        "ours_pictures_per_second": round(done / seconds["ours"], 1),
        "plain_pictures_per_second": round(done / seconds["plain"], 1),
        "ours_over_plain": round(seconds["plain"] / seconds["ours"], 2),
        "decode_alone_share_of_plain": round(seconds["decode"] / seconds["plain"], 2),
        "decode_alone_share_of_ours": round(seconds["decode"] / seconds["ours"], 2),
        "rclip": rclip.problem or f"{done / rclip.seconds:.1f} pictures/s",
    }


class _Rclip:
    """Times `rclip`, until it says that it cannot."""

    def __init__(self) -> None:
        self.seconds = 0.0
        self.problem = "" if shutil.which("rclip") else "not measured: the command rclip is not installed"

    def index(self, place: Path) -> None:
        if self.problem:
            return
        started = time.perf_counter()
        ended = subprocess.run(["rclip", "a cat"], cwd=place, capture_output=True, text=True, check=False)
        self.seconds += time.perf_counter() - started
        if ended.returncode:
            self.problem = f"not measured: rclip failed: {ended.stderr.strip().splitlines()[-1:]}"


def _ours(clip: ClipParts, store: LanceStore, place: Path, files: list[Path]) -> None:
    counts = index_folder(store, fresh_encoder(clip), place)
    if counts.embedded != len(files):  # a picture that is known by its content costs next to nothing
        raise SystemExit(f"{counts.embedded} of {len(files)} pictures were embedded")


def _plain(clip: ClipParts, _store: LanceStore, _place: Path, files: list[Path]) -> None:
    with torch.inference_mode():
        for path in files:
            with Image.open(path) as image:
                inputs = clip.processor.image_processor(images=image.convert("RGB"), return_tensors="pt")
            clip.model.get_image_features(**inputs)


def _decode(_clip: ClipParts, _store: LanceStore, _place: Path, files: list[Path]) -> None:
    for path in files:
        with Image.open(path) as image:
            image.convert("RGB")
