"""Forks writers that do one thing to a store over and over, to be killed at any moment.

`python -m tests.search.killed FOLDER ROUNDS` imports the engine once, then for each phase and round forks a writer,
lets it work for a random time, kills it with SIGKILL, and opens the store again in another fork that checks every row.
Prints a line a round: how many rows were acknowledged, how many are there, and whether the kill came inside the phase.
"""

from __future__ import annotations

import os
import random
import signal
import sys
import time
import traceback
import warnings
from collections.abc import Callable
from pathlib import Path

from tests.search.samples import row, rows
from webui.search import lance_index
from webui.search.lance import LanceStore
from webui.search.rows import ModelIdentity

IDENTITY = ModelIdentity("tiny", "1")
PHASES = ("adding", "optimising", "building")
PATIENCE = {"adding": 0.1, "optimising": 0.15, "building": 0.5}
"""Seconds that a writer lives at most after it has entered its phase."""

BATCH = 40
MANY = 1200


def store_in(folder: Path, phase: str) -> LanceStore:
    """In the phase "building" every table is one too large for memory, which wants an index."""
    return LanceStore(folder, IDENTITY, exact_limit=MANY // 2 if phase == "building" else 200_000)


def work(folder: Path, phase: str, acknowledged: int) -> None:
    """The writer: says on file descriptor 1 how many rows are acknowledged, and when it enters and leaves the phase."""
    store = store_in(folder, phase)
    while True:
        if phase == "adding":
            say("in")
        store.upsert(rows(acknowledged, acknowledged + BATCH))
        acknowledged += BATCH
        say(str(acknowledged))
        if phase == "optimising":
            say("in")
            store._newest().optimize()
        elif phase == "building" and acknowledged >= MANY:
            table = store._newest()
            if lance_index.has_index(table):
                table.drop_index("vector_idx")
            say("in")
            store.optimize(store.sample()[:8])
        say("out")


def say(word: str) -> None:
    sys.stdout.write(f"{word}\n")
    sys.stdout.flush()


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


def in_fork(task: Callable[[], object]) -> int:
    child = os.fork()
    if child == 0:
        code = 1
        try:
            task()
            code = 0
        except Exception:  # noqa: BLE001 - a fork ends here whatever happens
            traceback.print_exc()
        finally:
            sys.stderr.flush()
            os._exit(code)
    return child


def main(folder: Path, phase: str, rounds: int) -> None:
    acknowledged = 0
    for number in range(rounds):
        random.seed(number)
        said = killed_writer(folder, phase, acknowledged)
        acknowledged = max([acknowledged, *(int(word) for word in said if word.isdigit())])
        there = checked(folder, phase, acknowledged)
        place = "outside" if [word for word in said if not word.isdigit()][-1] == "out" else "inside"
        sys.stdout.write(f"{phase} {number}: {acknowledged} acknowledged, {there} there, killed {place}\n")
        sys.stdout.flush()
        acknowledged = there


def killed_writer(folder: Path, phase: str, acknowledged: int) -> list[str]:
    """What a writer said before it was killed, some time after it had entered the phase."""
    reading, writing = os.pipe()

    def write() -> None:
        os.dup2(writing, 1)
        work(folder, phase, acknowledged)

    child = in_fork(write)
    os.close(writing)
    with os.fdopen(reading) as told:
        said = [told.readline()]
        while said[-1] not in ("in\n", ""):  # so that a slow machine kills in the middle too
            said.append(told.readline())
        time.sleep(random.uniform(0.0, PATIENCE[phase]))
        os.kill(child, signal.SIGKILL)
        said += told.readlines()
    _, status = os.waitpid(child, 0)
    assert os.WIFSIGNALED(status), f"the writer died by itself: {said[-1:]}"
    return [line.strip() for line in said if line.endswith("\n")]


def checked(folder: Path, phase: str, acknowledged: int) -> int:
    """How many rows a fresh process finds."""
    reading, writing = os.pipe()
    child = in_fork(lambda: os.write(writing, str(check(folder, phase, acknowledged)).encode()))
    os.close(writing)
    with os.fdopen(reading) as told:
        there = int(told.read() or -1)
    _, status = os.waitpid(child, 0)
    assert status == 0, f"{phase}: the check failed"
    return there


if __name__ == "__main__":
    warnings.simplefilter("ignore")
    import lancedb  # noqa: F401 - before the forks, so that each costs milliseconds

    for each in PHASES:
        main(Path(sys.argv[1]) / each, each, int(sys.argv[2]))
