"""The answer to an A-ASSOCIATE-RQ (PS3.7 D.3, PS3.8 9.3)."""

from __future__ import annotations

import logging
import re
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pynetdicom import sop_class as standard
from pynetdicom.presentation import build_context

from backup_scp.dicom.query.information_model import MODELS
from backup_scp.dimse.association.negotiation import (
    NATIVE,
    STORAGE_COMMITMENT,
    answer_context,
    choose_transfer_syntax,
    is_storage,
    is_supported,
)
from tests.dimse.conftest import associations_ended
from tests.dimse.wire import (
    ABORT,
    ASSOCIATE_AC,
    ASSOCIATE_RJ,
    BIG_ENDIAN,
    CT_IMAGE_STORAGE,
    EXPLICIT,
    IMPLICIT,
    STUDY_ROOT_FIND,
    VERIFICATION,
    Context,
    Peer,
    associate_rq,
    context_item,
    item,
    role,
)

JPEG_BASELINE, JPEG_LOSSLESS, J2K, J2K_LOSSLESS = (f"1.2.840.10008.1.2.4.{number}" for number in (50, 70, 91, 90))
DEFLATED, PRIVATE_SYNTAX = "1.2.840.10008.1.2.1.99", "1.2.826.0.1.3680043.10.9999.2.1"
ECHO = (VERIFICATION, (IMPLICIT,))
CT = (CT_IMAGE_STORAGE, (EXPLICIT,))


# ------------------------------------------------------------------------------------------------- SOP Classes

STORAGE = sorted({*standard._STORAGE_CLASSES.values(), *standard._NON_PATIENT_OBJECT_CLASSES.values()})
_TABLES = {name: table for name, table in vars(standard).items() if re.fullmatch("_[A-Z_]+_CLASSES", name)}
OTHERS = sorted(
    {
        *(
            uid
            for name, table in _TABLES.items()
            if name
            not in {"_STORAGE_CLASSES", "_NON_PATIENT_OBJECT_CLASSES", "_MEDIA_STORAGE_CLASSES", "_SERVICE_CLASSES"}
            for uid in table.values()
            if uid not in {VERIFICATION, STORAGE_COMMITMENT, *MODELS}
        ),
        "1.2.840.10008.1.20.2",  # Storage Commitment Pull Model, retired
        "1.2.840.10008.1.9",  # Basic Study Content Notification, retired
        "1.2.840.10008.3.1.2.1.1",  # Detached Patient Management, retired
        "1.2.840.10008.5.1.4.32.1",  # General Purpose Worklist, retired
        "1.2.840.10008.10.1",  # Real-Time Communication
        "1.2.840.10008.1.2",  # a Transfer Syntax
        "1.2.840.10008.3.1.1.1",  # the Application Context
    }
)
STORED_TOO = {
    "retired Ultrasound": "1.2.840.10008.5.1.4.1.1.6",
    "retired Nuclear Medicine": "1.2.840.10008.5.1.4.1.1.5",
    "retired Hardcopy Grayscale": "1.2.840.10008.5.1.1.29",
    "draft of Supplement 30": "1.2.840.10008.5.1.4.1.1.12.77",
    "a class of next year": "1.2.840.10008.5.1.4.1.1.9999.1",
    "private": "1.2.826.0.1.3680043.10.9999.4.1",
    "GE private": "1.2.840.113619.4.26",
    "with letters": "1.2.ABC.def",
    "with leading zeros": "1.2.003.4",
    "longer than 64 characters": "1.2." + "3" * 90,
}


@pytest.mark.parametrize("uid", [*STORAGE, *STORED_TOO.values()])
def test_every_storage_class_is_taken(uid):
    assert is_storage(uid)
    assert is_supported(uid)


@pytest.mark.parametrize("uid", [*OTHERS, VERIFICATION, STORAGE_COMMITMENT, *MODELS])
def test_no_other_service_is_taken_for_storage(uid):
    assert not is_storage(uid)
    assert is_supported(uid) == (uid in {VERIFICATION, STORAGE_COMMITMENT, *MODELS})


def test_all_of_them_on_the_wire(server):
    everything = [*STORAGE, *STORED_TOO.values(), *OTHERS]
    for start in range(0, len(everything), 128):
        proposed = everything[start : start + 128]
        with server.peer(*((uid, (EXPLICIT, IMPLICIT)) for uid in proposed)) as peer:
            results = [peer.contexts[2 * n + 1].result for n in range(len(proposed))]
            peer.release()
        assert results == [0 if is_storage(uid) else 3 for uid in proposed]


def test_128_contexts(server):
    syntaxes = (EXPLICIT, IMPLICIT, JPEG_BASELINE, J2K, PRIVATE_SYNTAX)
    with server.peer(*[(f"1.2.3.{n}", syntaxes) for n in range(128)]) as peer:
        assert peer.contexts == {2 * n + 1: Context(0, EXPLICIT) for n in range(128)}
        peer.release()


def test_the_same_sop_class_in_several_contexts(server):
    syntaxes = [EXPLICIT, IMPLICIT, JPEG_LOSSLESS, DEFLATED, PRIVATE_SYNTAX]
    with server.peer(*[(CT_IMAGE_STORAGE, (syntax,)) for syntax in syntaxes]) as peer:
        assert [context.transfer_syntax for context in peer.contexts.values()] == syntaxes
        peer.release()


# --------------------------------------------------------------------------------------------- Transfer Syntaxes


@pytest.mark.parametrize(
    ("proposed", "chosen"),
    [
        ([IMPLICIT], IMPLICIT),
        ([IMPLICIT, EXPLICIT], IMPLICIT),
        ([EXPLICIT, IMPLICIT], EXPLICIT),
        ([JPEG_LOSSLESS, EXPLICIT], JPEG_LOSSLESS),
        ([JPEG_BASELINE, EXPLICIT], EXPLICIT),
        ([J2K, JPEG_BASELINE, J2K_LOSSLESS, IMPLICIT], J2K_LOSSLESS),
        ([JPEG_BASELINE], JPEG_BASELINE),
        ([J2K, JPEG_BASELINE], J2K),
        ([PRIVATE_SYNTAX], PRIVATE_SYNTAX),
        ([BIG_ENDIAN, EXPLICIT], BIG_ENDIAN),
        ([DEFLATED], DEFLATED),
        (["1.2.840.10008.1.2.4.102"], "1.2.840.10008.1.2.4.102"),
        ([], None),
    ],
)
def test_storage_takes_the_first_that_loses_nothing(proposed, chosen):
    assert choose_transfer_syntax(CT_IMAGE_STORAGE, proposed) == chosen


@pytest.mark.parametrize("abstract", [VERIFICATION, STUDY_ROOT_FIND])
def test_other_services_take_the_first_native_one(abstract):
    assert choose_transfer_syntax(abstract, [JPEG_BASELINE, DEFLATED, BIG_ENDIAN, IMPLICIT]) == BIG_ENDIAN
    assert choose_transfer_syntax(abstract, [JPEG_BASELINE, DEFLATED]) is None


@given(st.lists(st.sampled_from([*NATIVE, JPEG_BASELINE, J2K, JPEG_LOSSLESS, PRIVATE_SYNTAX, "x"]), min_size=1))
def test_what_is_chosen_was_proposed(proposed):
    assert choose_transfer_syntax(CT_IMAGE_STORAGE, proposed) in proposed
    assert choose_transfer_syntax(VERIFICATION, proposed) in {None, *proposed} & {None, *NATIVE}
    assert choose_transfer_syntax("1.2.840.10008.1.20.2", proposed) is None


@pytest.mark.parametrize(
    ("abstract", "syntax", "result"),
    [
        (CT_IMAGE_STORAGE, JPEG_BASELINE, 0),
        (VERIFICATION, JPEG_BASELINE, 4),
        (STUDY_ROOT_FIND, DEFLATED, 4),
        (STORAGE_COMMITMENT, IMPLICIT, 0),
        ("1.2.840.10008.1.20.2", IMPLICIT, 3),
    ],
)
def test_reasons(abstract, syntax, result):
    proposed = build_context(abstract, syntax)
    proposed.context_id = 5
    answer = answer_context(proposed)
    assert (answer.context_id, answer.result, answer.transfer_syntax) == (5, result, [syntax])


def test_a_context_without_transfer_syntax_or_abstract_syntax_harms_no_other(server):
    contexts = context_item(1, VERIFICATION, [IMPLICIT]) + context_item(3, CT_IMAGE_STORAGE, [])
    with Peer(server.port) as peer:
        kind, body = peer.ask(associate_rq([], context_items=contexts))
        assert kind == ASSOCIATE_AC
        peer.accept(body)
        assert [peer.contexts[n].result for n in (1, 3)] == [0, 4]
        assert peer.echo() == 0
        peer.release()


def test_no_abstract_syntax_is_no_storage(server):
    with Peer(server.port) as peer:
        kind, body = peer.ask(associate_rq([], context_items=context_item(1, None, [IMPLICIT])))
        if kind == ASSOCIATE_AC:
            peer.accept(body)
            assert peer.contexts[1].result == 3
        else:
            assert kind == ABORT


# ------------------------------------------------------------------------------------------- user information


def test_what_the_node_says_of_itself(start_server):
    with start_server(maximum_pdu_length=65536).peer(ECHO) as peer:
        told = dict(peer.user_items())
        peer.release()
    assert struct.unpack(">I", told[0x51]) == (65536,)
    assert told[0x52].startswith(b"2.25.")
    assert told[0x55].startswith(b"BACKUP")
    assert set(told) == {0x51, 0x52, 0x55}


def test_roles_are_taken_for_storage_only(server):
    asked = role(CT_IMAGE_STORAGE, scu=1, scp=1) + role(VERIFICATION, scu=1, scp=1) + role("1.2.9", scu=1, scp=1)
    with server.peer(CT, ECHO, items=asked) as peer:
        answers = [content for kind, content in peer.user_items() if kind == 0x54]
        peer.release()
    assert answers == [role(CT_IMAGE_STORAGE, scu=1, scp=1)[4:], role(VERIFICATION, scu=1, scp=0)[4:]]


def test_no_role_is_given_that_was_not_asked_for(server):
    with server.peer(CT, items=role(CT_IMAGE_STORAGE, scu=0, scp=1)) as peer:
        assert (0x54, role(CT_IMAGE_STORAGE, scu=0, scp=1)[4:]) in peer.user_items()
        peer.release()


@pytest.mark.parametrize(("sop_class", "scp"), [(VERIFICATION, 1), (VERIFICATION, 0), (CT_IMAGE_STORAGE, 0)])
def test_where_no_role_is_left_none_is_answered(server, sop_class, scp):
    with server.peer(CT, ECHO, items=role(sop_class, scu=0, scp=scp)) as peer:
        assert 0x54 not in dict(peer.user_items())
        assert peer.echo(3) == 0
        peer.release()


def test_roles_of_odd_uids(server):
    odd = "1.2." + "3" * 80
    with server.peer((odd, (EXPLICIT,)), items=role(odd, scu=1, scp=1)) as peer:
        assert (0x54, role(odd, scu=1, scp=1)[4:]) in peer.user_items()
        peer.release()


@pytest.mark.parametrize("window", [(0, 0), (8, 8), (1, 5)])
def test_one_operation_at_a_time(server, window):
    with server.peer(ECHO, items=item(0x53, struct.pack(">HH", *window))) as peer:
        assert (0x53, struct.pack(">HH", 1, 1)) in peer.user_items()
        peer.release()


def test_a_window_of_one_is_not_answered(server):
    with server.peer(ECHO, items=item(0x53, struct.pack(">HH", 1, 1))) as peer:
        assert 0x53 not in dict(peer.user_items())
        peer.release()


EXTENDED, STUDY_ROOT_GET = 0x56, "1.2.840.10008.5.1.4.1.2.2.3"


def extended(sop_class, proposed):
    return item(EXTENDED, struct.pack(">H", len(sop_class)) + sop_class.encode() + proposed)


@pytest.mark.parametrize(
    ("sop_class", "proposed", "answered"),
    [
        (STUDY_ROOT_FIND, b"\1", b"\1"),
        (STUDY_ROOT_FIND, b"\0", b"\0"),
        (STUDY_ROOT_FIND, b"\1\1\1\1", b"\1\1\1\1"),
        (STUDY_ROOT_FIND, b"\1\1\1\1\1\1\1", b"\1\1\1\1\0\1\1"),  # no Query/Retrieve View
        (STUDY_ROOT_FIND, b"\0\1\0\1\0\1\0", b"\0\1\0\1\0\1\0"),
        (STUDY_ROOT_FIND, b"\2\xff\1", b"\0\0\1"),
        (STUDY_ROOT_FIND, b"\1" * 600, b"\1\1\1\1\0\1\1"),
        (STUDY_ROOT_GET, b"\1", b"\1"),
        (STUDY_ROOT_GET, b"\1\1\1", b"\1\0"),
        (STUDY_ROOT_FIND, b"", None),
        (CT_IMAGE_STORAGE, b"\1\1\1", None),
        ("1.2.840.10008.5.1.4.1.2.1.1", b"\1", None),  # no context of it
    ],
)
def test_extended_negotiation_is_answered_byte_by_byte(server, sop_class, proposed, answered):
    contexts = [(uid, (IMPLICIT,)) for uid in (VERIFICATION, STUDY_ROOT_FIND, STUDY_ROOT_GET, CT_IMAGE_STORAGE)]
    with server.peer(*contexts, items=extended(sop_class, proposed)) as peer:
        told = [content for kind, content in peer.user_items() if kind == EXTENDED]
        assert peer.echo() == 0
        peer.release()
    assert told == ([] if answered is None else [extended(sop_class, answered)[4:]])


def test_each_sop_class_is_negotiated_by_itself(server):
    contexts = [(uid, (IMPLICIT,)) for uid in (STUDY_ROOT_FIND, STUDY_ROOT_GET)]
    both = extended(STUDY_ROOT_FIND, b"\0\1") + extended(STUDY_ROOT_GET, b"\1")
    with server.peer(*contexts, items=both) as peer:
        told = [content for kind, content in peer.user_items() if kind == EXTENDED]
        peer.release()
    assert told == [extended(STUDY_ROOT_FIND, b"\0\1")[4:], extended(STUDY_ROOT_GET, b"\1")[4:]]


def test_user_identity_and_common_extended_negotiation_are_passed_over(server):
    identity = item(0x58, b"\2\1" + struct.pack(">H", 4) + b"user" + struct.pack(">H", 6) + b"secret")
    common = item(0x57, struct.pack(">H", 5) + b"1.2.3" + struct.pack(">H", 5) + b"1.2.4" + struct.pack(">H", 0))
    with server.peer(ECHO, (STUDY_ROOT_FIND, (IMPLICIT,)), items=identity + common) as peer:
        assert {kind for kind, _ in peer.user_items()} == {0x51, 0x52, 0x55}
        assert peer.echo() == 0
        peer.release()


# -------------------------------------------------------------------------------------------------- AE titles


@pytest.mark.parametrize("called", [b"OTHER", b"backup_scp", b"BACKUP_SCP2", b"BACKUP SCP", b"BACKUP_SCP\xfc!"])
def test_a_called_ae_title_that_is_not_ours(server, called):
    with Peer(server.port) as peer:
        assert peer.ask(associate_rq([ECHO], called=called)) == (ASSOCIATE_RJ, b"\0\1\1\7")
    finish()
    ((kind, _, noted, address, reason, fix),) = server.rejections
    assert kind == "association"
    assert noted == called.decode("ascii", "ignore")
    assert address == "127.0.0.1"
    assert "our AE title is BACKUP_SCP" in reason
    assert "set the called AE title to BACKUP_SCP" in fix


def test_any_called_ae_title_when_the_settings_say_so(start_server):
    with start_server(check_called_ae_title=False).peer(ECHO, called=b"ANYTHING") as peer:
        assert peer.echo() == 0
        peer.release()


@pytest.mark.parametrize(
    "called", [b"BACKUP_SCP", b" BACKUP_SCP", b"BACKUP_SCP\0\0\0\0\0\0", b"  BACKUP_SCP \0 \0", b"BACKUP_SCP\0old"]
)
def test_padding_is_no_part_of_a_called_ae_title(server, called):
    with server.peer(ECHO, called=called) as peer:
        assert peer.echo() == 0
        peer.release()


@pytest.mark.parametrize(
    ("calling", "name"),
    [
        (b"CONSOLE\0\0\0\0\0\0\0\0\0", "CONSOLE"),
        (b"CONSOLE\0garbage", "CONSOLE"),
        (b"  CONSOLE", "CONSOLE"),
        (b"PRAXIS M\xdcLLER", "PRAXIS MLLER"),
        (b"A\\B", "A\\B"),
        (b"%s%n'\"<b>", "%s%n'\"<b>"),
    ],
)
def test_an_odd_calling_ae_title_does_not_block(server, calling, name, caplog):
    caplog.set_level(logging.INFO)
    with server.peer(ECHO, calling=calling) as peer:
        assert peer.echo() == 0
        peer.release()
    finish()
    assert f"{name!r} at 127.0.0.1" in caplog.text


@pytest.mark.parametrize("calling", [b"CON\r\nSOLE", b"\x1b[31mRED", b"\x7f"])
def test_a_calling_ae_title_with_control_characters_is_none(server, calling, caplog):
    with Peer(server.port) as peer:
        assert peer.ask(associate_rq([ECHO], calling=calling)) == (ASSOCIATE_RJ, b"\0\1\1\3")
    finish()
    assert len(server.rejections) == 1
    assert not {"\r", "\x1b", "\0", "\x7f"} & set(caplog.text)
    assert all(record.levelno < logging.ERROR for record in caplog.records)


@pytest.mark.parametrize(
    ("titles", "reason", "said"),
    [
        ({"calling": b""}, 3, "its calling AE title is blank"),
        ({"calling": bytes(16)}, 3, "its calling AE title is blank"),
        ({"calling": b"\0CONSOLE"}, 3, "its calling AE title is blank"),
        ({"calling": b"\xd0\xa0\xd0\x95"}, 3, "its calling AE title is blank"),
        ({"called": b""}, 7, "it calls us '', and our AE title is BACKUP_SCP"),
    ],
)
def test_a_blank_ae_title_is_rejected_and_noted(server, titles, reason, said, caplog):
    """PS3.8 9.3.2: 16 blanks shall not be used."""
    with Peer(server.port) as peer:
        assert peer.ask(associate_rq([ECHO], **titles)) == (ASSOCIATE_RJ, bytes((0, 1, 1, reason)))
    finish()
    assert said in caplog.text
    ((*_, noted, _),) = server.rejections
    assert noted == said


def finish():
    """Wait until the associations have ended."""
    associations_ended()
