"""What leaves the archive: in order, read ahead within bounds, and exactly what was compared."""

from __future__ import annotations

import contextlib
import threading

import pytest

from backup_scp import outgoing
from backup_scp.errors import DigestMismatch
from backup_scp.outgoing import MEMORY_BYTES, Outgoing, parts
from backup_scp.ports import Selection
from tests.processes import wait_until
from tests.samples import ct_series, encode
from tests.stored import stored_in

SAMPLES = [encode(ds) for ds in ct_series(5)]


@pytest.fixture
def stored(tmp_path):
    with stored_in(tmp_path) as stored:
        for sample in SAMPLES:
            stored.put(sample)
        yield stored


@pytest.fixture(autouse=True)
def leaves_nothing():
    """Every reader ends, and gives back its permit."""
    yield
    for thread in threading.enumerate():
        if thread.name == "outgoing":
            thread.join(60)
            assert not thread.is_alive()
    with contextlib.ExitStack() as all_of_them:
        for _ in range(outgoing._MOST_AHEAD):
            assert outgoing._permits.acquire(blocking=False)
            all_of_them.callback(outgoing._permits.release)
        assert not outgoing._permits.acquire(blocking=False)


def held_in(stored):
    return stored.index.select(Selection())


def sent(loaded):
    return b"".join(map(bytes, parts(loaded.required())))


@pytest.mark.parametrize("count", range(6))
def test_all_of_it_in_order(stored, count):
    held = held_in(stored)[:count]
    with Outgoing(stored.archive, held) as files:
        found = [(one.held, sent(one)) for one in files.in_order(held)]
    assert [one for one, _ in found] == held
    assert [data for _, data in found] == [sample.data_set for sample in SAMPLES[:count]]


def test_what_is_damaged_fails_alone(stored):
    held = held_in(stored)
    stored.flip(held[2].location)
    with Outgoing(stored.archive, held) as files:
        found = [one.error or sent(one) for one in files.in_order(held)]
    assert isinstance(found.pop(2), DigestMismatch)
    assert found == [sample.data_set for number, sample in enumerate(SAMPLES) if number != 2]


def test_the_next_is_read_while_one_is_sent(stored):
    """What happens to a file after that no longer counts; two are in memory, not more."""
    held = held_in(stored)
    with Outgoing(stored.archive, held) as files:
        rest = files.in_order(held)
        first = next(rest)
        wait_until(lambda: not files._readers[1].ready.empty())
        for one in held:
            stored.flip(one.location)
        assert sent(first) == SAMPLES[0].data_set
        second, *others = rest
        assert [bool(second.error), *(bool(one.error) for one in others)] == [False, True, True, True]


@pytest.mark.parametrize("count", [1, 2, 5])
def test_the_destination_wants_another_order(stored, count):
    held = held_in(stored)[:count]
    with Outgoing(stored.archive, held) as files:
        found = [(one.held, sent(one)) for one in files.in_order(held[::-1])]
    assert [one for one, _ in found] == held[::-1]
    assert [data for _, data in found] == [sample.data_set for sample in SAMPLES[:count][::-1]]


def test_a_retrieve_may_end_early(stored):
    held = held_in(stored)
    with Outgoing(stored.archive, held) as files:
        for _ in files.in_order(held):
            break


def test_more_at_once_than_there_is_memory_for(stored):
    """Those without memory read twice, and are right all the same."""
    held = held_in(stored)
    with contextlib.ExitStack() as stack:
        every = [stack.enter_context(Outgoing(stored.archive, held)) for _ in range(outgoing._MOST_AHEAD)]
        assert sum(len(files._readers) for files in every) == outgoing._MOST_AHEAD
        for files in every:
            assert [sent(one) for one in files.in_order(held)] == [sample.data_set for sample in SAMPLES]
        (without,) = Outgoing(stored.archive, held[:1]).in_order(held[:1])
        assert without.required().content is None


def test_a_large_one_is_read_twice_and_its_change_in_between_found(stored, monkeypatch):
    monkeypatch.setattr(outgoing, "MEMORY_BYTES", len(SAMPLES[0].data_set) - 2)
    held = held_in(stored)[:1]
    outgoing._idle.clear()
    with Outgoing(stored.archive, held) as files:
        (one,) = files.in_order(held)
        assert one.required().content is None
        assert sent(one) == SAMPLES[0].data_set
        stored.flip(held[0].location)
        with pytest.raises(DigestMismatch):
            sent(one)
    outgoing._idle.clear()


def test_memory_is_used_again(stored):
    outgoing._idle.clear()
    held = held_in(stored)
    for _ in range(3):
        with Outgoing(stored.archive, held) as files:
            assert [sent(one) for one in files.in_order(held)] == [sample.data_set for sample in SAMPLES]
    assert len(outgoing._idle) <= outgoing._MOST_IDLE
    assert MEMORY_BYTES >= 1 << 24
