"""Reading in threads: in order, several at once, each in memory of its own, and only compared bytes."""

from __future__ import annotations

import threading
from concurrent.futures import wait
from typing import Any

import pytest

from backup_scp.errors import DigestMismatch
from backup_scp.ports import Selection
from backup_scp.services import read_ahead
from backup_scp.services.parallel_reader import READERS, ParallelReader
from backup_scp.services.read_ahead import parts
from tests.processes import wait_until
from tests.samples import ct_series, encode
from tests.stored import stored_in

SAMPLES = [encode(ds) for ds in ct_series(READERS + 4)]
_GIVE_UP_S = 30.0


@pytest.fixture
def stored(tmp_path):
    with stored_in(tmp_path) as stored:
        for sample in SAMPLES:
            stored.put(sample)
        yield stored


@pytest.fixture(autouse=True)
def leaves_no_thread():
    yield
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("read")]


def held_in(stored):
    return stored.index.select(Selection())


def sent(loaded):
    return b"".join(map(bytes, parts(loaded.required())))


@pytest.mark.parametrize("count", range(len(SAMPLES) + 1))
def test_all_of_it_in_order(stored, count):
    held = held_in(stored)[:count]
    with ParallelReader(stored.archive) as files:
        found = [(one.held, sent(one)) for one in files.in_order(held)]
    assert [one for one, _ in found] == held
    assert [data for _, data in found] == [sample.data_set for sample in SAMPLES[:count]]


def test_several_are_read_at_once(stored, monkeypatch):
    """Each of the first loads ends only when all of them have begun."""
    together, load, count = threading.Barrier(READERS), stored.archive.load, iter(range(len(SAMPLES)))

    def meeting(*given, **by_name):
        if next(count) < READERS:
            together.wait(_GIVE_UP_S)
        return load(*given, **by_name)

    monkeypatch.setattr(stored.archive, "load", meeting)
    with ParallelReader(stored.archive) as files:
        assert [sent(one) for one in files.in_order(held_in(stored))] == [sample.data_set for sample in SAMPLES]


def test_no_more_are_read_than_there_is_memory_for(stored, monkeypatch):
    begun, load = [], stored.archive.load

    def noted(*given, **by_name):
        begun.append(given)
        return load(*given, **by_name)

    monkeypatch.setattr(stored.archive, "load", noted)
    with ParallelReader(stored.archive) as files:
        rest = files.in_order(held_in(stored))
        first = next(rest)
        wait_until(lambda: len(begun) == READERS + 1)
        wait_until(files.read_ahead)
        assert sent(first) == SAMPLES[0].data_set
        assert len(begun) == READERS + 1
        assert [sent(one) for one in rest] == [sample.data_set for sample in SAMPLES[1:]]


def test_what_is_damaged_fails_alone(stored):
    held = held_in(stored)
    stored.flip(held[2].location)
    with ParallelReader(stored.archive, by_sha256=True) as files:
        found = [one.error or sent(one) for one in files.in_order(held)]
    assert isinstance(found.pop(2), DigestMismatch)
    assert found == [sample.data_set for number, sample in enumerate(SAMPLES) if number != 2]


def test_another_version_can_be_read_between(stored):
    held = held_in(stored)
    with ParallelReader(stored.archive) as files:
        rest = files.in_order(held[:-1])
        next(rest)
        assert sent(files.load(held[-1])) == SAMPLES[-1].data_set
        assert [sent(one) for one in rest] == [sample.data_set for sample in SAMPLES[1:-1]]


def test_the_next_one_is_told_when_it_is_in_memory_and_intact(stored):
    held = held_in(stored)[:3]
    stored.flip(held[2].location)
    with ParallelReader(stored.archive) as files:
        assert files.read_ahead() is None
        rest = files.in_order(held)
        next(rest)
        upcoming = wait_until(files.read_ahead)
        assert upcoming is not None
        file, following = upcoming
        assert (file.sha256, following) == (SAMPLES[1].sha256, held[1])
        assert file.content is not None
        assert file.content.tobytes() == SAMPLES[1].data_set
        next(rest)
        wait_until(files._coming[0][2].done)
        assert files.read_ahead() is None  # it is damaged
        assert isinstance(next(rest).error, DigestMismatch)
        assert files.read_ahead() is None  # it was the last


def test_what_is_still_being_read_is_not_waited_for(stored, monkeypatch):
    """The answer of the peer, or a C-CANCEL, would have to wait, also when a later one is in memory by now."""
    gate, load, held = threading.Event(), stored.archive.load, held_in(stored)

    def slow(location, *given, **by_name):
        if location == held[1].location:
            gate.wait(_GIVE_UP_S)
        return load(location, *given, **by_name)

    monkeypatch.setattr(stored.archive, "load", slow)
    with ParallelReader(stored.archive) as files:
        rest = files.in_order(held)
        next(rest)
        wait_until(files._coming[-1][2].done)
        assert files.read_ahead() is None
        gate.set()
        assert [sent(one) for one in rest] == [sample.data_set for sample in SAMPLES[1:]]


def test_whoever_begins_anew_gets_what_it_asks_for(stored):
    held = held_in(stored)
    with ParallelReader(stored.archive) as files:
        next(files.in_order(held))
        found = [(one.held, sent(one)) for one in files.in_order(held)]
    assert found == [(one, sample.data_set) for one, sample in zip(held, SAMPLES, strict=True)]


def test_an_interruption_ends_the_threads(stored):
    with pytest.raises(KeyboardInterrupt):  # noqa: SIM117, PT012 - within both
        with ParallelReader(stored.archive) as files:
            next(files.in_order(held_in(stored)))
            raise KeyboardInterrupt


@pytest.mark.parametrize(
    ("given", "by_sha256"), [({}, False), ({"by_sha256": False}, False), ({"by_sha256": True}, True)]
)
def test_it_compares_by_the_requested_digest(stored, monkeypatch, given, by_sha256):
    load, asked = stored.archive.load, []

    def noted(*where, by_sha256):
        asked.append(by_sha256)
        return load(*where, by_sha256=by_sha256)

    monkeypatch.setattr(stored.archive, "load", noted)
    with ParallelReader(stored.archive, **given) as files:
        for _ in files.in_order(held_in(stored)):
            pass
    assert asked == [by_sha256] * len(SAMPLES)


def test_what_is_read_between_has_memory_which_is_given_back(stored):
    """So it is read once, also after more commands than there is memory for."""
    held = held_in(stored)
    for _ in range(read_ahead._MOST_ROOMS + 1):
        with ParallelReader(stored.archive) as files:
            assert files.load(held[0]).required().content is not None


def test_whoever_ends_early_waits_for_what_is_being_read(stored, monkeypatch):
    """Otherwise two threads would write into the same memory."""
    gate, begun, ended = threading.Event(), [], []
    load, held = stored.archive.load, held_in(stored)

    def slow(location, *given, **by_name):
        begun.append(location)
        if location != held[0].location:
            gate.wait(_GIVE_UP_S)
        ended.append(location)
        return load(location, *given, **by_name)

    def opening(futures):
        gate.set()
        return wait(futures)

    monkeypatch.setattr(stored.archive, "load", slow)
    monkeypatch.setattr("backup_scp.services.parallel_reader.wait", opening)
    with ParallelReader(stored.archive) as files:
        rest: Any = files.in_order(held)
        next(rest)
        wait_until(lambda: len(begun) == READERS + 1)
        rest.close()
        still_read = set(begun) - set(ended)
        gate.set()
    assert not still_read
