"""Milliseconds a query and recall@10 for text-like queries: numpy exact, our exact tier, and the index.

Vectors are synthetic: 4,000 uneven clusters in a cone, and queries apart from all of them (a modality gap).
`DIFFUSCOPE_BENCH_ROWS` (comma-separated) chooses the sizes; a million rows take long to build.
"""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import numpy.typing as npt

from webui.search.lance import LanceStore
from webui.search.rows import ModelIdentity, PictureRow

WIDTH = 256
QUERIES = 100
CLUSTERS = 4000
LATENT = 96
BATCH = 10_000
SIZES = "10000,100000"

Vectors = npt.NDArray[np.float32]


def run() -> dict[str, object]:
    """p50 and p95 in ms, recall@10 against numpy exact in the same run; index build in seconds."""
    sizes = [int(size) for size in os.environ.get("DIFFUSCOPE_BENCH_ROWS", SIZES).split(",")]
    return {f"{size}_rows": _measure(size) for size in sizes}


def _measure(size: int) -> dict[str, object]:
    vectors, queries = synthetic(size)
    truth = [set(np.argsort(-(vectors @ query))[:10].tolist()) for query in queries]
    with tempfile.TemporaryDirectory() as folder:
        exact = LanceStore(Path(folder), ModelIdentity("bench", str(size)), exact_limit=size)
        started = time.perf_counter()
        for start in range(0, size, BATCH):
            exact.upsert([_row(number, vectors[number]) for number in range(start, min(start + BATCH, size))])
        inserted = time.perf_counter() - started
        indexed = LanceStore(Path(folder), ModelIdentity("bench", str(size)), exact_limit=size // 2)
        exact.search(queries[0], 10)
        figures: dict[str, object] = {"insert_seconds": round(inserted, 1)}
        plain: dict[str, Callable[[Vectors], list[int]]] = {
            "numpy": lambda query: np.argpartition(-(vectors @ query), 10)[:10].tolist(),
            "ours_exact": lambda query: _numbers(exact, query),
        }
        figures |= _timed(plain, queries, truth)
        started = time.perf_counter()
        indexed.optimize(queries[: QUERIES // 2])
        figures["index_build_and_measure_seconds"] = round(time.perf_counter() - started, 1)
        figures["measured_by_the_store"] = str(indexed.measured())
        return figures | _timed({"ours_indexed": lambda query: _numbers(indexed, query)}, queries, truth)


def synthetic(size: int) -> tuple[Vectors, Vectors]:
    """(size, WIDTH) rows and (QUERIES, WIDTH) queries of length 1.

    Rows lie in a cone (two of them have a cosine of about 0.4) and vary in `LATENT` directions only, as embeddings of
    pictures do; a query shares its meaning with one cluster, and most of its length points where no row does.
    """
    rng = np.random.default_rng(0)
    axes = np.linalg.qr(rng.normal(size=(WIDTH, LATENT + 2)))[0].T.astype(np.float32)
    cone, gap, meaning = axes[0], axes[1], axes[2:]
    centres = rng.normal(size=(CLUSTERS, LATENT)).astype(np.float32)
    shares = rng.pareto(1.2, CLUSTERS) + 0.1
    members = rng.choice(CLUSTERS, size, p=shares / shares.sum())
    vectors = np.empty((size, WIDTH), np.float32)
    for start in range(0, size, 100_000):
        part = centres[members[start : start + 100_000]]
        spread = _unit(part + 0.6 * rng.normal(size=part.shape).astype(np.float32))
        vectors[start : start + len(part)] = 0.4**0.5 * cone + 0.6**0.5 * (spread @ meaning)
    asked = centres[rng.integers(0, CLUSTERS, QUERIES)] + rng.normal(size=(QUERIES, LATENT)).astype(np.float32)
    return vectors, 0.78**0.5 * gap + 0.22**0.5 * (_unit(asked) @ meaning)


def _unit(vectors: Vectors) -> Vectors:
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    return vectors


def _row(number: int, vector: Vectors) -> PictureRow:
    return PictureRow(f"/b/{number}", "f", f"{number:064x}", number, number, 640, 480, "", bytes(192), vector)


def _numbers(store: LanceStore, query: Vectors) -> list[int]:
    return [row.size for row in store.search(query, 10).rows]


def _timed(
    ways: dict[str, Callable[[Vectors], list[int]]], queries: Vectors, truth: list[set[int]]
) -> dict[str, object]:
    """Each way asked in turn, so that what else the machine does meets all of them."""
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    recall: dict[str, list[float]] = {name: [] for name in ways}
    for query, right in zip(queries, truth, strict=True):
        for name, ask in ways.items():
            started = time.perf_counter()
            found = ask(query)
            seconds[name].append(1000 * (time.perf_counter() - started))
            recall[name].append(len(right & set(found)) / 10)
    figures: dict[str, object] = {}
    for name in ways:
        figures[f"{name}_p50_ms"] = round(float(np.percentile(seconds[name], 50)), 2)
        figures[f"{name}_p95_ms"] = round(float(np.percentile(seconds[name], 95)), 2)
        figures[f"{name}_recall_at_10"] = round(float(np.mean(recall[name])), 4)
    return figures
