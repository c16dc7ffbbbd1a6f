"""What several threads use is freed once, when the last of them is out."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from netring_bpf.capture.gate import Gate
from tests.support.patience import PATIENCE


def test_it_frees_once_and_stays_closed() -> None:
    gate, freed = Gate(), list[str]()
    with gate.lock():
        assert not gate.closed
    gate.close(lambda: freed.append("first"))
    gate.close(lambda: freed.append("second"))
    assert (gate.closed, freed) == (True, ["first"])


def test_every_closer_returns_when_all_is_freed_and_no_user_is_inside() -> None:
    gate, inside, go = Gate(), threading.Event(), threading.Event()
    users, freed = 0, 0

    def use() -> bool:
        nonlocal users
        with gate.lock():
            assert not gate.closed
            users += 1
            inside.set()
            assert go.wait(PATIENCE)
            users -= 1
        gate.settle()
        return True

    def free() -> None:
        nonlocal freed
        assert users == 0
        freed += 1

    def close() -> int:
        gate.close(free)
        return freed

    with ThreadPoolExecutor(4) as pool:
        using = pool.submit(use)
        assert inside.wait(PATIENCE)
        closing = [pool.submit(close) for _ in range(3)]
        with pytest.raises(TimeoutError):
            closing[0].result(0.1)
        assert (gate.closed, freed) == (True, 0)
        go.set()
        assert [closer.result() for closer in closing] == [1, 1, 1]
        assert using.result()


def test_a_closer_that_is_inside_itself_frees_when_it_is_out() -> None:
    gate, freed = Gate(), list[str]()
    with gate.lock():
        with gate.lock():  # a signal handler in the middle of the block
            gate.close(lambda: freed.append("freed"))
        gate.settle()
        assert freed == []
    gate.settle()
    assert freed == ["freed"]


def test_an_exception_leaves_nobody_inside() -> None:
    gate, freed = Gate(), list[str]()
    with pytest.raises(KeyboardInterrupt), gate.lock():
        raise KeyboardInterrupt
    gate.close(lambda: freed.append("freed"))
    assert freed == ["freed"]
