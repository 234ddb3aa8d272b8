"""The Storage SCU, and a remote AE as destination: how they send and read answers (PS3.4 B, C.4.2.3)."""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import struct
import threading
from datetime import UTC, datetime

import pytest

import backup_scp.dicom.transcode
from backup_scp.dicom.transcode import padding
from backup_scp.dicom.uid_names import uid_name
from backup_scp.dimse.association.association import Interrupted, LocalAE
from backup_scp.dimse.scu import storage_scu, transcoding
from backup_scp.dimse.scu.remote_ae_destination import RemoteAEDestination
from backup_scp.dimse.scu.storage_scu import MoveOriginator
from backup_scp.errors import (
    ArchiveUnavailable,
    DestinationSilent,
    DestinationUnavailable,
    DigestMismatch,
    InstanceRefused,
    InstanceUnconfirmed,
    NoRoom,
    NothingAccepted,
)
from backup_scp.ports import ArchivedFile, Arrival, Heading, RemoteAE, StoredVersion
from tests import samples
from tests.dimse.conftest import PATIENT
from tests.dimse.wire import CT_IMAGE_STORAGE, EXPLICIT, IMPLICIT, TIMEOUT_S, number

BIG_ENDIAN, DEFLATED = "1.2.840.10008.1.2.2", "1.2.840.10008.1.2.1.99"


def held(sop_class=CT_IMAGE_STORAGE, syntax=EXPLICIT, uid="1.2.3", data=b""):
    return StoredVersion("1", "2", uid, sop_class, syntax, "x.dcm", hashlib.sha256(data).hexdigest(), len(data), NOW)


NOW = datetime(2026, 1, 1, tzinfo=UTC)


@pytest.fixture
def stored(tmp_path):
    """Return ``stored(sample)``: a file and its row."""

    def make(sample):
        path = tmp_path / f"{sample.sop_instance_uid}.dcm"
        path.write_bytes(b"HEADER" + sample.data_set)
        heading = Heading(sample.sop_class_uid, sample.sop_instance_uid, sample.transfer_syntax_uid)
        file = ArchivedFile(
            "x", heading, Arrival(NOW, "IMPORT"), sample.sha256, len(sample.data_set), 6, path, lambda: path.open("rb")
        )
        row = held(sample.sop_class_uid, sample.transfer_syntax_uid, sample.sop_instance_uid, sample.data_set)
        return file, row

    return make


@pytest.fixture
def transcoded(monkeypatch):
    """Return ``transcoded()``: of each Data Set that was transcoded, whether it is closed by now."""
    results = []

    def transcode(*arguments):
        results.append(real(*arguments))
        return results[-1]

    def closed():
        for thread in threading.enumerate():
            if thread.name == "transcode":
                thread.join(TIMEOUT_S)
        return [result.data_set.closed for result in results]

    real = backup_scp.dicom.transcode.transcode
    monkeypatch.setattr(transcoding, "transcode", transcode)
    return closed


def remote(destination, timing=PATIENT):
    return RemoteAEDestination(
        LocalAE("BACKUP_SCP", timing),
        RemoteAE("there", "THERE", "127.0.0.1", destination.port),
        MoveOriginator("VIEWER", 77),
    )


CT = [samples.encode(ds, EXPLICIT) for ds in samples.ct_series(3)]


@pytest.mark.parametrize("maximum_length", [0, 100, 16384])
def test_stored_bytes_arrive_as_they_are_with_their_originator(destination, stored, maximum_length):
    there = destination(maximum_length=maximum_length)
    files = [stored(sample) for sample in CT]
    with remote(there) as scu:
        for file, row in zip([f for f, _ in files], scu.prepare([row for _, row in files]), strict=True):
            assert scu.send(file, row) is None
    assert [one.message.data_set for one in there.stored] == [sample.data_set for sample in CT]
    assert [number(one.message.elements, 0x0110) for one in there.stored] == [1, 2, 3]
    for one in there.stored:
        assert one.transfer_syntax == EXPLICIT
        assert one.message.elements[0x1030] == b"VIEWER"
        assert number(one.message.elements, 0x1031) == 77
        assert number(one.message.elements, 0x0700) == 0
        assert one.message.longest_pdu <= (maximum_length or 1 << 20)
    assert there.called == ["THERE"]
    there.close()
    assert there.ended == ["ReleasedError"]


def test_message_ids_begin_again_before_they_are_too_long(destination, stored):
    there = destination()
    file, row = stored(CT[0])
    with remote(there) as scu:
        scu.prepare([row])
        assert scu._open
        scu._open[2]._message_id = 0xFFFD
        for _ in range(4):
            scu.send(file, row)
    there.close()
    assert [number(one.message.elements, 0x0110) for one in there.stored] == [0xFFFE, 0xFFFF, 1, 2]


def test_an_empty_data_set(destination, stored):
    there = destination()
    file, row = stored(samples.Sample("", CT_IMAGE_STORAGE, "1.2.3", EXPLICIT, b""))
    with remote(there) as scu:
        scu.prepare([row])
        scu.send(file, row)
    assert there.stored[0].message.data_set == b""


def test_a_destination_that_takes_only_implicit_gets_it_transcoded(destination, stored):
    there = destination(accepts=lambda _, transfer: transfer == IMPLICIT)
    file, row = stored(CT[0])
    with remote(there) as scu:
        scu.prepare([row])
        scu.send(file, row)
    assert there.stored[0].transfer_syntax == IMPLICIT
    assert there.stored[0].message.data_set != CT[0].data_set
    assert CT[0].dataset().PixelData in there.stored[0].message.data_set


def test_warnings_and_refusals(destination, stored):
    statuses = {CT[0].sop_instance_uid: 0xB000, CT[1].sop_instance_uid: 0xA700, CT[2].sop_instance_uid: 0}
    there = destination(status=statuses.__getitem__)
    (warned, refused, taken) = [stored(sample) for sample in CT]
    with remote(there) as scu:
        scu.prepare([warned[1], refused[1], taken[1]])
        assert scu.send(*warned) == "The destination answered status 0xB000: because"
        with pytest.raises(InstanceRefused, match="status 0xA700: because") as error:
            scu.send(*refused)
        assert error.value.status == 0xA700
        assert scu.send(*taken) is None
    assert len(there.proposed) == 1


@pytest.mark.parametrize(("status", "error"), [(0xA700, NoRoom), (0xA7FF, NoRoom), (0xA900, InstanceRefused)])
def test_a_destination_without_room_is_told_from_one_that_refuses(destination, stored, status, error):
    file, row = stored(CT[0])
    with remote(destination(status=lambda _: status)) as scu:
        scu.prepare([row])
        with pytest.raises(InstanceRefused) as raised:
            scu.send(file, row)
    assert type(raised.value) is error


def test_a_destination_says_what_it_is(destination, stored):
    """Else what another implementation at the same place has confirmed would count."""
    file, row = stored(CT[0])
    with remote(destination()) as scu:
        assert scu.implementation == ""
        scu.prepare([row])
        scu.send(file, row)
        assert scu.implementation == "1.2.3"


NOT_CONFIRMED = {
    "no Status": (lambda answer: answer.pop(0x0900), "an answer without a Status"),
    "a Status of 4 bytes": (lambda answer: answer.update({0x0900: b"\0\xa7\0\0"}), "a Status of 4 bytes"),
    "an empty Status": (lambda answer: answer.update({0x0900: b""}), "a Status of 0 bytes"),
    "another message": (lambda answer: answer.update({0x0120: 999}), "an answer to message 999"),
    "another instance": (lambda answer: answer.update({0x1000: "1.2.3"}), "an answer about another SOP Instance"),
}


@pytest.mark.parametrize(("change", "words"), NOT_CONFIRMED.values(), ids=NOT_CONFIRMED)
def test_only_an_answer_with_a_status_to_this_request_confirms(destination, stored, change, words):
    """PS3.7 9.1.1.1 and 9.3.1.2: no other response confirms the instance; the next one gets a new Association."""
    there = destination()
    there.meddles = lambda answer: change(answer) if len(there.stored) == 2 else None
    files = [stored(sample) for sample in CT]
    with remote(there) as scu:
        scu.prepare([row for _, row in files])
        assert scu.send(*files[0]) is None
        with pytest.raises(InstanceRefused, match=f"did not confirm it: it sent {words}"):
            scu.send(*files[1])
        assert scu.send(*files[2]) is None
    there.close()
    assert [one.association for one in there.stored] == [1, 1, 2]
    assert there.ended == ["ConnectionAbortedError", "ReleasedError"]


def test_an_answer_need_not_name_its_instance(destination, stored):
    there = destination(meddles=lambda answer: answer.pop(0x1000))
    file, row = stored(CT[0])
    with remote(there) as scu:
        scu.prepare([row])
        assert scu.send(file, row) is None


def test_a_sop_class_that_is_not_accepted(destination, stored):
    there = destination(accepts=lambda abstract, _: abstract == CT_IMAGE_STORAGE)
    taken, refused = stored(CT[0]), stored(samples.encode(samples.dx()))
    with remote(there) as scu:
        scu.prepare([refused[1], taken[1]])
        with pytest.raises(InstanceRefused, match=f"does not accept {uid_name(refused[1].sop_class_uid)}"):
            scu.send(*refused)
        scu.send(*taken)


def test_what_is_accepted_is_asked_again_with_other_contexts(destination, stored):
    """A restore reads the index in batches: the next one may bring a SOP Class that the destination takes."""
    there = destination(accepts=lambda abstract, _: abstract != CT_IMAGE_STORAGE)
    refused, taken = stored(CT[0]), stored(samples.encode(samples.dx()))
    with remote(there) as scu:
        with pytest.raises(NothingAccepted):
            scu.prepare([refused[1]])
        scu.prepare([taken[1]])
        assert scu.send(*taken) is None
    assert [one.sop_instance_uid for one in there.stored] == [taken[1].sop_instance_uid]


def test_a_sop_class_of_a_later_batch_gets_an_association_that_has_it(destination, stored):
    there = destination()
    first, later = stored(CT[0]), stored(samples.encode(samples.dx()))
    with remote(there) as scu:
        for file, row in (first, later):
            scu.prepare([row])
            assert scu.send(file, row) is None
    there.close()
    assert [one.association for one in there.stored] == [1, 2]
    assert there.ended == ["ReleasedError", "ReleasedError"]


def test_ctrl_c_aborts_since_a_message_may_be_incomplete(destination, stored):
    there = destination()
    file, row = stored(CT[0])
    scu = remote(there)
    scu.prepare([row])
    assert scu.send(file, row) is None
    scu.__exit__(KeyboardInterrupt, KeyboardInterrupt(), None)
    there.close()
    assert there.ended == ["ConnectionAbortedError"]


def test_what_was_interrupted_is_not_released(destination, stored):
    """A C-CANCEL came: the Association still waits for an answer, so it can only be aborted."""
    go_on = threading.Event()
    there = destination(before_answer=go_on.wait)

    def watch():
        if there.stored:
            go_on.set()
            raise Interrupted

    file, row = stored(CT[0])
    with RemoteAEDestination(
        LocalAE("BACKUP_SCP", PATIENT), RemoteAE("there", "THERE", "127.0.0.1", there.port), watch=watch
    ) as scu:
        scu.prepare([row])
        with pytest.raises(Interrupted):
            scu.send(file, row)
    there.close()
    assert len(there.ended) == 1
    assert there.ended != ["ReleasedError"]


@pytest.mark.parametrize("syntax", [EXPLICIT, BIG_ENDIAN, DEFLATED])
def test_a_destination_that_loses_explicit_vr_is_offered_none_of_its_kinds(destination, stored, syntax):
    there = destination(dies_on=lambda one: one.transfer_syntax != IMPLICIT)
    file, row = stored(samples.encode(samples.ct_series(1)[0], syntax))
    with remote(there) as scu:
        for _ in range(3):
            scu.prepare([row])
            scu.send(file, row)
    there.close()
    assert [one.transfer_syntax for one in there.stored] == [syntax, IMPLICIT, syntax, IMPLICIT, IMPLICIT]
    assert there.proposed[-1] == [(CT_IMAGE_STORAGE, [IMPLICIT])]


def test_after_an_abort_it_does_not_wait_for_the_destination(destination, stored, monkeypatch):
    """Which is silent or broken by then; this one closes the connection when it is closed at our end."""
    monkeypatch.setattr("backup_scp.dimse.upper_layer.association_control._LINGER_S", 3600)

    def read_to_the_end(connection):
        while connection.recv(4096):
            pass

    there = destination(before_close=read_to_the_end)
    file, row = stored(CT[0])
    scu = remote(there)
    scu.prepare([row])
    assert scu.send(file, row) is None
    scu.__exit__(KeyboardInterrupt, KeyboardInterrupt(), None)
    there.close()
    assert there.ended == ["ConnectionAbortedError"]


@pytest.mark.parametrize("size", [0, 1])
def test_what_is_of_even_length_is_sent_from_the_memory_that_was_compared(destination, stored, size, monkeypatch):
    """Its Data Set is read a second time only to find the place of a missing byte."""
    file, row = stored(samples.Sample("", CT_IMAGE_STORAGE, "1.2.3", EXPLICIT, CT[0].data_set + bytes(size)))
    opened: list[int] = []

    def noted(stream, transfer_syntax_uid, size_bytes):
        opened.append(size_bytes)
        return padding(stream, transfer_syntax_uid, size_bytes)

    monkeypatch.setattr(storage_scu, "padding", noted)
    with remote(destination()) as scu:
        scu.prepare([row])
        scu.send(file, row)
    assert len(opened) == size


def test_what_cannot_be_proposed_changes_nothing_for_the_others(destination, stored):
    there = destination()
    bad, row = stored(samples.Sample("", "", "1.2.3", EXPLICIT, b"ab"))[1], stored(CT[0])[1]
    with remote(there) as scu:
        scu.expect(row)
        assert scu.prepare([bad]) == [bad]
        assert scu.prepare([bad, row]) == [bad, row]
        scu.send(*stored(CT[0]))
    there.close()
    assert len(there.proposed) == 1


def test_a_sop_class_that_cannot_be_proposed(destination, stored):
    there = destination()
    file, row = stored(samples.Sample("", "", "1.2.3", EXPLICIT, b"ab"))
    with remote(there) as scu:
        assert scu.prepare([row]) == [row]
        with pytest.raises(InstanceRefused, match="cannot be proposed"):
            scu.send(file, row)
    assert there.proposed == []


def test_the_destination_dies_in_the_middle(destination, stored):
    there = destination(dies_from=2)
    files = [stored(sample) for sample in CT]
    with remote(there) as scu:
        scu.prepare([row for _, row in files])
        scu.send(*files[0])
        for _ in range(5):  # it may be these that it cannot take, and it takes associations
            with pytest.raises(InstanceUnconfirmed, match="THERE broke off the association"):
                scu.send(*files[1])
        there.close()
        with pytest.raises(DestinationUnavailable, match="cannot be reached"):
            scu.send(*files[2])


def test_one_instance_that_the_destination_cannot_take_does_not_keep_the_others_back(destination, stored):
    there = destination(dies_at=2, accepts=lambda _, transfer: transfer == EXPLICIT)
    files = [stored(sample) for sample in CT]
    with remote(there) as scu:
        scu.prepare([row for _, row in files])
        scu.send(*files[0])
        with pytest.raises(InstanceUnconfirmed, match="THERE broke off the association"):
            scu.send(*files[1])
        scu.send(*files[2])
    there.close()
    assert [one.association for one in there.stored] == [1, 1, 3]  # the second was for Implicit VR alone


def test_a_destination_that_loses_the_association_on_explicit_vr_is_tried_with_implicit_vr_alone(destination, stored):
    """Some accept Explicit VR and break off when it comes (DICOM conformance is a promise, not a fact)."""
    there = destination(dies_on=lambda one: one.transfer_syntax == EXPLICIT)
    files = [stored(sample) for sample in CT]
    with remote(there) as scu:
        scu.prepare([row for _, row in files])
        for file in files:
            assert scu.send(*file) is None
    there.close()
    assert [one.transfer_syntax for one in there.stored] == [EXPLICIT, IMPLICIT, EXPLICIT, IMPLICIT, IMPLICIT]
    assert [one.sop_instance_uid for one in there.stored] == [CT[n].sop_instance_uid for n in (0, 0, 1, 1, 2)]
    assert there.proposed[1] == [(CT_IMAGE_STORAGE, [IMPLICIT])]
    assert there.proposed[-1] == [(CT_IMAGE_STORAGE, [IMPLICIT])]  # twice is enough: nobody waits for a third time


@pytest.mark.parametrize(("status", "error"), [(0xA700, NoRoom), (0xA900, InstanceUnconfirmed)])
def test_no_room_is_told_from_a_refusal_of_the_second_try(destination, stored, status, error):
    """A restore waits for a destination that is full, and goes on at once after a refusal."""
    there = destination(dies_on=lambda one: one.transfer_syntax == EXPLICIT, status=lambda _: status)
    file, row = stored(CT[0])
    with remote(there) as scu:
        scu.prepare([row])
        with pytest.raises(InstanceRefused) as raised:
            scu.send(file, row)
    assert type(raised.value) is error


def test_an_image_in_memory_is_read_again_for_the_second_try(destination, stored):
    """While its answer was awaited, the next one was read into the same memory."""
    there = destination(dies_at=1)
    file, row = stored(CT[0])
    memory = bytearray(CT[0].data_set)
    file = dataclasses.replace(file, content=memoryview(memory))

    def read_the_next_one() -> None:
        memory[:] = bytes(len(memory))

    with remote(there) as scu:
        scu.prepare([row])
        assert scu.send(file, row, read_the_next_one) is None
    assert CT[0].dataset().PixelData in there.stored[1].message.data_set


UNCONFIRMED, SILENT = InstanceUnconfirmed, DestinationSilent


@pytest.mark.parametrize(
    ("silent", "expected"),
    [
        ({1, 2, 3}, [UNCONFIRMED, UNCONFIRMED, SILENT]),
        ({1, 2, 4, 5, 6}, [UNCONFIRMED, UNCONFIRMED, None, UNCONFIRMED, UNCONFIRMED, SILENT]),
    ],
    ids=["at once", "later"],
)
def test_silence_is_told_and_three_times_in_a_row_are_too_many(destination, stored, silent, expected):
    heard = threading.Semaphore(0)
    there = destination()
    there.before_answer = lambda: heard.acquire(timeout=TIMEOUT_S) if len(there.stored) in silent else None
    file, row = stored(CT[0])
    outcomes: list[type[Exception] | None] = []
    sentences = set()
    with remote(there, dataclasses.replace(PATIENT, network_s=1.0)) as scu:
        scu.prepare([row])
        while len(outcomes) < len(expected):
            try:
                scu.send(file, row)
                outcomes.append(None)
            except (InstanceUnconfirmed, DestinationUnavailable) as error:
                outcomes.append(type(error))
                sentences.add(str(error))
                heard.release()
    assert sentences == {"THERE did not answer for 1 s while an image was sent"}
    assert outcomes == expected


@pytest.mark.parametrize("size", [1, 127, 16383])
def test_what_is_of_odd_length_goes_in_even_fragments(destination, stored, size):
    """PS3.8 E.1: dcmtk breaks off at an odd one; the byte that is missing is added where the value ends."""
    there = destination(maximum_length=100)
    odd = CT[0].data_set + struct.pack("<HH2s2xL", 0xFFFC, 0xFFFC, b"OB", size) + b"\1" * size
    file, row = stored(samples.Sample("", CT_IMAGE_STORAGE, "1.2.3", EXPLICIT, odd))
    with remote(there) as scu:
        scu.prepare([row])
        scu.send(file, row)
    even = CT[0].data_set + struct.pack("<HH2s2xL", 0xFFFC, 0xFFFC, b"OB", size + 1) + b"\1" * size + b"\0"
    assert there.stored[0].message.data_set == even
    assert not there.stored[0].message.has_odd_fragments


def test_a_file_that_cannot_be_read_ends_its_association_and_no_other(destination, stored, monkeypatch):
    """The message under way cannot be completed: only a new association brings the rest (PS3.7 8.1)."""
    there = destination()
    files = [stored(sample) for sample in CT]
    with remote(there) as scu:
        scu.prepare([row for _, row in files])
        scu.send(*files[0])
        with monkeypatch.context() as patch:
            patch.setattr("backup_scp.dimse.scu.storage_scu.parts", _unreadable)
            with pytest.raises(ArchiveUnavailable, match="cannot be read"):
                scu.send(*files[1])
        scu.send(*files[2])
    there.close()
    assert [one.association for one in there.stored] == [1, 2]
    assert there.ended == ["ConnectionAbortedError", "ReleasedError"]


def _unreadable(file):
    with file.data_set() as stream:
        yield stream.read(100)
        yield stream.read(100)
    raise OSError(5, "Input/output error")


def test_a_file_that_changes_while_it_is_sent_is_never_whole_there(destination, stored):
    """It was compared before, and is compared again on its way out where memory does not hold it."""
    there = destination()
    files = [stored(sample) for sample in CT]
    changed = bytearray(files[1][0].path.read_bytes())
    changed[-1] ^= 1
    files[1][0].path.write_bytes(changed)
    with remote(there) as scu:
        scu.prepare([row for _, row in files])
        scu.send(*files[0])
        with pytest.raises(DigestMismatch, match="changed while it was sent"):
            scu.send(*files[1])
        scu.send(*files[2])
    there.close()
    assert [one.sop_instance_uid for one in there.stored] == [CT[0].sop_instance_uid, CT[2].sop_instance_uid]
    assert there.ended == ["ConnectionAbortedError", "ReleasedError"]


def test_a_file_that_changes_before_it_is_transcoded_is_not_sent(destination, stored):
    there = destination(accepts=lambda _, transfer: transfer == IMPLICIT)
    file, row = stored(CT[0])
    changed = bytearray(file.path.read_bytes())
    changed[-1] ^= 1
    file.path.write_bytes(changed)
    with remote(there) as scu:
        scu.prepare([row])
        with pytest.raises(DigestMismatch):
            scu.send(file, row)
    assert there.stored == []


def test_what_is_in_memory_goes_out_whatever_the_file_is_now(destination, stored):
    there = destination()
    file, row = stored(CT[0])
    file = dataclasses.replace(file, content=memoryview(CT[0].data_set))
    file.path.write_bytes(b"")
    with remote(there) as scu:
        scu.prepare([row])
        scu.send(file, row)
    assert there.stored[0].message.data_set == CT[0].data_set


def test_two_associations_one_after_the_other(destination, stored):
    there = destination()
    made = [
        samples.replace(samples.ct_series(1)[0], SOPClassUID=f"1.2.{n}", SOPInstanceUID=f"2.25.{n}")
        for n in range(1, 71)
    ]
    files = {row.sop_instance_uid: (file, row) for file, row in (stored(samples.encode(ds)) for ds in reversed(made))}
    with remote(there) as scu:
        ordered = scu.prepare([row for _, row in files.values()])
        assert sorted(row.sop_instance_uid for row in ordered) == sorted(files)
        for row in ordered:
            scu.send(*files[row.sop_instance_uid])
    there.close()
    assert len(there.proposed) == 2
    assert [one.association for one in there.stored] == [1] * 64 + [2] * 6
    assert there.ended == ["ReleasedError"] * 2


def test_it_is_released_for_a_pause_and_connects_again(destination, stored):
    there = destination()
    files = [stored(sample) for sample in CT]
    with remote(there) as scu:
        scu.disconnect()
        for file, row in files:
            assert list(scu.prepare([row])) == [row]
            scu.send(file, row)
            scu.disconnect()
    there.close()
    assert [one.association for one in there.stored] == [1, 2, 3]
    assert there.ended == ["ReleasedError"] * 3


def test_a_rejecting_destination_is_not_available(destination):
    there = destination(rejects=bytes((0, 1, 1, 3)))
    with remote(there) as scu, pytest.raises(DestinationUnavailable, match="Calling AE title not recognised"):
        scu.prepare([held()])


def test_what_was_transcoded_ahead_is_closed_when_the_destination_is_left(destination, stored, transcoded):
    there = destination(accepts=lambda _, transfer: transfer == IMPLICIT)
    first, second = stored(CT[0]), stored(CT[1])
    with remote(there) as scu:
        scu.prepare([first[1], second[1]])
        assert scu.send(*first, lambda: second) is None
    assert transcoded() == [True, True]


def test_what_was_transcoded_ahead_is_closed_when_the_association_is_aborted(destination, stored, transcoded):
    there = destination(accepts=lambda _, transfer: transfer == IMPLICIT, meddles=lambda answer: answer.pop(0x0900))
    first, second = stored(CT[0]), stored(CT[1])
    with remote(there) as scu:
        scu.prepare([first[1], second[1]])
        with pytest.raises(InstanceUnconfirmed):
            scu.send(*first, lambda: second)
        assert transcoded() == [True, True]


def test_a_busy_destination_is_asked_at_growing_intervals(destination, stored, monkeypatch):
    pauses: list[float] = []
    monkeypatch.setattr(RemoteAEDestination, "_pause", lambda _, duration_s: pauses.append(duration_s))
    there = destination(rejects=bytes((0, 2, 3, 2)), rejected=6)
    file, row = stored(CT[0])
    with remote(there, dataclasses.replace(PATIENT, busy_s=3600.0)) as scu:
        scu.prepare([row])
        assert scu.send(file, row) is None
    for pause_s, longest_s in zip(pauses, [0.2, 0.4, 0.8, 1.6, 2.0, 2.0], strict=True):
        assert longest_s / 2 <= pause_s <= longest_s


def test_leaving_after_an_error_releases(destination, stored):
    there = destination()
    _, row = stored(CT[0])
    scu = remote(there)
    with contextlib.suppress(RuntimeError), scu:
        scu.prepare([row])
        raise RuntimeError
    there.close()
    assert there.ended == ["ReleasedError"]
