"""Delivery: which versions are sent, which never are, and their outcomes."""

from __future__ import annotations

import errno

import pytest
from pydicom.uid import ImplicitVRLittleEndian

from backup_scp.errors import (
    ArchiveUnavailable,
    DestinationUnavailable,
    DigestMismatch,
    IndexUnavailable,
    InstanceRefused,
)
from backup_scp.ports import Selection
from backup_scp.services.delivery import Delivery, others_of, retrieve
from backup_scp.services.read_ahead import VerifiedReader
from tests.samples import ct_series, dx, encode
from tests.shelf import Shelf

EVERYTHING = Selection(all_versions=True)


@pytest.fixture
def slices(stored):
    """Three stored slices of one series, with their samples in order."""
    samples = [encode(ds) for ds in ct_series(3)]
    for sample in samples:
        stored.put(sample)
    return samples


def delivered(archive, held, destination, record, *others):
    """Retrieve, and yield the outcomes."""
    with VerifiedReader(archive) as outgoing:
        yield from retrieve(outgoing, held, destination, record, *others)


def location_of(stored, sample):
    return next(h.location for h in stored.index.select(EVERYTHING) if h.sop_instance_uid == sample.sop_instance_uid)


def test_each_arrives_byte_for_byte_in_order(stored, slices):
    held = stored.index.select(EVERYTHING)
    with Shelf() as shelf:
        outcomes = list(delivered(stored.archive, held, shelf, stored.index.record_verification))
    assert [outcome.held for outcome in outcomes] == held
    assert {outcome.status for outcome in outcomes} == {Delivery.SENT}
    assert shelf.received == {sample.sop_instance_uid: sample.data_set for sample in slices}


@pytest.mark.parametrize("gone", [True, False])
def test_a_damaged_one_fails_and_never_leaves(stored, slices, gone):
    bad = location_of(stored, slices[1])
    stored.path(bad).unlink() if gone else stored.flip(bad)
    with Shelf() as shelf:
        outcomes = list(
            delivered(stored.archive, stored.index.select(EVERYTHING), shelf, stored.index.record_verification)
        )
    assert [outcome.status for outcome in outcomes] == [Delivery.SENT, Delivery.FAILED, Delivery.SENT]
    assert outcomes[1].reason == str(outcomes[1].cause)
    assert slices[1].sop_instance_uid not in shelf.received


def in_two_encodings(stored):
    """Three slices, the second one also in Implicit VR; return that one's two samples."""
    images = ct_series(3)
    for image in images:
        stored.put(encode(image))
    again = encode(images[1], ImplicitVRLittleEndian)
    stored.put(again, 5)
    return encode(images[1]), again


@pytest.mark.parametrize("gone", [True, False])
def test_in_the_place_of_a_damaged_one_goes_the_same_in_another_encoding(stored, gone):
    """Otherwise the only intact copy would never be sent."""
    first, again = in_two_encodings(stored)
    held = stored.index.select(Selection())
    bad = next(one.location for one in held if one.sha256 == first.sha256)
    stored.path(bad).unlink() if gone else stored.flip(bad)
    with Shelf() as shelf:
        others = others_of(stored.archive, stored.index)
        outcomes = list(delivered(stored.archive, held, shelf, stored.index.record_verification, others))
    assert [outcome.held for outcome in outcomes] == held
    assert [outcome.status for outcome in outcomes] == [Delivery.SENT] * 3
    assert shelf.received[again.sop_instance_uid] == again.data_set
    assert stored.index.is_damaged(bad)  # and a person hears of it


def test_what_says_something_else_never_takes_the_place_of_a_damaged_one(stored):
    first = encode(dx())
    stored.put(first)
    stored.put(encode(dx(PatientName="Other")), 1, calling_ae_title="STRANGER")
    held = stored.index.select(Selection())
    stored.flip(held[0].location)
    with Shelf() as shelf:
        others = others_of(stored.archive, stored.index)
        (outcome,) = delivered(stored.archive, held, shelf, stored.index.record_verification, others)
    assert (outcome.status, held[0].sha256, shelf.received) == (Delivery.FAILED, first.sha256, {})


def test_while_the_index_is_away_nothing_goes_in_its_place(stored, monkeypatch):
    def away(_):
        raise IndexUnavailable("The index is away")

    first, _ = in_two_encodings(stored)
    held = stored.index.select(Selection())
    stored.flip(next(one.location for one in held if one.sha256 == first.sha256))
    monkeypatch.setattr(stored.index, "versions_of", away)
    with Shelf() as shelf:
        others = others_of(stored.archive, stored.index)
        outcomes = list(delivered(stored.archive, held, shelf, stored.index.record_verification, others))
    assert [outcome.status for outcome in outcomes] == [Delivery.SENT, Delivery.FAILED, Delivery.SENT]


@pytest.mark.parametrize("is_away", [True, False])
def test_what_cannot_be_read_either_does_not_go_in_its_place(stored, monkeypatch, is_away):
    first, again = in_two_encodings(stored)
    held = stored.index.select(Selection())
    stored.flip(next(one.location for one in held if one.sha256 == first.sha256))
    other = location_of_version(stored, again)
    if is_away:
        real = stored.archive.read

        def read(location):
            if location == other:
                raise ArchiveUnavailable("Input/output error")
            return real(location)

        monkeypatch.setattr(stored.archive, "read", read)
    else:
        stored.path(other).unlink()
    with Shelf() as shelf:
        others = others_of(stored.archive, stored.index)
        outcomes = list(delivered(stored.archive, held, shelf, stored.index.record_verification, others))
    assert [outcome.status for outcome in outcomes] == [Delivery.SENT, Delivery.FAILED, Delivery.SENT]


def location_of_version(stored, sample):
    return next(one.location for one in stored.index.select(EVERYTHING) if one.sha256 == sample.sha256)


def test_what_was_found_damaged_on_its_way_is_not_followed_by_another(stored):
    """A part of it is with the destination already."""
    first, _ = in_two_encodings(stored)
    held = stored.index.select(Selection())
    with Shelf(answers={first.sop_instance_uid: DigestMismatch("It changed while it was sent")}) as shelf:
        others = others_of(stored.archive, stored.index)
        outcomes = list(delivered(stored.archive, held, shelf, stored.index.record_verification, others))
    assert [outcome.status for outcome in outcomes] == [Delivery.SENT, Delivery.FAILED, Delivery.SENT]
    assert stored.index.is_damaged(location_of_version(stored, first))


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (ArchiveUnavailable("The drive is away"), "The drive is away"),
        (OSError(errno.EIO, "Input/output error"), "A stored file cannot be read (Input/output error)"),
        (OSError(), "A stored file cannot be read (OSError)"),
    ],
)
def test_a_file_that_cannot_be_read_while_it_is_sent_fails_alone(stored, slices, error, reason):
    with Shelf(answers={slices[0].sop_instance_uid: error}) as shelf:
        held = stored.index.select(EVERYTHING)
        outcomes = list(delivered(stored.archive, held, shelf, stored.index.record_verification))
    assert [(one.status, one.reason) for one in outcomes] == [
        (Delivery.FAILED, reason),
        (Delivery.SENT, ""),
        (Delivery.SENT, ""),
    ]


def test_where_both_are_damaged_it_fails(stored):
    in_two_encodings(stored)
    held = stored.index.select(Selection())
    for one in stored.index.select(EVERYTHING):
        stored.flip(one.location)
    with Shelf() as shelf:
        others = others_of(stored.archive, stored.index)
        outcomes = list(delivered(stored.archive, held, shelf, stored.index.record_verification, others))
    assert [outcome.status for outcome in outcomes] == [Delivery.FAILED] * 3
    assert shelf.received == {}


def test_a_refusal_and_a_warning_do_not_stop_the_rest(stored, slices):
    answers = {
        slices[0].sop_instance_uid: InstanceRefused("No room", 0xA700),
        slices[1].sop_instance_uid: "Coerced",
    }
    with Shelf(answers=answers) as shelf:
        outcomes = list(
            delivered(stored.archive, stored.index.select(EVERYTHING), shelf, stored.index.record_verification)
        )
    assert [(o.status, o.reason) for o in outcomes] == [
        (Delivery.FAILED, "No room"),
        (Delivery.WARNING, "Coerced"),
        (Delivery.SENT, ""),
    ]


def test_a_destination_that_goes_away_fails_the_rest(stored, slices):
    answers = {slices[1].sop_instance_uid: DestinationUnavailable("Gone")}
    with Shelf(answers=answers) as shelf:
        outcomes = list(
            delivered(stored.archive, stored.index.select(EVERYTHING), shelf, stored.index.record_verification)
        )
    assert [(o.status, o.reason) for o in outcomes] == [
        (Delivery.SENT, ""),
        (Delivery.FAILED, "Gone"),
        (Delivery.FAILED, "Gone"),
    ]
    assert list(shelf.received) == [slices[0].sop_instance_uid]


def test_it_stops_when_it_is_closed(stored, slices):
    with Shelf() as shelf:
        outcomes = delivered(stored.archive, stored.index.select(EVERYTHING), shelf, stored.index.record_verification)
        next(outcomes)
        outcomes.close()
    assert list(shelf.received) == [slices[0].sop_instance_uid]


def test_a_damaged_one_while_the_index_is_away_ends_nothing(stored, slices):
    """That it is damaged cannot be recorded then: the others are sent all the same."""

    def away(_):
        raise IndexUnavailable("The index is away")

    stored.flip(location_of(stored, slices[0]))
    with Shelf() as shelf:
        outcomes = list(delivered(stored.archive, stored.index.select(EVERYTHING), shelf, away))
    assert [outcome.status for outcome in outcomes] == [Delivery.FAILED, Delivery.SENT, Delivery.SENT]
