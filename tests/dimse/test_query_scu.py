"""Query SCU: the number of images that a remote AE returns, or its silence."""

from __future__ import annotations

import struct
from typing import Any

import pytest
from pydicom.dataset import Dataset
from pynetdicom import AE, evt

from backup_scp.dimse.association.association import LocalAE
from backup_scp.dimse.scu.query_scu import StudyCounter
from backup_scp.ports import RemoteAE
from tests.dimse.conftest import PATIENT, Other, until_closed
from tests.dimse.wire import (
    COMMAND,
    EXPLICIT,
    IMPLICIT,
    LAST,
    RELEASE_RQ,
    STUDY_ROOT_FIND,
    VERIFICATION,
    command,
    p_data,
    pdu,
    pdv,
)
from tests.processes import LOOPBACK, free_port


class Console:
    """A Query SCP of pynetdicom with these studies; ``answers`` makes something else of a count."""

    def __init__(self, studies=None, answers=lambda count: count, status=0, contexts=(STUDY_ROOT_FIND, VERIFICATION)):
        self.port = free_port()
        self.asked: list[tuple[str, str]] = []
        self._studies, self._answers, self._status = studies or {}, answers, status
        self._ae = AE("CONSOLE")
        for context in contexts:
            self._ae.add_supported_context(context)
        self._ae.implementation_class_uid, self._ae.implementation_version_name = "1.2.3.4", "CONSOLE_7"

    def __enter__(self):
        handlers: Any = [(evt.EVT_C_FIND, self._find)]
        self._ae.start_server((LOOPBACK, self.port), block=False, evt_handlers=handlers)
        return self

    def __exit__(self, *_):
        self._ae.shutdown()

    @property
    def remote(self) -> RemoteAE:
        return RemoteAE("console", "CONSOLE", LOOPBACK, self.port)

    def _find(self, event):
        wanted = event.identifier
        self.asked.append((wanted.QueryRetrieveLevel, wanted.StudyInstanceUID))
        if self._status:
            yield self._status, None
            return
        count = self._answers(self._studies.get(wanted.StudyInstanceUID))
        if count is not None:
            found = Dataset()
            found.QueryRetrieveLevel, found.StudyInstanceUID = "STUDY", wanted.StudyInstanceUID
            found.NumberOfStudyRelatedInstances = count
            yield 0xFF00, found


def counter(remote: RemoteAE) -> StudyCounter:
    return StudyCounter(LocalAE("BACKUP_SCP", PATIENT), remote)


def test_each_study_is_asked_for_on_one_association(leaves_nothing):
    with Console({"1.2.1": 3, "1.2.2": 12}) as console, counter(console.remote) as there:
        assert [there.count(study) for study in ("1.2.1", "1.2.2", "1.2.3")] == [3, 12, 0]
        assert there.implementation == "1.2.3.4 CONSOLE_7"
    assert console.asked == [("STUDY", study) for study in ("1.2.1", "1.2.2", "1.2.3")]


def test_what_the_console_is_asked(leaves_nothing):
    """Each encoding it may know, and Message IDs that begin again before they are too long."""
    requests = []

    class Listening(Console):
        def _find(self, event):
            requests.append((event.request.MessageID, event.request.Priority))
            proposed = event.assoc.requestor.primitive.presentation_context_definition_list
            self.proposed = {str(one.abstract_syntax): [str(uid) for uid in one.transfer_syntax] for one in proposed}
            return super()._find(event)

    with Listening({"1.2.1": 3}) as console, counter(console.remote) as there:
        there._message_id = 0xFFFD
        assert [there.count("1.2.1") for _ in range(4)] == [3] * 4
    assert requests == [(0xFFFE, 0), (0xFFFF, 0), (1, 0), (2, 0)]
    assert console.proposed == {uid: [EXPLICIT, IMPLICIT] for uid in (STUDY_ROOT_FIND, VERIFICATION)}


def test_a_study_without_a_count_is_not_known(leaves_nothing):
    console = Console({"1.2.1": 3}, answers=lambda count: None if count is None else "")
    with console, counter(console.remote) as there:
        assert there.count("1.2.1") is None
        assert there.count("1.2.9") == 0


class Listing(Console):
    """Returns no counts, as dcmqrscp, but lists series and images; ``careless`` ignores the keys."""

    images = (("1.2.1", "1.2.1.1", "1.2.1.1.1"), ("1.2.1", "1.2.1.2", "1.2.1.2.1"), ("1.2.1", "1.2.1.2", "1.2.1.2.2"))
    others = (("1.2.9", "1.2.9.1", "1.2.9.1.1"),)
    careless = False

    def _find(self, event):
        wanted = event.identifier
        depth = ["STUDY", "SERIES", "IMAGE"].index(wanted.QueryRetrieveLevel)
        keywords = ("StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID")[: depth + 1]
        asked = [getattr(wanted, keyword) for keyword in keywords[:-1]] or [wanted.StudyInstanceUID]
        for uids in sorted({uids[: depth + 1] for uids in self.images + self.others}):
            if self.careless or list(uids[: len(asked)]) == asked:
                found = Dataset()
                found.QueryRetrieveLevel = wanted.QueryRetrieveLevel
                for keyword, uid in zip(keywords, uids, strict=True):
                    setattr(found, keyword, uid)
                yield 0xFF00, found


@pytest.mark.parametrize("careless", [False, True])
def test_images_without_a_count_are_counted_one_by_one(leaves_nothing, careless):
    with Listing() as console, counter(console.remote) as there:
        console.careless = careless
        assert [there.count(study) for study in ("1.2.1", "1.2.9", "1.2.3")] == [3, 1, 0]


def test_one_that_breaks_off_while_it_lists_is_not_known(leaves_nothing):
    class Failing(Listing):
        def _find(self, event):
            yield from super()._find(event)
            if event.identifier.QueryRetrieveLevel == "IMAGE":
                yield 0xC000, None

    with Failing() as console, counter(console.remote) as there:
        assert there.count("1.2.1") is None


@pytest.mark.parametrize("uid", ["", "*", "1.2\\1.3", "no UID"])
def test_what_is_no_uid_is_not_asked_for(uid, leaves_nothing):
    """Without a value every study would match."""
    with Console({"1.2.1": 3}) as console, counter(console.remote) as there:
        assert there.count(uid) is None
    assert console.asked == []


def test_one_that_refuses_queries_is_asked_once(leaves_nothing, caplog):
    caplog.set_level("INFO")
    with Console(status=0xA700) as console, counter(console.remote) as there:
        assert [there.count("1.2.1"), there.count("1.2.2")] == [None, None]
    assert len(console.asked) == 1
    assert "console does not answer C-FIND: status 0xA700" in caplog.text


def test_studies_that_were_not_asked_for_do_not_count(leaves_nothing):
    """Some AEs ignore the key and return everything."""

    class Careless(Console):
        def _find(self, event):
            for study, count in self._studies.items():
                found = Dataset()
                found.QueryRetrieveLevel, found.StudyInstanceUID = "STUDY", study
                found.NumberOfStudyRelatedInstances = count
                yield 0xFF00, found

    with Careless({"1.2.1": 3, "1.2.2": 12}) as console, counter(console.remote) as there:
        assert [there.count(study) for study in ("1.2.1", "1.2.3")] == [3, 0]


@pytest.mark.parametrize(
    ("count", "known"),
    [(b"9" * 5000, None), (b"-1", None), (b"1e3 ", None), (b"0" * 10 + b"12", 12), (b"0" * 11 + b"12 ", None)],
)
def test_a_count_is_known_where_it_is_an_integer_string(acceptor, count, known):
    """Of at most 12 characters; Python reads no number of 5,000 digits."""
    identifier = struct.pack("<HHI", 0x0020, 0x1208, len(count)) + count

    def behave(other: Other) -> None:
        other.accept_association()
        other.message()
        pending: dict[int, bytes | str | int] = {0x0100: 0x8020, 0x0120: 1, 0x0800: 0x0102, 0x0900: 0xFF00}
        other.send(p_data(pdv(1, COMMAND | LAST, command(pending))) + p_data(pdv(1, LAST, identifier)))
        other.send(p_data(pdv(1, COMMAND | LAST, command(pending | {0x0800: 0x0101, 0x0900: 0}))))
        assert other.pdu()[0] == RELEASE_RQ
        other.send(pdu(6, bytes(4)))

    with counter(RemoteAE("console", "CONSOLE", LOOPBACK, acceptor(behave))) as there:
        assert there.count("1.2.1") == known


def test_a_data_set_that_comes_with_the_final_status_is_passed_over(acceptor):
    def behave(other: Other) -> None:
        other.accept_association()
        for number in (1, 2):
            other.message()
            final: dict[int, bytes | str | int] = {0x0100: 0x8020, 0x0120: number, 0x0800: 0x0102, 0x0900: 0}
            other.send(p_data(pdv(1, COMMAND | LAST, command(final))) + p_data(pdv(1, LAST, b"\x08\0\5\0\0\0\0\0")))
        assert other.pdu()[0] == RELEASE_RQ
        other.send(pdu(6, bytes(4)))

    with counter(RemoteAE("console", "CONSOLE", LOOPBACK, acceptor(behave))) as there:
        assert [there.count("1.2.1"), there.count("1.2.1")] == [0, 0]


def test_one_that_takes_no_queries_says_what_it_is_all_the_same(leaves_nothing):
    with Console(contexts=(VERIFICATION,)) as console, counter(console.remote) as there:
        assert there.count("1.2.1") is None
        assert there.implementation == "1.2.3.4 CONSOLE_7"


@pytest.mark.parametrize("contexts", [("1.2.840.10008.5.1.4.1.1.2",), None])
def test_one_that_is_not_reached_knows_nothing(contexts, leaves_nothing):
    console = Console(contexts=contexts or (VERIFICATION,))
    if contexts is None:
        with counter(console.remote) as there:
            assert (there.count("1.2.1"), there.implementation) == (None, "")
        return
    with console, counter(console.remote) as there:
        assert (there.count("1.2.1"), there.implementation) == (None, "")


@pytest.mark.parametrize("changes", [{0x0900: b""}, {0x0120: 77}, {0x0100: 0x8001}])
def test_what_is_no_answer_is_none(acceptor, changes):
    elements = {0x0100: 0x8020, 0x0120: 1, 0x0800: 0x0101, 0x0900: 0} | changes

    def behave(other: Other) -> None:
        other.accept_association()
        other.message()
        other.send(p_data(pdv(1, COMMAND | LAST, command(elements))))
        until_closed(other)

    with counter(RemoteAE("console", "CONSOLE", LOOPBACK, acceptor(behave))) as there:
        assert there.count("1.2.1") is None
        assert there.count("1.2.1") is None


def test_it_connects_again_when_it_was_disconnected(leaves_nothing):
    with Console({"1.2.1": 3}) as console, counter(console.remote) as there:
        assert there.count("1.2.1") == 3
        there.disconnect()
        there.disconnect()
        assert there.count("1.2.1") is None
        there.connect()
        there.connect()
        assert there.count("1.2.1") == 3
