"""Storage Commitment that waits for further copies: nothing is committed before enough of them have it."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import pytest

from backup_scp.errors import DestinationUnavailable
from backup_scp.ports import CommitmentRequest, Reference
from backup_scp.services.commitment import StorageCommitment
from backup_scp.services.commitment_verification import CopiesNeeded
from tests.samples import cr, ct_series, dx, encode
from tests.samples import replace as with_elements
from tests.services.faulty_place import FaultyPlace
from tests.services.test_commitment import (
    CHANGED,
    CONFLICT,
    CONSOLE,
    MISSING,
    PACE,
    START,
    UNSUPPORTED,
    VERIFICATION,
    Clock,
    Ear,
)
from tests.services.test_copying import filled, made

__all__ = ["made"]

DRIVE, CLOUD = "drive", "cloud"
ONE = CopiesNeeded(1, 0, frozenset({DRIVE, CLOUD}), frozenset({CLOUD}))
TWO, OFF_SITE = replace(ONE, copies=2), replace(ONE, copies=0, off_site=1)


@pytest.fixture
def place():
    return FaultyPlace(DRIVE)


@pytest.fixture
def copied(made):
    """Bring everything that is stored to the copies with these names."""

    def copied(*names: str) -> None:
        for name in names:
            one = FaultyPlace(name)
            filled(made(one), one)

    return copied


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def ask(stored, clock):
    """Store a request for samples, or pairs; return the commitments of a node that waits for so many copies."""

    def ask(needed: CopiesNeeded, *wanted) -> StorageCommitment:
        commitment = StorageCommitment(stored.archive, stored.index, VERIFICATION.__ne__, PACE, clock, needed=needed)
        pairs = (one if isinstance(one, tuple) else (one.sop_class_uid, one.sop_instance_uid) for one in wanted)
        references = tuple(Reference(*pair) for pair in pairs)
        commitment.request(CommitmentRequest("1.2.3", references, CONSOLE, clock()))
        return commitment

    return ask


def results(commitment) -> list | None:
    """Judge the request; return the reasons of its report, None while there is none."""
    assert commitment.judge_next()
    ear = Ear()
    return [reason for _, reason in ear.results] if commitment.report_next(ear) else None


@pytest.mark.parametrize(
    ("needed", "names"),
    [
        (ONE, [DRIVE]),
        (ONE, [CLOUD]),
        (TWO, [DRIVE, CLOUD]),
        (OFF_SITE, [CLOUD]),
        (replace(TWO, off_site=1), [CLOUD, DRIVE]),
    ],
)
def test_it_is_committed_as_soon_as_enough_copies_have_it(stored, clock, ask, copied, needed, names):
    sample = encode(dx())
    stored.put(sample)
    commitment = ask(needed, sample)
    for name in names:
        assert results(commitment) is None
        assert not commitment.judge_next()  # later, not at once
        copied(name)
        clock.pass_(seconds=2)
    assert results(commitment) == [None]


@pytest.mark.parametrize(
    ("needed", "names"),
    [(TWO, [DRIVE]), (TWO, [DRIVE, DRIVE]), (OFF_SITE, [DRIVE]), (TWO, [DRIVE, "forgotten"]), (ONE, ["forgotten"])],
)
def test_other_copies_are_not_enough(stored, clock, ask, copied, needed, names):
    """Neither one of the two, nor one that is not off-site, nor one that is in the settings no more."""
    sample = encode(dx())
    stored.put(sample)
    copied(*names)
    commitment = ask(needed, sample)
    for _ in range(5):
        assert results(commitment) is None
        clock.pass_(hours=1)


def test_a_copy_that_lost_it_does_not_count(stored, clock, ask, made, place):
    sample = encode(dx())
    stored.put(sample)
    copying = made(place)
    copy = filled(copying, place)
    place.objects.clear()
    with place:
        copying.compare(copy)
    commitment = ask(ONE, sample)
    assert results(commitment) is None
    filled(copying, place)
    clock.pass_(minutes=1)
    assert results(commitment) == [None]


def test_after_some_days_only_what_lacks_copies_fails(stored, clock, ask, copied):
    there, gone, not_there = (encode(ds) for ds in ct_series(3))
    location = stored.put(gone).location
    stored.put(there, 1)
    copied(DRIVE)
    stored.put(not_there, 2)
    stored.path(location).unlink()
    never = (there.sop_class_uid, "1.2.3.4")
    commitment = ask(ONE, there, not_there, gone, never, (VERIFICATION, "1.2.3.5"), there)
    for age in (timedelta(minutes=10), PACE.give_up - timedelta(microseconds=1)):
        clock.now = START + age
        assert results(commitment) is None
    clock.now = START + PACE.give_up + timedelta(minutes=5)
    assert results(commitment) == [None, CHANGED, MISSING, MISSING, UNSUPPORTED, None]


def test_what_is_damaged_says_so_although_it_lacks_copies(stored, clock, ask):
    sample = encode(dx())
    location = stored.put(sample).location
    commitment = ask(ONE, sample)
    stored.path(location).unlink()
    clock.pass_(days=2)
    assert results(commitment) == [MISSING]


def test_a_version_of_another_sop_class_is_not_asked_for(stored, ask, copied):
    theirs = encode(dx())
    mine = encode(with_elements(cr(), SOPInstanceUID=theirs.sop_instance_uid))
    stored.put(theirs, calling_ae_title="OTHER")
    copied(DRIVE)
    stored.put(mine, 1)
    assert results(ask(ONE, theirs)) == [None]


def test_what_is_here_as_another_sop_class_alone_is_not_waited_for(stored, ask):
    sample = encode(dx())
    stored.put(sample)
    assert results(ask(ONE, (encode(cr()).sop_class_uid, sample.sop_instance_uid))) == [CONFLICT]


def test_every_version_that_counts_needs_its_copies(stored, clock, ask, copied):
    """The requester wants to delete its own one, which is not the one that answers queries."""
    theirs, mine = (encode(dx(StudyDescription=text)) for text in ("One", "Two"))
    stored.put(theirs, calling_ae_title="OTHER")
    copied(DRIVE)
    stored.put(mine, 1)
    commitment = ask(ONE, mine)
    assert results(commitment) is None
    copied(DRIVE)
    clock.pass_(seconds=2)
    assert results(commitment) == [None]


@pytest.mark.parametrize("lacking", [0, 2, 4])
def test_all_batches_of_a_long_request_need_copies(stored, clock, ask, copied, monkeypatch, lacking):
    monkeypatch.setattr("backup_scp.services.commitment_verification._BATCH", 2)
    samples = [encode(ds) for ds in ct_series(5)]
    for sample in (one for one in samples if one is not samples[lacking]):
        stored.put(sample)
    copied(DRIVE)
    stored.put(samples[lacking], 9)
    commitment = ask(ONE, *samples)
    assert results(commitment) is None
    copied(DRIVE)
    clock.pass_(seconds=2)
    assert results(commitment) == [None] * 5


def test_its_bytes_are_read_after_the_copies_have_it(stored, clock, ask, copied):
    """A proof is as fresh as the report."""
    sample = encode(dx())
    location = stored.put(sample).location
    commitment = ask(ONE, sample)
    assert results(commitment) is None
    copied(DRIVE)
    stored.flip(location)
    clock.pass_(seconds=2)
    assert results(commitment) == [CHANGED]


@pytest.mark.parametrize(("age_s", "pause_s"), [(0, 2), (20, 5), (800, 200), (1200, 300), (90_000, 300)])
def test_copies_are_looked_for_again_after_a_pause_that_grows(stored, clock, ask, age_s, pause_s):
    """Hundreds of requests may wait for a drive that is away for days."""
    sample = encode(dx())
    stored.put(sample)
    commitment = ask(ONE, sample)
    clock.pass_(seconds=age_s)
    assert commitment.judge_next()
    clock.pass_(seconds=pause_s - 0.001)
    assert not commitment.judge_next()
    clock.pass_(seconds=0.001)
    assert commitment.judge_next()


def test_a_console_that_is_off_when_the_waiting_ends_gets_its_report_later(stored, clock, ask):
    sample = encode(dx())
    stored.put(sample)
    commitment = ask(ONE, sample)
    clock.pass_(days=2)
    assert commitment.judge_next()
    ear = Ear(*[DestinationUnavailable("off")] * 8)
    while not ear.taken and clock() < START + 2 * PACE.give_up:
        commitment.report_next(ear)
        clock.pass_(minutes=30)
    assert [reason for _, reason in ear.results] == [CHANGED]


def test_a_node_without_copies_asks_for_none(stored, ask):
    sample = encode(dx())
    stored.put(sample)
    assert results(ask(CopiesNeeded(), sample)) == [None]
