"""Hand-written PDUs equal pynetdicom's, and cached answers equal newly made ones."""

from __future__ import annotations

import logging
import socket
import struct
import threading
import tracemalloc

import pytest
from pydicom.config import IGNORE
from pydicom.uid import UID
from pynetdicom import AE
from pynetdicom._globals import MODE_ACCEPTOR
from pynetdicom.association import Association
from pynetdicom.dimse_messages import C_ECHO_RSP
from pynetdicom.dimse_primitives import C_ECHO
from pynetdicom.pdu import A_ASSOCIATE_AC, A_ASSOCIATE_RJ, A_ASSOCIATE_RQ, A_RELEASE_RP, P_DATA_TF
from pynetdicom.pdu_primitives import (
    A_ASSOCIATE,
    A_RELEASE,
    AsynchronousOperationsWindowNegotiation,
    SOPClassExtendedNegotiation,
)

from backup_scp.dicom.uids import IMPLEMENTATION_CLASS_UID, IMPLEMENTATION_VERSION_NAME
from backup_scp.dimse.association import acceptance as acceptance_module
from backup_scp.dimse.association import extended_negotiation
from backup_scp.dimse.association.acceptance import InvalidRequest, NegotiationCache, accept
from backup_scp.dimse.association.association import Context
from backup_scp.dimse.association.negotiation import STORAGE_COMMITMENT, answer_context, answer_role
from backup_scp.dimse.upper_layer import Timing, UpperLayer
from tests.dimse.conftest import associations_ended
from tests.dimse.wire import (
    ABORT,
    ASSOCIATE_AC,
    ASSOCIATE_RJ,
    COMMAND,
    CT_IMAGE_STORAGE,
    EXPLICIT,
    IMPLICIT,
    LAST,
    RELEASE_RP,
    STUDY_ROOT_FIND,
    STUDY_ROOT_GET,
    VERIFICATION,
    Peer,
    associate_rq,
    context_item,
    echo_rq,
    item,
    items,
    p_data,
    pdu,
    pdv,
    release_rq,
    role,
)
from tests.processes import wait_until

ECHO = (VERIFICATION, (IMPLICIT,))
CT = (CT_IMAGE_STORAGE, (EXPLICIT,))
FIND, GET = ((uid, (IMPLICIT, EXPLICIT)) for uid in (STUDY_ROOT_FIND, STUDY_ROOT_GET))
MAXIMUM = 131072
TITLES = slice(10, 74)  # called, calling, and 32 reserved bytes


def extended(sop_class: str, proposed: bytes) -> bytes:
    return item(0x56, struct.pack(">H", len(sop_class)) + sop_class.encode() + proposed)


IDENTITY = item(0x58, b"\2\1" + struct.pack(">H", 4) + b"user" + struct.pack(">H", 6) + b"secret")
ODD = "1.2." + "3" * 80
REQUESTS = {
    "echo": associate_rq([ECHO]),
    "one context": associate_rq([CT]),
    "accepted and rejected": associate_rq([("1.2.840.10008.5.1.4.32.1", (IMPLICIT,)), CT, (VERIFICATION, (EXPLICIT,))]),
    "none that is accepted": associate_rq([("1.2.840.10008.1.20.2", (IMPLICIT,))]),
    "no context": associate_rq([]),
    "no order of IDs": associate_rq(
        [], context_items=b"".join(context_item(n, VERIFICATION, [IMPLICIT]) for n in (255, 3, 101))
    ),
    "an ID twice": associate_rq(
        [], context_items=context_item(1, *ECHO) + context_item(1, CT_IMAGE_STORAGE, [EXPLICIT])
    ),
    "128 contexts": associate_rq([(f"1.2.3.{n}", (EXPLICIT, IMPLICIT, "1.2.840.10008.1.2.4.70")) for n in range(128)]),
    "roles": associate_rq(
        [CT, ECHO, (STORAGE_COMMITMENT, (IMPLICIT,))],
        items=role(CT_IMAGE_STORAGE, scu=1, scp=1)
        + role(VERIFICATION, scu=0, scp=1)
        + role(STORAGE_COMMITMENT, scu=0, scp=1)
        + role("1.2.9", scu=1, scp=1),
    ),
    "a role twice": associate_rq(
        [CT], items=role(CT_IMAGE_STORAGE, scu=1, scp=1) + role(CT_IMAGE_STORAGE, scu=1, scp=0)
    ),
    "a window": associate_rq([ECHO], items=item(0x53, struct.pack(">HH", 8, 8))),
    "a window of one": associate_rq([ECHO], items=item(0x53, struct.pack(">HH", 1, 1))),
    "extended": associate_rq(
        [FIND, GET, CT],
        items=extended(STUDY_ROOT_GET, b"\1\1")
        + extended(STUDY_ROOT_FIND, b"\1" * 7)
        + extended(CT_IMAGE_STORAGE, b"\1"),
    ),
    "extended twice": associate_rq(
        [FIND, GET],
        items=extended(STUDY_ROOT_FIND, b"\1") + extended(STUDY_ROOT_GET, b"\1") + extended(STUDY_ROOT_FIND, b"\0\1"),
    ),
    "everything": associate_rq(
        [FIND, CT],
        items=IDENTITY
        + extended(STUDY_ROOT_FIND, b"\1\1")
        + item(0x53, struct.pack(">HH", 0, 0))
        + role(CT_IMAGE_STORAGE, scu=1, scp=1),
    ),
    "odd UIDs": associate_rq([(ODD, (EXPLICIT,))], items=role(ODD, scu=1, scp=1)),
    "padding": associate_rq([ECHO], called=b" BACKUP_SCP\0\0", calling=b"  A \0"),
    "an umlaut": associate_rq([ECHO], calling=b"PRAXIS M\xdcLLER"),
    "no maximum length": associate_rq([ECHO], maximum_length=None),
}


def pynetdicoms_answer(request: bytes) -> bytes:
    """Let pynetdicom's ACSE make the answer."""
    association = Association(AE("BACKUP_SCP"), MODE_ACCEPTOR)
    asked = A_ASSOCIATE_RQ()
    asked.decode(request)
    association.requestor.primitive = primitive = asked.to_primitive()
    local = association.acceptor
    local.maximum_length, local.implementation_class_uid = MAXIMUM, UID(IMPLEMENTATION_CLASS_UID)
    local.implementation_version_name = IMPLEMENTATION_VERSION_NAME
    answers = [answer_context(context) for context in primitive.presentation_context_definition_list]
    association._accepted_cx = {context.context_id or 0: context for context in answers if context.result == 0}
    association._rejected_cx = [context for context in answers if context.result != 0]
    accepted = {context.abstract_syntax for context in association._accepted_cx.values()}
    for uid, proposed in association.requestor.role_selection.items():
        if uid in accepted and (answer := answer_role(uid, proposed)):
            local.add_negotiation_item(answer)
    for uid, proposed_bytes in association.requestor.sop_class_extended.items():
        if uid in accepted and (information := extended_negotiation.answer(str(uid), proposed_bytes)):
            item_56 = SOPClassExtendedNegotiation()
            item_56.sop_class_uid = UID(uid, IGNORE)
            item_56.service_class_application_information = information
            local.add_negotiation_item(item_56)
    if association.requestor.asynchronous_operations != (1, 1):
        item_53 = AsynchronousOperationsWindowNegotiation()
        item_53.maximum_number_operations_invoked = item_53.maximum_number_operations_performed = 1
        local.add_negotiation_item(item_53)
    association.acse.send_accept()
    made = association.dul.to_provider_queue.get_nowait()
    assert isinstance(made, A_ASSOCIATE)
    return A_ASSOCIATE_AC(made).encode()


@pytest.mark.parametrize("request_pdu", REQUESTS.values(), ids=REQUESTS)
def test_the_answer_is_pynetdicoms_to_the_byte(request_pdu):
    answered, theirs = accept(request_pdu, MAXIMUM), pynetdicoms_answer(request_pdu)
    assert answered.answer[TITLES] == request_pdu[TITLES]  # PS3.8 9.3.3, where pynetdicom changes what is odd
    assert answered.answer.hex() == (theirs[:10] + request_pdu[TITLES] + theirs[74:]).hex()


@pytest.mark.parametrize("request_pdu", REQUESTS.values(), ids=REQUESTS)
def test_the_second_answer_is_the_first(start_server, request_pdu):
    server = start_server(check_called_ae_title=False)
    answers = []
    for _ in range(2):
        with Peer(server.port) as peer:
            answers.append(peer.ask(request_pdu))
            peer.release()
    assert answers[0] == answers[1]


def test_items_that_nobody_has_defined_are_ignored():
    """PS3.8 9.3.1."""
    unknown = associate_rq([], context_items=context_item(1, *CT) + item(0x77, b"new"), items=item(0x7A, b"likewise"))
    answered, usual = accept(unknown, MAXIMUM), accept(associate_rq([CT]), MAXIMUM)
    assert answered == usual
    lying = context_item(1, *CT) + b"\x77\0\xff\xff"
    with pytest.raises(InvalidRequest):
        accept(associate_rq([], context_items=lying), MAXIMUM)


@pytest.mark.parametrize("theirs", [16384, 262144, 0])
def test_the_length_that_the_requestor_takes_comes_with_the_answer(theirs):
    assert accept(associate_rq([CT], maximum_length=theirs), MAXIMUM).peer_maximum_length == theirs


def test_what_was_settled_comes_with_the_answer():
    answered = accept(REQUESTS["everything"], MAXIMUM)
    assert (answered.calling, answered.called, answered.peer_maximum_length) == ("TESTER", "BACKUP_SCP", 131072)
    assert answered.contexts == {
        1: Context(1, STUDY_ROOT_FIND, IMPLICIT),
        3: Context(3, CT_IMAGE_STORAGE, EXPLICIT, peer_is_scp=True),
    }
    assert answered.negotiated == {STUDY_ROOT_FIND: extended_negotiation.negotiated(STUDY_ROOT_FIND, b"\1\1")}


@pytest.mark.parametrize(
    ("request_pdu", "said"),
    [
        (associate_rq([ECHO])[:-4], "a wrong length"),
        (associate_rq([ECHO])[:60], "an A-ASSOCIATE-RQ of 60 bytes"),
        (associate_rq([], context_items=context_item(7, None, [IMPLICIT])), "Presentation Context 7 has no Abstract"),
        (associate_rq([], context_items=context_item(9, "\0", [IMPLICIT])), "Presentation Context 9 has no Abstract"),
        (associate_rq([], context_items=item(0x20, b"\1\0")), "a Presentation Context of 2 bytes"),
        (associate_rq([], context_items=b"".join(context_item(n, *ECHO) for n in range(129))), "129 Presentation"),
        (associate_rq([ECHO], items=item(0x54, b"\0\x09")), "items cannot be decoded"),
    ],
)
def test_what_is_no_request_has_no_answer(request_pdu, said):
    with pytest.raises(InvalidRequest, match=said):
        NegotiationCache(MAXIMUM).of(request_pdu)


@pytest.mark.parametrize("end", [p_data(pdv(1, COMMAND | LAST, echo_rq(258))), release_rq()], ids=["echo", "release"])
def test_echo_and_release_are_answered_as_by_pynetdicom(server, end):
    with server.peer(ECHO) as peer:
        peer.send(end)
        received = b"".join(struct.pack(">BxI", kind, len(body)) + body for kind, body in [peer.pdu()])
    if end == release_rq():
        assert received == release_rp_of_pynetdicom()
    else:
        assert received == echo_response_of_pynetdicom(258)


def release_rp_of_pynetdicom() -> bytes:
    primitive = A_RELEASE()
    primitive.result = "affirmative"
    return A_RELEASE_RP(primitive).encode()


def echo_response_of_pynetdicom(message_id: int) -> bytes:
    primitive = C_ECHO()
    primitive.AffectedSOPClassUID, primitive.MessageIDBeingRespondedTo, primitive.Status = VERIFICATION, message_id, 0
    message = C_ECHO_RSP()
    message.primitive_to_message(primitive)
    return b"".join(P_DATA_TF(pdata).encode() for pdata in message.encode_msg(1, MAXIMUM))


@pytest.mark.parametrize(("result", "source", "reason"), [(1, 1, 3), (1, 1, 7), (2, 3, 1), (2, 3, 2)])
def test_a_rejection_is_pynetdicoms(result, source, reason):
    primitive = A_ASSOCIATE()
    primitive.result, primitive.result_source, primitive.diagnostic = result, source, reason
    ours, theirs = socket.socketpair()
    with ours, theirs:
        layer = UpperLayer(ours, Timing(), "")
        assert layer.part(result, source, reason) == A_ASSOCIATE_RJ(primitive).encode()
        assert not layer.is_open
        assert ours.send(b"is open, for whoever goes on with it")


# ------------------------------------------------------------------------- what PS3.8 forbids, and is served or named


def presentation_contexts(answer: bytes) -> dict[int, int]:
    """Return the results of an A-ASSOCIATE-AC by Presentation Context ID."""
    return {content[0]: content[2] for kind, content in items(answer[74:]) if kind == 0x21}


def roles_of(answer: bytes) -> bytes:
    (information,) = [content for kind, content in items(answer[74:]) if kind == 0x50]
    (answered,) = [content[-2:] for kind, content in items(information) if kind == 0x54]
    return answered


@pytest.mark.parametrize("ids", [(2,), (0,), (1, 2), (4, 3, 200), tuple(range(128, 256))], ids=str)
def test_presentation_context_ids_that_are_even_are_served(ids):
    """dcm4che's stgcmtscu sends 2."""
    answered = accept(associate_rq([], context_items=b"".join(context_item(n, *CT) for n in ids)), MAXIMUM)
    assert answered.contexts == {n: Context(n, CT_IMAGE_STORAGE, EXPLICIT) for n in ids}
    assert presentation_contexts(answered.answer) == dict.fromkeys(ids, 0)
    assert answered.oddities == tuple(f"Presentation Context ID {n}, which is not odd" for n in ids if n % 2 == 0)


def test_what_is_not_supported_is_rejected_by_its_own_id():
    find = ("1.2.840.10008.5.1.4.32.1", (IMPLICIT,))
    answered = accept(associate_rq([], context_items=context_item(2, *find) + context_item(3, *CT)), MAXIMUM)
    assert presentation_contexts(answered.answer) == {2: 3, 3: 0}
    assert list(answered.contexts) == [3]


@pytest.mark.parametrize("context", [0, 2])
def test_messages_go_both_ways_in_a_context_of_an_even_id(server, context, caplog):
    caplog.set_level(logging.INFO)
    with Peer(server.port) as peer:
        kind, body = peer.ask(associate_rq([], context_items=context_item(context, *ECHO)))
        assert kind == ASSOCIATE_AC
        peer.accept(body)
        assert peer.echo(context) == 0
        peer.release()
    associations_ended()
    assert f"'TESTER' at 127.0.0.1 proposes Presentation Context ID {context}, which is not odd" in caplog.text


@pytest.mark.parametrize(
    ("scu", "scp", "given"), [(1, 2, b"\1\1"), (255, 0, b"\1\0"), (0, 7, b"\0\1"), (1, 1, b"\1\1")]
)
def test_a_role_beyond_1_is_a_yes(scu, scp, given):
    answered = accept(associate_rq([CT], items=role(CT_IMAGE_STORAGE, scu=scu, scp=scp)), MAXIMUM)
    assert roles_of(answered.answer) == given
    assert answered.contexts[1].peer_is_scp == bool(scp)
    said = f"the roles {scu} and {scp} for '{CT_IMAGE_STORAGE}'"
    assert answered.oddities == (() if max(scu, scp) == 1 else (said,))


@pytest.mark.parametrize("version", [1, 3, 0x8001, 0xFFFF])
def test_of_the_protocol_version_bit_0_alone_counts(server, version):
    """PS3.8 9.3.2: a receiver tests no other bit."""
    with server.peer(ECHO, version=version) as peer:
        assert peer.echo() == 0
        peer.release()
    assert server.rejections == []


@pytest.mark.parametrize("version", [0, 2, 0xFFFE])
def test_another_protocol_version_is_rejected_and_noted(server, version):
    with Peer(server.port) as peer:
        assert peer.ask(associate_rq([ECHO], version=version)) == (ASSOCIATE_RJ, b"\0\1\2\2")
    associations_ended()
    ((*_, reason, _),) = server.rejections
    assert f"0x{version:04X}" in reason


@pytest.mark.parametrize("unused", [item(0x58, b"\x09\0\0\3abc\0\0"), item(0x57, b"\0\xff"), item(0x55, b"")])
def test_user_information_that_nothing_here_depends_on_is_not_judged(unused):
    assert accept(associate_rq([CT], items=unused), MAXIMUM) == accept(associate_rq([CT]), MAXIMUM)


def test_an_id_that_is_proposed_twice_is_told():
    assert accept(REQUESTS["an ID twice"], MAXIMUM).oddities == ("Presentation Context ID 1 twice",)


# ------------------------------------------------------------------------------------------------- remembering


def size_of(request: bytes) -> int:
    answered = accept(request, MAXIMUM)
    return len(request) + len(answered.answer)


def test_a_request_is_worked_out_once(monkeypatch):
    acceptances = NegotiationCache(MAXIMUM)
    first = acceptances.of(REQUESTS["roles"])
    monkeypatch.setattr(acceptance_module, "accept", None)
    assert acceptances.of(bytes(REQUESTS["roles"])) is first


def test_one_byte_of_difference_is_another_request():
    acceptances = NegotiationCache(MAXIMUM)
    first, second = (acceptances.of(associate_rq([ECHO], calling=calling)) for calling in (b"CONSOLE1", b"CONSOLE2"))
    assert first is not None
    assert second is not None
    assert (first.calling, second.calling) == ("CONSOLE1", "CONSOLE2")
    assert first.answer != second.answer


def test_what_is_remembered_is_bounded_and_the_last_ones_stay():
    requests = [associate_rq([ECHO], calling=b"CONSOLE%04d" % number) for number in range(100)]
    acceptances = NegotiationCache(MAXIMUM, limit_bytes=10 * size_of(requests[0]))
    first = acceptances.of(requests[0])
    for request in requests:
        acceptances.of(request)
        assert acceptances.of(requests[0]) is first  # used all the time
    assert list(acceptances._known) == [*requests[-9:], requests[0]][-10:]
    assert acceptances._size_bytes == 10 * size_of(requests[0])


def test_a_huge_request_displaces_no_other():
    small = associate_rq([ECHO])
    huge = REQUESTS["128 contexts"]
    acceptances = NegotiationCache(MAXIMUM, limit_bytes=8 * size_of(huge) - 8)
    kept = acceptances.of(small)
    assert acceptances.of(huge) is not None
    assert list(acceptances._known) == [small]
    assert acceptances.of(small) is kept


def test_who_may_call_is_decided_each_time(start_server):
    server = start_server(maximum_associations=1, reserved_associations=0)
    request = associate_rq([ECHO])
    with Peer(server.port) as first, Peer(server.port) as second:
        assert first.ask(request)[0] == 2
        assert second.ask(request) == (ASSOCIATE_RJ, b"\0\2\3\2")
        assert first.ask(release_rq()) == (RELEASE_RP, bytes(4))


# ----------------------------------------------------------------------------------------------------- hostile requests


def crafted(contexts: bytes, user: bytes = b"") -> bytes:
    head = struct.pack(">HH", 1, 0) + b"BACKUP_SCP".ljust(16) + b"TESTER".ljust(16) + bytes(32)
    head += item(0x10, b"1.2.840.10008.3.1.1.1")
    return pdu(1, head + contexts + item(0x50, item(0x51, struct.pack(">I", 16384)) + item(0x52, b"1.2.3") + user))


def proposed(abstract: bytes, syntaxes: int = 1, number: int = 1) -> bytes:
    each = item(0x40, IMPLICIT.encode()) * syntaxes
    return item(0x20, bytes((number, 0, 0, 0)) + item(0x30, abstract) + each)


@pytest.mark.parametrize(
    ("request_", "what"),
    [
        (crafted(proposed(b"1.2.3") * 513), "515 items"),
        (crafted(proposed(b"1.2.3", 2100) * 4), "8404 Abstract and Transfer Syntaxes"),
        (crafted(proposed(b"1.2.3"), item(0x54, b"\0\5" + b"1.2.3\1\1") * 511), "513 items of user information"),
    ],
)
def test_thousands_of_tiny_items_are_refused_before_they_are_decoded(start_server, monkeypatch, request_, what):
    """Each costs the codecs as much as a whole request: a stranger must not take a core for seconds."""
    with monkeypatch.context() as patch:
        patch.setattr(acceptance_module, "_decode", None)
        with pytest.raises(InvalidRequest, match=what):
            accept(request_, 16384)
    running = start_server()
    with Peer(running.port) as peer:
        assert peer.ask(request_)[0] == ABORT


def test_what_strangers_propose_does_not_stay_in_memory():
    """Hundreds of requests, each with its own Abstract Syntaxes of 65,000 characters."""
    known = NegotiationCache(131072)
    tracemalloc.start()
    try:
        for number in range(200):
            contexts = (proposed(b"%d." % (number * 3 + n) * 12_000, number=2 * n + 1) for n in range(3))
            assert known.of(crafted(b"".join(contexts))).contexts
        remembered, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert remembered < 8e6


def test_requests_are_decoded_one_at_a_time_and_usual_ones_first(monkeypatch):
    known, decoded, threads = NegotiationCache(131072), [], []
    queue = known._decoding

    def noted(request_, maximum_pdu_length):
        assert queue.holder[1] > 0
        decoded.append(len(request_))
        return accept(request_, maximum_pdu_length)

    monkeypatch.setattr(acceptance_module, "accept", noted)
    long, usual = crafted(proposed(b"1" * 60_000)), crafted(proposed(b"1.2.3"))
    with queue.turn():
        for request_ in (long, usual):
            threads.append(threading.Thread(target=known.of, args=(request_,)))
            threads[-1].start()
            wait_until(lambda: queue.waiting == len(threads))
    for thread in threads:
        thread.join()
    assert decoded == [len(usual), len(long)]
