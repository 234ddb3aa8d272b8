"""Storage Commitment SCU: requests to a remote AE, its reports, and its silence."""

from __future__ import annotations

import threading
from typing import Any

import pytest
from pynetdicom import AE, build_role, evt
from pynetdicom.pdu import P_DATA_TF

from backup_scp.dimse.association.association import LocalAE
from backup_scp.dimse.messages.command_set import Field
from backup_scp.dimse.scp.service_table import reports_service
from backup_scp.dimse.scu.storage_commitment_scu import StorageCommitmentSCU
from backup_scp.errors import DestinationUnavailable
from backup_scp.ports import Reference, RemoteAE
from tests.dimse.conftest import PATIENT, Other, until_closed
from tests.dimse.wire import COMMAND, LAST, command, p_data, pdv
from tests.processes import LOOPBACK, free_port
from tests.system.commitments import STORAGE_COMMITMENT, WELL_KNOWN_INSTANCE, action_information

CT = "1.2.840.10008.5.1.4.1.1.2"
REFERENCES = [Reference(CT, f"1.2.{number}") for number in range(3)]


class Archive:
    """A Storage Commitment SCP of pynetdicom: sends ``answer`` to N-ACTION, then ``report``.

    It ``hangs_up`` after its answer, or without one.
    """

    def __init__(self, answer: int | None = 0, report=lambda _archive, _event: None, failed=(), hangs_up=False) -> None:
        self.port = free_port()
        self._has_answered = threading.Event()
        self.requests: list[str] = []
        self._answer, self._report, self._failed, self._hangs_up = answer, report, failed, hangs_up
        self._threads: list[threading.Thread] = []
        self._ae = AE("ARCHIVE")
        self._ae.add_supported_context(STORAGE_COMMITMENT)

    def __enter__(self):
        handlers: Any = [(evt.EVT_N_ACTION, self._act), (evt.EVT_PDU_SENT, self._sent)]
        self._ae.start_server((LOOPBACK, self.port), block=False, evt_handlers=handlers)
        return self

    def __exit__(self, *_):
        for thread in self._threads:
            thread.join()
        self._ae.shutdown()

    def _sent(self, event):
        if isinstance(event.pdu, P_DATA_TF):
            self._has_answered.set()

    def _act(self, event):
        if self._answer is None:
            event.assoc.abort()
        information = event.action_information
        self.requests.append(information.TransactionUID)
        if self._answer == 0:
            thread = threading.Thread(target=self._go_on, args=(event,))
            self._threads.append(thread)
            thread.start()
        return self._answer or 0, None

    def _go_on(self, event):
        if self._hangs_up:
            self._has_answered.wait(30)
            event.assoc.abort()
        self._report(self, event)

    def information(self, event):
        """Make the Data Set of the report."""
        asked = event.action_information
        pairs = [(one.ReferencedSOPClassUID, one.ReferencedSOPInstanceUID) for one in asked.ReferencedSOPSequence]
        made = action_information(asked.TransactionUID, [one for one in pairs if one[1] not in self._failed])
        failed = action_information("", [one for one in pairs if one[1] in self._failed]).ReferencedSOPSequence
        for item in failed:
            item.FailureReason = 0x0112
        made.FailedSOPSequence = failed
        return made


def to(port):
    """Report on an association of its own."""

    def report(archive, event):
        ae = AE("ARCHIVE")
        ae.add_requested_context(STORAGE_COMMITMENT)
        role = build_role(STORAGE_COMMITMENT, scu_role=False, scp_role=True)
        opened = ae.associate(LOOPBACK, port, ae_title="BACKUP_SCP", ext_neg=[role])
        opened.send_n_event_report(archive.information(event), 1, STORAGE_COMMITMENT, WELL_KNOWN_INSTANCE)
        opened.release()

    return report


@pytest.fixture
def listening(storage, start_server):
    """The port of a node that takes reports."""
    return start_server({Field.N_EVENT_REPORT_RQ: reports_service(storage.index)}).port


def commit(storage, archive, wait_s=30.0):
    remote = RemoteAE("archive", "ARCHIVE", LOOPBACK, archive.port)
    return StorageCommitmentSCU(LocalAE("BACKUP_SCP", PATIENT), remote, storage.index.commitments).commit(
        REFERENCES, wait_s
    )


def test_a_report_on_another_association(storage, listening):
    with Archive(report=to(listening), failed={"1.2.1"}) as archive:
        assert commit(storage, archive) == dict(zip(REFERENCES, (0, 0x0112, 0), strict=True))


def test_a_report_after_it_has_hung_up(storage, listening):
    with Archive(report=to(listening), hangs_up=True) as archive:
        assert commit(storage, archive) == dict.fromkeys(REFERENCES, 0)


def test_many_are_asked_about_in_several_requests(storage, listening, monkeypatch):
    monkeypatch.setattr("backup_scp.dimse.scu.storage_commitment_scu._BATCH", 2)
    with Archive(report=to(listening)) as archive:
        assert commit(storage, archive) == dict.fromkeys(REFERENCES, 0)
        assert len(set(archive.requests)) == 2


def test_silence_commits_nothing(storage, listening):
    with Archive() as archive:
        assert commit(storage, archive, wait_s=0.1) == {}


def test_a_report_on_what_was_never_asked_is_refused(storage, listening):
    ae = AE("ARCHIVE")
    ae.add_requested_context(STORAGE_COMMITMENT)
    role = build_role(STORAGE_COMMITMENT, scu_role=False, scp_role=True)
    opened = ae.associate(LOOPBACK, listening, ae_title="BACKUP_SCP", ext_neg=[role])
    information = action_information("1.2.3", REFERENCES)
    answer, _ = opened.send_n_event_report(information, 1, STORAGE_COMMITMENT, WELL_KNOWN_INSTANCE)
    opened.release()
    assert answer.Status == 0x0115


def test_an_archive_that_refuses_is_told_with_its_status(storage, leaves_nothing):
    with Archive(answer=0x0213) as archive, pytest.raises(DestinationUnavailable, match="status 0x0213"):
        commit(storage, archive)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({0x0900: b""}, "a Status of 0 bytes"),
        ({0x0120: 9}, "to message 9"),
        ({0x1000: "1.2.3"}, "another SOP Instance"),
    ],
)
def test_what_is_no_answer_to_the_request_is_none(storage, acceptor, changes, words):
    elements = {0x0100: 0x8130, 0x0120: 1, 0x0800: 0x0101, 0x0900: 0, 0x1000: WELL_KNOWN_INSTANCE} | changes

    def behave(other: Other) -> None:
        other.accept_association()
        other.message()
        other.send(p_data(pdv(1, COMMAND | LAST, command(elements))))
        until_closed(other)

    remote = RemoteAE("archive", "ARCHIVE", LOOPBACK, acceptor(behave))
    scu = StorageCommitmentSCU(LocalAE("BACKUP_SCP", PATIENT), remote, storage.index.commitments)
    with pytest.raises(DestinationUnavailable, match=f"did not answer the commitment request: it sent .*{words}"):
        scu.commit(REFERENCES, 30)


def test_an_archive_that_is_off(storage, leaves_nothing):
    with pytest.raises(DestinationUnavailable, match="cannot be reached"):
        commit(storage, Archive())


def test_an_archive_that_hangs_up_instead_of_answering(storage, leaves_nothing):
    with Archive(answer=None) as archive, pytest.raises(DestinationUnavailable, match="broke off"):
        commit(storage, archive)
