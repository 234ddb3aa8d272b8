"""The Command Set codec: round trips, wrong lengths, and agreement with pydicom (PS3.7 6.3, E)."""

from __future__ import annotations

import contextlib
import io
import struct

import pydicom
import pytest
from hypothesis import given
from hypothesis import strategies as st

from backup_scp.dimse.messages import command_set
from backup_scp.dimse.messages.command_set import NO_DATA_SET, CommandSet, Element, Field, encode, response
from backup_scp.errors import InvalidDataSet

UIDS = st.text("0123456789.", min_size=1, max_size=64)
TITLES = st.text(st.characters(min_codepoint=33, max_codepoint=126, exclude_characters="\\"), min_size=1, max_size=16)
US = st.integers(0, 0xFFFF)
VALUES = st.fixed_dictionaries(
    {Element.COMMAND_FIELD: st.sampled_from(Field)},
    optional={
        Element.AFFECTED_SOP_CLASS_UID: UIDS,
        Element.REQUESTED_SOP_CLASS_UID: UIDS,
        Element.AFFECTED_SOP_INSTANCE_UID: UIDS,
        Element.MOVE_DESTINATION: TITLES,
        Element.MOVE_ORIGINATOR_AE_TITLE: TITLES,
        Element.ERROR_COMMENT: TITLES,
        Element.MESSAGE_ID: US,
        Element.MESSAGE_ID_BEING_RESPONDED_TO: US,
        Element.PRIORITY: US,
        Element.STATUS: US,
        Element.REMAINING: US,
        Element.COMPLETED: US,
        Element.FAILED: US,
        Element.WARNING: US,
        Element.MOVE_ORIGINATOR_MESSAGE_ID: US,
    },
)


@given(VALUES, st.booleans())
def test_round_trip(values, data_set):
    decoded = CommandSet.decode(encode(values, data_set=data_set))
    for element, value in values.items():
        assert (decoded.number(element) if isinstance(value, int) else decoded.text(element)) == value
    assert decoded.has_data_set == data_set
    assert decoded.field == values[Element.COMMAND_FIELD]


@given(VALUES, st.booleans())
def test_pydicom_reads_the_same(values, data_set):
    encoded = encode(values, data_set=data_set)
    read = pydicom.dcmread(io.BytesIO(encoded), force=True)
    assert [element.tag.group for element in read] == [0] * len(read)
    assert [element.tag.element for element in read] == sorted(element.tag.element for element in read)
    assert read.CommandGroupLength == len(encoded) - 12
    for element, value in values.items():
        assert read[0, int(element)].value == value
    assert (read.CommandDataSetType == NO_DATA_SET) != data_set


def test_an_offending_element_is_a_tag():
    encoded = encode({Element.COMMAND_FIELD: 0x8001, Element.OFFENDING_ELEMENT: 0x00080018})
    assert pydicom.dcmread(io.BytesIO(encoded), force=True).OffendingElement == 0x00080018


@given(st.binary(max_size=200))
def test_any_bytes_are_read_or_refused(encoded):
    with contextlib.suppress(InvalidDataSet):
        command = CommandSet.decode(encoded)
        for element in Element:
            assert 0 <= command.number(element) <= 0xFFFF
            command.text(element)
        response(command, 0x0110, comment="x")


@given(VALUES, st.data())
def test_every_cut_is_refused_or_ends_between_elements(values, data):
    encoded = encode(values)
    cut = data.draw(st.integers(0, len(encoded) - 1))
    try:
        kept = CommandSet.decode(encoded[:cut])
    except InvalidDataSet:
        return
    assert set(kept.elements) < set(CommandSet.decode(encoded).elements)


@pytest.mark.parametrize(
    "encoded",
    [
        struct.pack("<HHI", 0, 0x0100, 3) + b"ab",
        struct.pack("<HHI", 0, 0x0100, 0xFFFFFFFF),
        struct.pack("<HHI", 8, 0x0005, 0),
        b"\0",
        struct.pack("<HHI", 0, 0x0100, 2) + b"ab" + b"\0\0\0\0\0\0\0",
    ],
    ids=["value cut off", "undefined length", "another group", "one byte", "header cut off"],
)
def test_lies_are_refused(encoded):
    with pytest.raises(InvalidDataSet):
        CommandSet.decode(encoded)


def test_what_is_absent_or_malformed_reads_as_nothing():
    command = CommandSet({Element.MESSAGE_ID: b"\1", Element.STATUS: b"", Element.PRIORITY: b"\1\2\3\4"})
    assert (command.message_id, command.number(Element.PRIORITY), command.field) == (0, 0, 0)
    assert command.text(Element.MOVE_DESTINATION) == ""
    assert command.has_data_set  # only 0101H says that none follows, PS3.7 E.1


@pytest.mark.parametrize("status", [None, b"", b"\0", bytes(4)])
def test_a_status_is_never_made_up(status):
    with pytest.raises(InvalidDataSet, match="Status"):
        _ = CommandSet({} if status is None else {Element.STATUS: status}).status


@pytest.mark.parametrize("named", [None, "", "1.2.3"])
def test_an_answer_names_our_instance_or_none(named):
    elements: dict[int, bytes] = {Element.MESSAGE_ID_BEING_RESPONDED_TO: b"\7\0", Element.STATUS: b"\0\0"}
    if named is not None:
        elements[Element.AFFECTED_SOP_INSTANCE_UID] = named.encode()
    CommandSet(elements).require_answer(7, "1.2.3")
    CommandSet(elements).require_answer(7, " 1.2.3")  # as it was stored; its padding is not kept
    CommandSet(elements).require_answer(7)
    if named:
        with pytest.raises(InvalidDataSet, match="another SOP Instance"):
            CommandSet(elements).require_answer(7, "1.2.4")
    with pytest.raises(InvalidDataSet, match="message 7"):
        CommandSet(elements).require_answer(8, "1.2.3")


@pytest.mark.parametrize("padded", [b"1.2.3\0", b"1.2.3 ", b" 1.2.3\0\0", b"1.2.3"])
def test_padding_is_no_part_of_a_value(padded):
    assert CommandSet({0x1000: padded}).text(Element.AFFECTED_SOP_INSTANCE_UID) == "1.2.3"


@pytest.mark.parametrize(
    ("comment", "written"),
    [
        ("No room", "No room"),
        ("x" * 100, "x" * 64),
        ("C:\\data\nfull\x1b[0m", "C:?data?full?[0m"),
        ("Größe", "Gr??e"),
        ("日本", "??"),
        ("[]~^ ", "[]~^"),
    ],
)
def test_an_error_comment_is_an_lo_of_the_default_repertoire(comment, written):
    request = CommandSet.decode(encode({Element.COMMAND_FIELD: 1, Element.MESSAGE_ID: 7}))
    assert CommandSet.decode(response(request, 0xA700, comment=comment)).text(Element.ERROR_COMMENT) == written


@given(
    st.dictionaries(st.sampled_from([*sorted(command_set._OF_C_STORE), 0x9999]), st.binary(max_size=9)),
    st.sampled_from([0, 0xB000, 0xA700]),
)
def test_a_response_is_the_same_however_it_is_made(elements, status):
    request = CommandSet({int(element): value for element, value in elements.items()})
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(command_set, "_OF_C_STORE", frozenset())
        expected = response(request, status)
    assert response(request, status) == expected


def test_a_response_names_its_request():
    request = encode(
        {
            Element.COMMAND_FIELD: Field.C_STORE_RQ,
            Element.MESSAGE_ID: 513,
            Element.AFFECTED_SOP_CLASS_UID: "1.2",
            Element.AFFECTED_SOP_INSTANCE_UID: "1.2.3",
            Element.MOVE_ORIGINATOR_AE_TITLE: "X",
        }
    )
    answer = CommandSet.decode(response(CommandSet.decode(request), 0xB000, completed=1, failed=70000))
    assert answer.is_response
    assert not CommandSet.decode(request).is_response
    assert answer.field == Field.C_STORE_RSP
    assert answer.number(Element.MESSAGE_ID_BEING_RESPONDED_TO) == 513
    assert answer.status == 0xB000
    assert answer.text(Element.AFFECTED_SOP_CLASS_UID) == "1.2"
    assert answer.text(Element.AFFECTED_SOP_INSTANCE_UID) == "1.2.3"
    assert (answer.number(Element.COMPLETED), answer.number(Element.FAILED)) == (1, 0xFFFF)
    assert Element.REMAINING not in answer.elements
    assert Element.MOVE_ORIGINATOR_AE_TITLE not in answer.elements
    assert not answer.has_data_set
