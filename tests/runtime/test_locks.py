from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor

import torch
from accelerate import init_empty_weights
from torch import nn

from webui.runtime.locks import ConstructionLock


def test_moves_share_the_lock() -> None:
    lock, together = ConstructionLock(), threading.Barrier(3)

    def move() -> None:
        with lock.read():
            together.wait(30)  # passes only when all three are inside

    with ThreadPoolExecutor(3) as pool:
        for future in [pool.submit(move) for _ in range(3)]:
            future.result(30)


def test_construction_is_alone_and_goes_before_later_moves() -> None:
    lock, order = ConstructionLock(), []
    writer_waits, reader_waits = threading.Event(), threading.Event()

    def construct() -> None:
        writer_waits.set()
        with lock.write():
            order.append("construct")

    def move() -> None:
        reader_waits.set()
        with lock.read():
            order.append("move")

    with ThreadPoolExecutor(2) as pool:
        with lock.read():
            writer = pool.submit(construct)
            assert writer_waits.wait(30)
            while not lock._waiting_writers:
                pass
            reader = pool.submit(move)
            assert reader_waits.wait(30)
            assert order == []
        writer.result(30)
        reader.result(30)
    assert order == ["construct", "move"]


def test_a_module_that_is_built_in_another_thread_is_not_caught_by_empty_weights() -> None:
    """What the lock is for: without it the second thread's parameter lands on "meta" (the control below)."""

    def built_while_constructing(lock: ConstructionLock | None) -> str:
        inside, may_leave, started = threading.Event(), threading.Event(), threading.Event()

        def construct() -> None:
            with (lock or ConstructionLock()).write(), init_empty_weights():
                inside.set()
                assert may_leave.wait(30)

        def register() -> str:
            assert inside.wait(30)
            started.set()
            with (lock or ConstructionLock()).read():
                return nn.Linear(2, 2).weight.device.type

        with ThreadPoolExecutor(2) as pool:
            writer, reader = pool.submit(construct), pool.submit(register)
            assert started.wait(30)
            if lock is None:
                reader.result(30)
            may_leave.set()
            writer.result(30)
            return reader.result(30)

    assert built_while_constructing(ConstructionLock()) == "cpu"
    assert built_while_constructing(None) == "meta"
    assert nn.Linear(1, 1).weight.device == torch.device("cpu")
