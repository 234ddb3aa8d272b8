"""What waits for a checkpoint: none is lost, none is taken twice."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from backup_scp.ports import StagedFile
from backup_scp.services.due_for_checkpoint import MANY, MUCH, DueForCheckpoint


class Staged:
    """The part of a staged file that counts here."""

    def __init__(self, journal_share: float = 0.0) -> None:
        self.journal_share = journal_share


def add(due: DueForCheckpoint, location: str, journal_share: float = 0.0) -> StagedFile:
    staged: StagedFile = Staged(journal_share)  # type: ignore[assignment]
    due.append(staged, location)
    return staged


def locations(taken) -> list[str]:
    return [location for _, location in taken]


def test_each_is_taken_once_in_its_order():
    due = DueForCheckpoint()
    assert not due.any.is_set()
    staged = [add(due, "one"), add(due, "two")]
    assert due.any.is_set()
    with due.taken() as taken:
        assert taken == list(zip(staged, ["one", "two"], strict=True))
        assert not due.any.is_set()
        add(due, "three")
        assert due.any.is_set()
    assert due.any.is_set(), "one came meanwhile"
    with due.taken() as taken:
        assert locations(taken) == ["three"]
    with due.taken() as taken:
        assert taken == []
    assert not due.any.is_set()


def test_many_begin_a_checkpoint_at_once():
    due = DueForCheckpoint()
    for number in range(MANY - 1):
        add(due, str(number))
    assert not due.many.is_set()
    add(due, "last")
    assert due.many.is_set()
    with due.taken():
        assert not due.many.is_set()
        add(due, "first of the next")
    assert not due.many.is_set()


def test_a_journal_that_is_nearly_full_begins_one_at_once():
    """Before its first file is full; what was flushed for itself takes nothing of it."""
    due = DueForCheckpoint()
    for number in range(3):
        add(due, str(number))
        add(due, str(number), MUCH / 4)
    assert not due.many.is_set()
    add(due, "last", MUCH / 4)
    assert due.many.is_set()
    with due.taken():
        pass
    add(due, "first of the next", MUCH / 2)
    assert not due.many.is_set()


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
def test_what_fails_is_due_again(error):
    due = DueForCheckpoint()
    for number in range(MANY):
        add(due, str(number))

    def fail_after_one_more() -> None:
        with due.taken():
            add(due, "meanwhile")
            raise error

    with pytest.raises(error):
        fail_after_one_more()
    assert due.any.is_set()
    assert due.many.is_set()
    with due.taken() as taken:
        assert sorted(locations(taken)) == sorted([*map(str, range(MANY)), "meanwhile"])


def test_the_share_of_what_failed_counts_again():
    due = DueForCheckpoint()
    add(due, "one", MUCH / 2)
    with pytest.raises(ValueError, match="failed"), due.taken():
        raise ValueError("failed")
    assert not due.many.is_set()
    add(due, "two", MUCH / 2)
    assert due.many.is_set()


def test_one_takes_at_a_time():
    """Another may remove the notes of none that the first one has failed to make durable."""
    due, taken_by_first, go_on = DueForCheckpoint(), threading.Event(), threading.Event()
    add(due, "one")

    def first() -> None:
        with due.taken():
            taken_by_first.set()
            assert go_on.wait(60)
            raise ValueError("failed")

    def second() -> list[str]:
        assert taken_by_first.wait(60)
        began.set()
        with due.taken() as taken:
            return locations(taken)

    began = threading.Event()
    with ThreadPoolExecutor(2) as pool:
        failing, following = pool.submit(first), pool.submit(second)
        assert began.wait(60)
        add(due, "two")
        go_on.set()
        assert sorted(following.result(60)) == ["one", "two"]
        assert isinstance(failing.exception(60), ValueError)


def test_many_threads_lose_none():
    due, found, is_over = DueForCheckpoint(), list[str](), threading.Event()

    def take() -> None:
        while not is_over.is_set():
            due.any.wait()
            with due.taken() as taken:
                found.extend(locations(taken))

    taker = threading.Thread(target=take)
    taker.start()
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda number: add(due, str(number)), range(2000)))
    is_over.set()
    due.any.set()
    taker.join()
    with due.taken() as rest:
        assert sorted([*found, *locations(rest)], key=int) == [str(number) for number in range(2000)]
