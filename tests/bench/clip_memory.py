"""Two hundred pictures of 12 megapixels: the most memory that encoding them takes beyond the loaded model."""

from __future__ import annotations

import tempfile
import threading
import time
from dataclasses import replace
from pathlib import Path

import psutil

from tests.bench._clip import fresh_encoder, load_emoji_clip, write_photographs
from webui.clip.embed import embed_pictures
from webui.vision.pictures import PictureFile

PICTURES, DIFFERENT = 200, 4
SIZE = (4000, 3000)


def run() -> dict[str, object]:
    """The same few pictures under 200 contents (bytes after a JPEG's end are ignored), so that nothing is cached."""
    encoder = replace(fresh_encoder(load_emoji_clip()), threads=8)
    with tempfile.TemporaryDirectory() as folder:
        photographs = [path.read_bytes() for path in write_photographs(Path(folder), DIFFERENT, *SIZE)]
        files = [_under_another_hash(Path(folder), photographs[n % DIFFERENT], n) for n in range(PICTURES)]
        embed_pictures(encoder, files[:1])
        process, done, highest = psutil.Process(), threading.Event(), [0]
        before = process.memory_info().rss

        def watch() -> None:
            while not done.wait(0.02):
                highest[0] = max(highest[0], process.memory_info().rss)

        watcher = threading.Thread(target=watch)
        watcher.start()
        start = time.perf_counter()
        found = embed_pictures(encoder, files[1:])
        seconds = time.perf_counter() - start
        done.set()
        watcher.join()
    return {
        "pictures": len(found.pictures),
        "megapixels_each": SIZE[0] * SIZE[1] / 1e6,
        "pictures_per_second": round(len(found.pictures) / seconds, 2),
        "highest_mib_above_the_model": round((highest[0] - before) / 2**20),
    }


def _under_another_hash(folder: Path, jpeg: bytes, number: int) -> PictureFile:
    path = folder / f"large-{number:03}.jpg"
    path.write_bytes(jpeg + number.to_bytes(4, "big"))
    return PictureFile(path.name, path)
