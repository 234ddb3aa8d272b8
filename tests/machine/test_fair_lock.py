"""Threads get the lock in the order of their requests, urgent ones first."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from backup_scp.machine.fair_lock import FairLock
from tests.processes import wait_until


class Queue:
    """Threads that queue, one after the other, while the lock is held."""

    def __init__(self, lock: FairLock) -> None:
        self.lock = lock
        self.served: list[str] = []
        self.threads: list[threading.Thread] = []

    def join(self, name: str, *, first: bool = False) -> None:
        def run():
            with self.lock.turn(name, first=first) as is_ours:
                assert is_ours
                self.served.append(name)

        self.threads.append(threading.Thread(target=run))
        self.threads[-1].start()
        wait_until(lambda: self.lock.waiting == len(self.threads))

    def end(self) -> list[str]:
        for thread in self.threads:
            thread.join()
        return self.served


def test_first_come_first_served():
    lock = FairLock()
    queue = Queue(lock)
    with lock.turn():
        for name in "abcdef":
            queue.join(name)
    assert queue.end() == list("abcdef")


def test_what_comes_first_overtakes_the_others():
    lock = FairLock(patience_s=1000)
    queue = Queue(lock)
    with lock.turn():
        for name in "aBcDeF":
            queue.join(name, first=name.isupper())
    assert queue.end() == list("BDFace")


def test_the_others_wait_no_longer_than_they_have_patience():
    lock = FairLock(patience_s=0)
    queue = Queue(lock)
    with lock.turn():
        for name in "ABc":
            queue.join(name, first=name.isupper())
    assert queue.end() == list("cAB")


def test_whoever_has_it_does_not_get_it_again_before_those_who_wait():
    """As ``threading.Lock`` would, to a thread that does not let go of the interpreter."""
    lock = FairLock()
    queue = Queue(lock)
    with lock.turn():
        queue.join("waits")
    with lock.turn("again"):
        queue.served.append("again")
    assert queue.end() == ["waits", "again"]


def test_who_does_not_get_it_in_time_leaves_the_queue():
    lock = FairLock()
    queue = Queue(lock)
    with lock.turn("long work"):
        with lock.turn(timeout_s=0.01) as is_ours:
            assert not is_ours
        assert lock.waiting == 0
        what, seconds = lock.holder
        assert what == "long work"
        assert seconds > 0
        queue.join("later")
    assert queue.end() == ["later"]
    assert lock.holder == ("", 0.0)


def test_a_turn_that_comes_at_the_last_moment_is_taken(monkeypatch):
    lock = FairLock()
    give_up = lock._give_up
    entered, go_on = threading.Event(), threading.Event()

    def late(*arguments):
        entered.set()
        go_on.wait()
        return give_up(*arguments)

    monkeypatch.setattr(lock, "_give_up", late)
    got = []

    def run():
        with lock.turn("late", timeout_s=0) as is_ours:
            got.append(is_ours)

    thread = threading.Thread(target=run)
    with lock.turn():
        thread.start()
        entered.wait()
    go_on.set()
    thread.join()
    assert got == [True]
    assert lock.holder == ("", 0.0)


def test_who_is_interrupted_leaves_the_queue(monkeypatch):
    lock = FairLock()

    class Interrupted:
        def __init__(self) -> None:
            self.is_first = True

        def acquire(self, **_):
            if not self.is_first:
                raise KeyboardInterrupt
            self.is_first = False

    with lock.turn():
        monkeypatch.setattr("backup_scp.machine.fair_lock.Lock", Interrupted)
        with pytest.raises(KeyboardInterrupt), lock.turn():
            pass
        monkeypatch.undo()
        assert lock.waiting == 0
    assert lock.holder == ("", 0.0)


def test_one_at_a_time_however_many_come():
    lock = FairLock(patience_s=0.001)
    inside, most = 0, 0

    def work(number):
        nonlocal inside, most
        for _ in range(200):
            with lock.turn(first=number % 2 == 0, timeout_s=30) as is_ours:
                assert is_ours
                inside += 1
                most = max(most, inside)
                inside -= 1
            with lock.turn(timeout_s=0):
                pass

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(work, range(8)))
    assert most == 1
    assert (lock.waiting, lock.holder) == (0, ("", 0.0))
