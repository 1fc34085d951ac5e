from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from tests.search.samples import WIDTH, row, rows
from webui.errors import UserError
from webui.search.approximate import EFFORTS, choose_effort
from webui.search.lance import LanceStore
from webui.search.rows import ModelIdentity
from webui.search.store import Filters

IDENTITY = ModelIdentity("tiny", "1")
ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(params=[200_000, 100], ids=["in memory", "in the table"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> LanceStore:
    """600 rows, in both tiers."""
    store = LanceStore(tmp_path, IDENTITY, exact_limit=request.param)
    store.upsert(rows(0, 400))
    store.upsert(rows(300, 600))
    return store


def test_an_unused_store_is_empty_and_makes_nothing(tmp_path: Path) -> None:
    store = LanceStore(tmp_path / "index", IDENTITY)
    assert store.count() == 0
    assert store.known() == {}
    assert store.search(row(1).vector, 3).rows == ()
    assert len(store.sample()) == 0
    store.optimize()
    assert not any((tmp_path / "index").rglob("*.lance"))


def test_rows_come_back_as_they_were(store: LanceStore) -> None:
    assert store.count() == 600, "a path that is there is replaced"
    wanted = [row(7), row(3), row(599)]
    found = store.rows([one.id for one in wanted] + ["0" * 32, "'; drop"])
    assert [one.path for one in found] == [one.path for one in wanted]
    for one, other in zip(found, wanted, strict=True):
        assert one.vector == pytest.approx(other.vector)
        assert (one.prompt, one.look, one.size, one.modified_ns) == (
            other.prompt, other.look, other.size, other.modified_ns,
        )  # fmt: skip
    assert store.known()[row(5).path].content == row(5).content


def test_search_is_what_numpy_finds(store: LanceStore) -> None:
    matrix = np.stack([one.vector for one in rows(0, 600)])
    for number in (1, 50, 333):
        query = row(10_000 + number).vector
        nearest = store.search(query * 3, 10)
        scores = matrix @ query
        assert [one.path for one in nearest.rows] == [row(int(n)).path for n in np.argsort(-scores)[:10]]
        assert nearest.scores == pytest.approx(np.sort(scores)[::-1][:10], abs=1e-5)
        assert (nearest.searched, nearest.exact) == (600, True)


@pytest.mark.parametrize(
    ("filters", "passes"),
    [
        (Filters(folders=("odd",)), lambda n: n % 2 == 1),
        (Filters(folders=()), lambda n: False),
        (Filters(folders=("it's",)), lambda n: False),
        (Filters(since_ns=100_000, until_ns=200_000), lambda n: 100 <= n < 200),
        (Filters(min_side=150), lambda n: n >= 50),
        (Filters(prompt="CAT'S 59"), lambda n: str(n).startswith("59")),
        (Filters(prompt="%"), lambda n: False),
        (Filters(folders=("odd",), prompt="cat's 1", min_side=120), lambda n: n % 2 and str(n)[0] == "1" and n >= 20),
    ],
)  # fmt: skip
def test_filters_hold_for_search_count_and_sample(store: LanceStore, filters: Filters, passes: object) -> None:
    numbers = [n for n in range(600) if passes(n)]  # type: ignore[operator]
    assert store.count(filters) == len(numbers)
    assert len(store.sample(filters)) == len(numbers)
    nearest = store.search(row(77).vector, 1000, filters)
    assert sorted(one.path for one in nearest.rows) == [row(n).path for n in numbers]
    assert nearest.searched == len(numbers)


def test_deleted_rows_are_gone_and_what_is_in_memory_follows(store: LanceStore) -> None:
    assert store.search(row(5).vector, 1).rows[0].path == row(5).path
    store.delete([row(5).id, row(6).id, "0" * 32])
    assert store.search(row(5).vector, 1).rows[0].path != row(5).path
    assert store.count() == 598
    LanceStore(store._folder, IDENTITY).upsert([row(5)])
    assert store.search(row(5).vector, 1).rows[0].path == row(5).path, "written by another store"


def test_an_index_is_built_measured_and_kept_fresh(tmp_path: Path) -> None:
    store = LanceStore(tmp_path, IDENTITY, exact_limit=300)
    store.upsert(rows(0, 1500))
    queries = np.stack([row(n).vector for n in range(5000, 5020)])
    store.optimize(queries)
    measured = store.measured()
    assert measured is not None
    assert measured.recall is not None
    assert measured.good
    nearest = store.search(row(9).vector, 5)
    assert nearest.rows[0].path == row(9).path
    assert not nearest.exact
    assert nearest.recall == measured.recall
    for limit in (10, 200, 1000):
        assert len(store.search(row(9).vector, limit).rows) == limit
    store.upsert(rows(1500, 1600))
    assert store.search(row(1555).vector, 1).rows[0].path == row(1555).path, "not in the index yet, found all the same"
    assert store.search(row(9).vector, 5, Filters(prompt="cat's 77")).exact, "few rows are looked at one by one"
    store.upsert(rows(1600, 2600))
    store.optimize(queries)
    assert store.measured().rows == 2600  # type: ignore[union-attr]
    assert store.search(row(2222).vector, 1).rows[0].path == row(2222).path


def test_the_effort_rises_until_the_recall_is_good_and_a_bad_one_is_told() -> None:
    truth = np.array([[str(n) for n in range(10)]])
    queries = np.zeros((1, WIDTH), np.float32)
    asked = []

    def finds(enough: int) -> object:
        def ask(_query: object, effort: object) -> list[str]:
            asked.append(effort)
            return [str(n) for n in range(10 if len(asked) >= enough else 5)]

        return ask

    assert choose_effort(queries, truth, finds(3)) == (EFFORTS[2], 1.0)  # type: ignore[arg-type]
    asked.clear()
    assert choose_effort(queries, truth, finds(99)) == (EFFORTS[-1], 0.5)  # type: ignore[arg-type]


def test_a_commit_without_content_is_set_aside(tmp_path: Path) -> None:
    """What a loss of power may leave: the newest manifest has a name and no bytes."""
    LanceStore(tmp_path, IDENTITY).upsert(rows(0, 50))
    LanceStore(tmp_path, IDENTITY).upsert(rows(50, 60))
    versions = tmp_path / f"{IDENTITY.table}.lance" / "_versions"
    newest = min(versions.glob("*.manifest"), key=lambda path: path.name)
    newest.write_bytes(b"")
    store = LanceStore(tmp_path, IDENTITY)
    assert store.count() == 50
    store.upsert(rows(50, 60))
    assert LanceStore(tmp_path, IDENTITY).count() == 60


HOLD = """
import sys, time
from pathlib import Path
from webui.search.lock import WriterLock
with WriterLock(Path(sys.argv[1]) / "writer.lock").held():
    print("held", flush=True)
    time.sleep(600)
"""


def test_one_process_writes_and_the_message_names_it(tmp_path: Path) -> None:
    LanceStore(tmp_path, IDENTITY).upsert(rows(0, 3))
    other = subprocess.Popen([sys.executable, "-c", HOLD, str(tmp_path)], cwd=ROOT, stdout=subprocess.PIPE, text=True)
    try:
        assert other.stdout is not None
        assert other.stdout.readline() == "held\n"
        store = LanceStore(tmp_path, IDENTITY, patience=0.05)
        with pytest.raises(UserError) as refused:
            store.upsert(rows(3, 4))
        assert refused.value.values == {"pid": str(other.pid)}
        assert store.count() == 3, "reading goes on"
    finally:
        other.kill()
        other.wait()
    store.upsert(rows(3, 4))
    assert store.count() == 4


FILL = """
import resource, signal, sys
from pathlib import Path
from tests.search.samples import rows
from webui.errors import UserError
from webui.search.lance import LanceStore
from webui.search.rows import ModelIdentity
import lancedb
store = LanceStore(Path(sys.argv[1]), ModelIdentity("tiny", "1"))
store.count()
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))
try:
    store.upsert(rows(100, 5000))
except UserError as error:
    print(error.key, store.count(), store.search(rows(7, 8)[0].vector, 1).rows[0].path)
"""


@pytest.mark.skipif(os.name == "nt", reason="limits of a process are POSIX")
def test_a_full_disk_is_one_sentence_and_the_old_index_works(tmp_path: Path) -> None:
    LanceStore(tmp_path, IDENTITY).upsert(rows(0, 100))
    run = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", FILL, str(tmp_path)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.stdout.split() == ["error.disk_full", "100", row(7).path], run.stdout + run.stderr
    store = LanceStore(tmp_path, IDENTITY)
    assert store.count() == 100
    store.upsert(rows(100, 200))
    assert store.count() == 200


def test_two_models_never_share_a_table() -> None:
    identities = [
        ModelIdentity("a", "1"),
        ModelIdentity("a", "2"),
        ModelIdentity("b", "1"),
        ModelIdentity("a", "1", "x"),
    ]
    assert len({identity.table for identity in identities}) == 4
    assert ModelIdentity("แมว/../x", "1").table.isascii()
    assert "/" not in ModelIdentity("แมว/../x", "1").table
