"""Forks writers that do one thing to a store over and over, to be killed at any moment.

`python -m tests.search.killed FOLDER ROUNDS` imports the engine once, then for each phase and round forks a writer,
lets it work for a random time, kills it with SIGKILL, and opens the store again in another fork that checks every row.
Prints a line a round: how many rows were acknowledged, how many are there.
"""

from __future__ import annotations

import os
import random
import signal
import sys
import time
import warnings
from pathlib import Path

from tests.search.samples import row, rows
from webui.search.lance import LanceStore
from webui.search.rows import ModelIdentity

IDENTITY = ModelIdentity("tiny", "1")
PHASES = ("adding", "optimising", "building")
BATCH = 40
MANY = 1200


def store_in(folder: Path, phase: str) -> LanceStore:
    """In the phase "building" every table is one too large for memory, which wants an index."""
    return LanceStore(folder, IDENTITY, exact_limit=MANY // 2 if phase == "building" else 200_000)


def work(folder: Path, phase: str, acknowledged: int) -> None:
    """The writer: says on file descriptor 1 how many rows are acknowledged, after each write."""
    store = store_in(folder, phase)
    while True:
        store.upsert(rows(acknowledged, acknowledged + BATCH))
        acknowledged += BATCH
        sys.stdout.write(f"{acknowledged}\n")
        sys.stdout.flush()
        if phase == "optimising":
            table = store._table()
            table.optimize()
        elif phase == "building" and acknowledged >= MANY:
            store._measured_path.unlink(missing_ok=True)
            table = store._table()
            if store._index_of(table) is not None:
                table.drop_index("vector_idx")
            store.optimize(store.sample()[:8])


def check(folder: Path, phase: str, acknowledged: int) -> int:
    """How many rows there are; every acknowledged one is whole, none is there twice, and a search finds them."""
    store = store_in(folder, phase)
    known = store.known()
    assert len(known) == store.count()
    numbers = sorted(int(path[-10:-4]) for path in known)
    assert numbers == list(range(len(numbers))), "a batch is there whole or not at all"
    assert len(numbers) >= acknowledged, f"{len(numbers)} rows of {acknowledged}"
    wanted = [row(number) for number in random.sample(numbers, min(20, len(numbers)))]
    for expected, found in zip(wanted, store.rows([one.id for one in wanted]), strict=True):
        assert (found.path, found.content, found.prompt) == (expected.path, expected.content, expected.prompt)
        assert abs(float(found.vector @ expected.vector) - 1) < 1e-5
        assert store.search(expected.vector, 1).rows[0].path == expected.path
    store.upsert([row(0)] if numbers else [])
    return len(numbers)


def in_fork(task: object) -> int:
    child = os.fork()
    if child == 0:
        code = 1
        try:
            task()  # type: ignore[operator]
            code = 0
        finally:
            os._exit(code)
    return child


def main(folder: Path, phase: str, rounds: int) -> None:
    acknowledged = 0
    for number in range(rounds):
        random.seed(number)
        reading, writing = os.pipe()

        def write(writing: int = writing, acknowledged: int = acknowledged) -> None:
            os.dup2(writing, 1)
            work(folder, phase, acknowledged)

        child = in_fork(write)
        os.close(writing)
        with os.fdopen(reading) as said:
            # From the first acknowledged write on, so that a slow machine kills in the middle too.
            first = said.readline()
            assert first, "the writer died by itself"
            time.sleep(random.uniform(0.0, 0.12))
            os.kill(child, signal.SIGKILL)
            lines = [first, *said.readlines()]
        os.waitpid(child, 0)
        acknowledged = max(int(line) for line in lines if line.endswith("\n"))
        there = -1
        reading, writing = os.pipe()

        def look(writing: int = writing, acknowledged: int = acknowledged) -> None:
            os.write(writing, str(check(folder, phase, acknowledged)).encode())

        child = in_fork(look)
        os.close(writing)
        with os.fdopen(reading) as told:
            there = int(told.read() or -1)
        _, status = os.waitpid(child, 0)
        assert status == 0, f"round {number}: the check failed"
        sys.stdout.write(f"{phase} {number}: {acknowledged} acknowledged, {there} there\n")
        sys.stdout.flush()
        acknowledged = there


if __name__ == "__main__":
    warnings.simplefilter("ignore")
    import lancedb  # noqa: F401 - before the forks, so that each costs milliseconds

    for each in PHASES:
        main(Path(sys.argv[1]) / each, each, int(sys.argv[2]))
