"""Reading ahead: in order, within limits, and only compared bytes."""

from __future__ import annotations

import contextlib
import errno
import mmap
import os

import pytest

from backup_scp.errors import DigestMismatch
from backup_scp.machine.digests import Digest, digest_like
from backup_scp.ports import Selection
from backup_scp.services import read_ahead
from backup_scp.services.read_ahead import MEMORY_BYTES, VerifiedReader, compare_again, parts
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
    """Every retrieve gives back its permit."""
    yield
    with contextlib.ExitStack() as all_of_them:
        for _ in range(read_ahead._MOST_ROOMS):
            assert read_ahead._permits.acquire(blocking=False)
            all_of_them.callback(read_ahead._permits.release)
        assert not read_ahead._permits.acquire(blocking=False)


def held_in(stored):
    return stored.index.select(Selection())


def sent(loaded):
    return b"".join(map(bytes, parts(loaded.required())))


@pytest.mark.parametrize("count", range(6))
def test_all_of_it_in_order(stored, count):
    held = held_in(stored)[:count]
    with VerifiedReader(stored.archive) as files:
        found = [(one.held, sent(one)) for one in files.in_order(held)]
    assert [one for one, _ in found] == held
    assert [data for _, data in found] == [sample.data_set for sample in SAMPLES[:count]]


def test_what_is_damaged_fails_alone(stored):
    held = held_in(stored)
    stored.flip(held[2].location)
    with VerifiedReader(stored.archive) as files:
        found = [one.error or sent(one) for one in files.in_order(held)]
    assert isinstance(found.pop(2), DigestMismatch)
    assert found == [sample.data_set for number, sample in enumerate(SAMPLES) if number != 2]


def test_the_next_is_read_ahead_and_no_other(stored):
    """What happens to a file after that no longer counts; it takes the memory of the one before."""
    held = held_in(stored)
    with VerifiedReader(stored.archive) as files:
        rest = files.in_order(held)
        first = next(rest)
        assert sent(first) == SAMPLES[0].data_set
        files.read_ahead()
        files.read_ahead()
        assert sent(first) != SAMPLES[0].data_set
        for one in held:
            stored.flip(one.location)
        assert sent(next(rest)) == SAMPLES[1].data_set
        assert [bool(one.error) for one in rest] == [True, True, True]


def test_whoever_begins_anew_gets_what_it_asks_for_and_not_what_was_read_ahead(stored):
    """A restore sends the same one again after a wait; the next one is in memory by then."""
    held = held_in(stored)
    with VerifiedReader(stored.archive) as files:
        next(files.in_order(held))
        files.read_ahead()
        found = [(one.held, sent(one)) for one in files.in_order(held)]
    assert found == [(one, sample.data_set) for one, sample in zip(held, SAMPLES, strict=True)]


def test_a_large_one_is_not_read_ahead(stored, monkeypatch):
    """The outcome of the instance before it does not wait for its two reads."""
    held = held_in(stored)
    monkeypatch.setattr(read_ahead, "MEMORY_BYTES", held[0].size_bytes)
    held[1] = held[1]._replace(size_bytes=held[0].size_bytes + 1)
    with VerifiedReader(stored.archive) as files:
        rest = files.in_order(held)
        next(rest)
        files.read_ahead()
        stored.flip(held[1].location)
        assert isinstance(next(rest).error, DigestMismatch)
    read_ahead._idle.clear()


def test_what_just_fits_into_memory_is_read_ahead(stored, monkeypatch):
    held = held_in(stored)
    monkeypatch.setattr(read_ahead, "MEMORY_BYTES", max(one.size_bytes for one in held))
    read_ahead._idle.clear()
    with VerifiedReader(stored.archive) as files:
        assert next(files.in_order(held)).required().content is not None
        upcoming = files.read_ahead()
        assert upcoming
        assert upcoming[0].content is not None
    read_ahead._idle.clear()


def test_the_limits_are_those_that_adr_0019_states():
    assert read_ahead.MEMORY_BYTES == 32 << 20
    assert read_ahead._MOST_ROOMS == 8


def test_each_is_compared_by_the_quick_digest_unless_it_is_asked_otherwise(stored, monkeypatch):
    compared: list[int] = []

    def noted(expected: str) -> Digest:
        compared.append(len(expected))
        return digest_like(expected)

    monkeypatch.setattr("backup_scp.archive.stored_files.digest_like", noted)
    for by_sha256 in ({}, {"by_sha256": True}):
        with VerifiedReader(stored.archive, **by_sha256) as files:
            next(files.in_order(held_in(stored)))
    assert compared == [32, 64]


def test_where_the_system_has_no_memory_to_give_it_is_read_twice(stored, monkeypatch):
    def none_left(*_: int) -> None:
        raise OSError(errno.ENOMEM, os.strerror(errno.ENOMEM))

    read_ahead._idle.clear()
    monkeypatch.setattr(mmap, "mmap", none_left)
    with VerifiedReader(stored.archive) as files:
        for one, sample in zip(files.in_order(held_in(stored)), SAMPLES, strict=True):
            assert one.required().content is None
            assert sent(one) == sample.data_set
    read_ahead._idle.clear()


def test_read_ahead_to_the_end(stored):
    held = held_in(stored)
    found = []
    with VerifiedReader(stored.archive) as files:
        files.read_ahead()  # nothing is due yet
        for one in files.in_order(held):
            found.append(sent(one))
            files.read_ahead()
    assert found == [sample.data_set for sample in SAMPLES]


def test_what_is_damaged_and_was_read_ahead_fails_alone(stored):
    held = held_in(stored)
    stored.flip(held[2].location)
    found = []
    with VerifiedReader(stored.archive) as files:
        for one in files.in_order(held):
            found.append(one.error or sent(one))
            files.read_ahead()
    assert isinstance(found.pop(2), DigestMismatch)
    assert found == [sample.data_set for number, sample in enumerate(SAMPLES) if number != 2]


@pytest.mark.parametrize(
    ("size_bytes", "elapsed_s", "is_slow"),
    [(4_000, 0.0005, False), (4_000, 0.012, True), (15_000_000, 0.012, False), (15_000_000, 0.1, True)],
)
def test_a_small_file_is_not_taken_for_a_slow_medium(size_bytes, elapsed_s, is_slow):
    assert read_ahead._was_slow(size_bytes, elapsed_s) is is_slow


@pytest.mark.parametrize("is_slow", [False, True], ids=["all is in memory", "the medium is slow"])
def test_a_slow_medium_is_told_of_the_next_one(stored, monkeypatch, is_slow):
    monkeypatch.setattr(read_ahead, "_was_slow", lambda *_: is_slow)
    held = held_in(stored)
    told: list[str] = []
    monkeypatch.setattr(stored.archive, "announce", told.append)
    with VerifiedReader(stored.archive) as files:
        for number, one in enumerate(files.in_order(held)):
            assert sent(one) == SAMPLES[number].data_set
            assert told == [each.location for each in held[1 : number + 2] if is_slow]


def test_what_is_not_there_may_be_announced(stored):
    for location in ("", "../x", "ab/1.2/3.4/5.6.0123456789ab.dcm"):
        assert stored.archive.announce(location) is None
    held = held_in(stored)
    with VerifiedReader(stored.archive) as files:
        assert [sent(one) for one in files.in_order(held)] == [sample.data_set for sample in SAMPLES]


@pytest.mark.parametrize("count", [1, 2, 5])
def test_the_destination_wants_another_order(stored, count):
    held = held_in(stored)[:count]
    with VerifiedReader(stored.archive) as files:
        found = [(one.held, sent(one)) for one in files.in_order(held[::-1])]
    assert [one for one, _ in found] == held[::-1]
    assert [data for _, data in found] == [sample.data_set for sample in SAMPLES[:count][::-1]]


def test_a_retrieve_may_end_early(stored):
    held = held_in(stored)
    with VerifiedReader(stored.archive) as files:
        for _ in files.in_order(held):
            break


def test_more_at_once_than_there_is_memory_for(stored):
    """Those without memory read twice, and are right all the same."""
    held = held_in(stored)
    with contextlib.ExitStack() as stack:
        every = [stack.enter_context(VerifiedReader(stored.archive)) for _ in range(read_ahead._MOST_ROOMS)]
        for files in every:
            assert [sent(one) for one in files.in_order(held)] == [sample.data_set for sample in SAMPLES]
            assert next(files.in_order(held)).required().content is not None
        without = stack.enter_context(VerifiedReader(stored.archive))
        for number, one in enumerate(without.in_order(held)):
            assert one.required().content is None
            assert sent(one) == SAMPLES[number].data_set


def test_a_large_one_is_read_twice_and_its_change_in_between_found(stored, monkeypatch):
    monkeypatch.setattr(read_ahead, "MEMORY_BYTES", len(SAMPLES[0].data_set) - 2)
    held = held_in(stored)[:1]
    read_ahead._idle.clear()
    with VerifiedReader(stored.archive) as files:
        (one,) = files.in_order(held)
        assert one.required().content is None
        assert sent(one) == SAMPLES[0].data_set
        stored.flip(held[0].location)
        with pytest.raises(DigestMismatch):
            sent(one)
    read_ahead._idle.clear()


def test_a_large_one_of_a_restore_is_compared_twice(stored, monkeypatch):
    monkeypatch.setattr(read_ahead, "MEMORY_BYTES", 0)
    read_ahead._idle.clear()
    with VerifiedReader(stored.archive, by_sha256=True) as files:
        (one,) = files.in_order(held_in(stored)[:1])
        compare_again(one.required())
        assert sent(one) == SAMPLES[0].data_set
        stored.flip(one.held.location)
        with pytest.raises(DigestMismatch):
            compare_again(one.required())
    read_ahead._idle.clear()


def test_memory_is_used_again(stored):
    read_ahead._idle.clear()
    held = held_in(stored)
    for _ in range(3):
        with VerifiedReader(stored.archive) as files:
            assert [sent(one) for one in files.in_order(held)] == [sample.data_set for sample in SAMPLES]
    assert len(read_ahead._idle) <= read_ahead._MOST_IDLE
    assert MEMORY_BYTES >= 1 << 24
