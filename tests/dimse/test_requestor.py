"""Associations that we request: our bytes equal pynetdicom's, and each different answer is decoded once."""

from __future__ import annotations

import socket
import struct

import pytest
from pydicom.uid import UID
from pynetdicom import AE, build_role
from pynetdicom._globals import MODE_REQUESTOR
from pynetdicom.association import Association as PynetdicomAssociation
from pynetdicom.pdu import A_ASSOCIATE_RQ
from pynetdicom.pdu_primitives import A_ASSOCIATE
from pynetdicom.presentation import build_context

from backup_scp.dicom.uids import IMPLEMENTATION_CLASS_UID, IMPLEMENTATION_VERSION_NAME
from backup_scp.dimse.association.association import Association, LocalAE, Timing
from backup_scp.dimse.upper_layer import requestor
from backup_scp.errors import DestinationBusy, DestinationRefuses, DestinationUnavailable, NothingAccepted
from tests.dimse.conftest import Other, until_closed
from tests.dimse.wire import (
    CT_IMAGE_STORAGE,
    EXPLICIT,
    IMPLICIT,
    RELEASE_RP,
    RELEASE_RQ,
    VERIFICATION,
    item,
    p_data,
    pdu,
    pdv,
)

ECHO = ((VERIFICATION, (IMPLICIT,)),)
ODD = "1.2." + "3" * 80


def request(port: int, contexts=ECHO, as_scp=(), host: str = "127.0.0.1", timing: Timing | None = None) -> Association:
    local = LocalAE("US", timing or Timing())
    return Association.request_from(local=local, called="THEM", host=host, port=port, contexts=contexts, as_scp=as_scp)


def pynetdicoms(contexts, as_scp) -> bytes:
    """Let pynetdicom's ACSE make the request."""
    association = PynetdicomAssociation(AE("US"), MODE_REQUESTOR)
    ours = association.requestor
    ours.ae_title, association.acceptor.ae_title = "US", "THEM"
    ours.maximum_length, ours.implementation_class_uid = 131072, UID(IMPLEMENTATION_CLASS_UID)
    ours.implementation_version_name = IMPLEMENTATION_VERSION_NAME
    ours.requested_contexts = [build_context(abstract, list(transfer)) for abstract, transfer in contexts]
    for number, context in enumerate(ours.requested_contexts):
        context.context_id = 2 * number + 1
    for abstract in as_scp:
        ours.add_negotiation_item(build_role(abstract, scu_role=False, scp_role=True))
    association.acse.send_request()
    primitive = association.dul.to_provider_queue.get_nowait()
    assert isinstance(primitive, A_ASSOCIATE)
    return A_ASSOCIATE_RQ(primitive).encode()


@pytest.mark.parametrize(
    ("contexts", "as_scp"),
    [
        (ECHO, ()),
        (((CT_IMAGE_STORAGE, (EXPLICIT,)), (CT_IMAGE_STORAGE, (IMPLICIT, EXPLICIT))), (CT_IMAGE_STORAGE,)),
        (tuple((f"1.2.{n}", (EXPLICIT,)) for n in range(128)), ()),
        (((ODD, ("no uid",)),), (ODD,)),
    ],
    ids=["echo", "roles", "128 contexts", "odd UIDs"],
)
def test_the_request_is_pynetdicoms_to_the_byte(acceptor, contexts, as_scp):
    came = []

    def behave(other: Other) -> None:
        kind, body = other.pdu()
        came.append(pdu(kind, body))

    with pytest.raises(DestinationUnavailable):
        request(acceptor(behave), contexts, as_scp)
    assert came == [pynetdicoms(contexts, as_scp)]


@pytest.fixture
def worked_out(monkeypatch):
    """What pynetdicom's codecs were given: an A-ASSOCIATE-RQ made, an A-ASSOCIATE-AC read."""
    requestor._encoded.cache_clear()
    requestor._decoded.cache_clear()
    return lambda: (requestor._encoded.cache_info().misses, requestor._decoded.cache_info().misses)


def accepting(**behaviour):
    def behave(other: Other) -> None:
        other.accept_association(**behaviour)
        until_closed(other)

    return behave


def test_the_same_request_and_answer_are_worked_out_once(acceptor, worked_out):
    found = []
    for _ in range(3):
        association = request(acceptor(accepting(maximum_length=16384)))
        found.append((association.contexts, association.upper_layer.peer_maximum_length))
        association.abort()
    assert found[0] == found[1] == found[2]
    assert found[0][1] == 16384
    assert worked_out() == (1, 1)


def test_another_answer_counts(acceptor, worked_out):
    contexts = [(VERIFICATION, [IMPLICIT]), (VERIFICATION, [EXPLICIT])]
    for number, answers in enumerate(({1: (0, IMPLICIT), 3: (4, EXPLICIT)}, {1: (4, IMPLICIT), 3: (0, EXPLICIT)})):
        association = request(acceptor(accepting(answers=answers)), contexts)
        assert list(association.contexts) == [2 * number + 1]
        association.abort()
    with pytest.raises(NothingAccepted):
        request(acceptor(accepting(answers={1: (4, IMPLICIT), 3: (4, EXPLICIT)})), contexts)
    assert worked_out() == (1, 3)


@pytest.mark.parametrize("syntax", ["", EXPLICIT, "1.2.3", "no uid"], ids=["none", "another's", "its own", "odd"])
def test_what_was_not_proposed_is_not_accepted(acceptor, syntax):
    """PS3.8 9.3.3.2: one of the Transfer Syntaxes that were proposed in this context."""
    contexts = [(VERIFICATION, [IMPLICIT]), (VERIFICATION, [EXPLICIT])]
    association = request(acceptor(accepting(answers={1: (0, syntax), 3: (0, EXPLICIT), 5: (0, IMPLICIT)})), contexts)
    assert list(association.contexts) == [3]
    association.abort()
    with pytest.raises(NothingAccepted):
        request(acceptor(accepting(answers={1: (0, syntax)})), contexts[:1])


def test_a_role_that_was_not_proposed_is_not_answered(acceptor):
    """PS3.7 D.3.3.4."""
    answer = b"".join(
        item(0x54, struct.pack(">H", len(uid)) + uid.encode() + bytes((0, 1))) for uid in (CT_IMAGE_STORAGE, "1.2.3")
    )
    contexts = [(CT_IMAGE_STORAGE, (EXPLICIT,))]
    association = request(acceptor(accepting(user=answer)), contexts, [CT_IMAGE_STORAGE])
    assert association.we_are_scp == {CT_IMAGE_STORAGE: True}
    association.abort()


def test_an_item_that_nobody_knows_is_ignored(acceptor):
    """PS3.8 9.3.1."""
    association = request(acceptor(accepting(user=item(0x5A, b"new") + item(0x60, b"of its own"))))
    assert list(association.contexts) == [1]
    association.abort()


def test_an_answer_that_cannot_be_decoded_is_not_remembered(acceptor, worked_out):
    for _ in range(2):
        with pytest.raises(DestinationUnavailable):
            request(acceptor(accepting(user=item(0x54, b"\xff"))))
    assert requestor._decoded.cache_info().currsize == 0


def test_a_rejection_for_the_moment_is_told_from_one_for_good(acceptor):
    for answer, error in ((bytes((0, 2, 3, 2)), DestinationBusy), (bytes((0, 1, 1, 7)), DestinationRefuses)):

        def behave(other: Other, answer: bytes = answer) -> None:
            other.pdu()
            other.send(pdu(3, answer))
            other.until_closed()

        with pytest.raises(DestinationUnavailable) as raised:
            request(acceptor(behave))
        assert type(raised.value) is error
        assert "rejected the association" in str(raised.value)


def test_a_release_that_is_answered_closes_the_connection(acceptor):
    def behave(other: Other) -> None:
        other.accept_association()
        assert other.pdu() == (RELEASE_RQ, bytes(4))
        other.send(pdu(RELEASE_RP, bytes(4)))
        other.until_closed()

    association = request(acceptor(behave))
    association.release()
    assert (association.upper_layer.state, association.upper_layer.connection) == ("Sta1", None)


def test_what_was_sent_before_the_release_was_read_does_not_keep_it_back(acceptor):
    """PS3.8 AR-6."""

    def behave(other: Other) -> None:
        other.accept_association()
        other.pdu()
        other.send(p_data(pdv(1, 3, bytes(100))) * 3 + pdu(RELEASE_RP, bytes(4)))
        other.until_closed()

    association = request(acceptor(behave))
    association.release()


def test_both_sides_ask_for_release_at_once(acceptor):
    """PS3.8 AR-8, AR-9: the requestor answers first, and waits for its own answer."""
    answered = []

    def behave(other: Other) -> None:
        other.accept_association()
        other.pdu()
        other.send(pdu(RELEASE_RQ, bytes(4)))
        answered.append(other.pdu())
        other.send(pdu(RELEASE_RP, bytes(4)))
        other.until_closed()

    association = request(acceptor(behave))
    association.release()
    assert answered == [(RELEASE_RP, bytes(4))]


def test_a_release_that_nobody_answers_is_an_abort(acceptor):
    ends = []

    def behave(other: Other) -> None:
        other.accept_association()
        other.pdu()
        ends.append(other.pdu()[0])

    association = request(acceptor(behave), timing=Timing(association_s=0.2))
    association.release()
    assert ends == [7]


def test_the_next_address_of_a_name_is_tried(acceptor, monkeypatch):
    """An IPv6 address first, where nothing listens."""
    port = acceptor(accepting())
    known = socket.getaddrinfo

    def two(_host, *more, **named):
        return known("::1", *more, **named) + known("127.0.0.1", *more, **named)

    monkeypatch.setattr(socket, "getaddrinfo", two)
    request(port, host="pacs.example").abort()
