"""C-FIND over the network with a real index: negotiated matching, strict hierarchy, hostile keys."""

from __future__ import annotations

import io
import struct
from typing import Any

import pydicom
import pytest

from backup_scp.dicom.attributes import BY_TAG
from tests.dimse.wire import (
    C_FIND_RQ,
    COMMAND,
    DATA,
    IMPLICIT,
    LAST,
    STUDY_ROOT_FIND,
    Elements,
    command,
    fragments,
    item,
    p_data,
    pdv,
)
from tests.index.examples import version

FIND = (STUDY_ROOT_FIND, (IMPLICIT,))
PENDING = {0xFF00, 0xFF01}
SUCCESS, INVALID = 0x0000, 0xA900
RELATIONAL, DATE_TIME, FUZZY, EVERYTHING = b"\1", b"\0\1", b"\0\0\1", b"\1" * 7
ZONE = b"\0\0\0\1"
EMPTY, MULTIPLE = b"\0\0\0\0\0\1", b"\0\0\0\0\0\0\1"

LEVEL = 0x00080052
TAGS = {
    "PatientName": 0x00100010,
    "PatientID": 0x00100020,
    "OtherPatientIDs": 0x00101000,
    "PatientComments": 0x00104000,
    "PatientWeight": 0x00101030,
    "StudyDate": 0x00080020,
    "StudyTime": 0x00080030,
    "ModalitiesInStudy": 0x00080061,
    "StudyInstanceUID": 0x0020000D,
    "SeriesInstanceUID": 0x0020000E,
    "ReferringPhysicianName": 0x00080090,
    "NumberOfStudyRelatedInstances": 0x00201208,
    "TimezoneOffsetFromUTC": 0x00080201,
}
MIB = 1 << 20

HOSTILE = {
    "stars": b"*" * 10_000,
    "stars and letters": b"*a" * 10_000,
    "stars and marks": b"*?" * 10_000,
    "marks": b"?" * 10_000,
    "brackets": b"[" * 10_000 + b"*",
    "NUL": b"A\0B\0*\0",
    "nothing but NUL": bytes(10_000),
    "SQL": b"' OR ''=''; DROP TABLE study; --",
    "signs of LIKE": b"%_%_!%\\%_",
    "signs of JSON": b'"],[{\\"a\\":}',
    "no UTF-8": b"\xff\xfe\xed\xa0\x80*",
    "hyphens": b"-" * 10_000,
    "carets": b"^=" * 10_000,
    "escape sequences": b"\x1b$B" * 5_000 + b"zz",
    "words": b" ".join(b"w%d" % n for n in range(10_000)),
    "a list": b"\\".join(b"1.2.%d" % n for n in range(50_000)),
    "digits": b"9" * 60_000,
    "64 KiB": b"A" * (1 << 16),
    "5,000 UIDs": b"\\".join(b"1.2.840.10008.%d" % n for n in range(5_000)),
    "surrogates": "\ud83d".encode("utf-8", "surrogatepass") * 1_000,
    "the end of the planes": "\U0010ffff".encode() * 1_000 + b"*",
    "nearly 1 MiB": b"A" * (MIB - 4096),
    "nearly 1 MiB of stars": b"*" * (MIB - 4096),
    "nearly 1 MiB of wild cards": b"a*" * (MIB // 2 - 2048),
    "nearly 1 MiB of words": b"a " * (MIB // 2 - 2048),
    "nearly 1 MiB of backslashes": b"\\" * (MIB - 4096),
}


@pytest.fixture
def finding(start_server, storage):
    """Return ``finding(bytes, strict)``: an association to a node that holds three studies."""
    for number, (name, date, time, modality) in enumerate(
        [
            ("Döe^Jane", "20240101", "0900", "CT"),
            ("ROE^JANE", "20240102", "1500", "CT"),
            ("", "20240103", "1000", "PT"),
        ]
    ):
        uids: dict[str, Any] = {"sop": f"3.{number}", "series": f"2.{number}", "study": f"1.{number}"}
        storage.index.add(version(**uids, PatientName=name, StudyDate=date, StudyTime=time, Modality=modality))
    storage.index.add(version("3.9", "2.9", "1.0", PatientName="Döe^Jane", Modality="PT"))

    def start(negotiated=b"", *, strict=False):
        uid = STUDY_ROOT_FIND.encode()
        sub_item = item(0x56, struct.pack(">H", len(uid)) + uid + negotiated) if negotiated else b""
        return start_server(storage.services(strict=strict)).peer(FIND, items=sub_item)

    return start


def find(peer, level="STUDY", **keys):
    """C-FIND with these bytes; return the Study Instance UIDs answered and the final Status."""
    return find_and_comment(peer, level, **keys)[:2]


def find_and_comment(peer, level="STUDY", **keys):
    """C-FIND with these bytes; return the Error Comment, too."""
    values = {LEVEL: level.encode(), TAGS["StudyInstanceUID"]: b""}
    values |= {TAGS[keyword]: v if isinstance(v, bytes) else v.encode() for keyword, v in keys.items()}
    return _asked(peer, values)


def ask(peer, values):
    return _asked(peer, values)[:2]


def _asked(peer, values):
    data = b"".join(_element(tag, value + b" " * (len(value) % 2)) for tag, value in sorted(values.items()))
    elements: Elements = {0x0002: STUDY_ROOT_FIND, 0x0100: C_FIND_RQ, 0x0110: 1, 0x0700: 0, 0x0800: 1}
    peer.send(p_data(pdv(1, COMMAND | LAST, command(elements))), *fragments(1, DATA, data, 65_536))
    found = []
    while (answer := peer.message()).status in PENDING:
        found.append(str(pydicom.filereader.read_dataset(io.BytesIO(answer.data_set), True, True).StudyInstanceUID))
    return sorted(found), answer.status, answer.comment


def _element(tag, value):
    return struct.pack("<HHI", tag >> 16, tag & 0xFFFF, len(value)) + value


@pytest.mark.parametrize(
    ("negotiated", "keys", "with_it", "without"),
    [
        (DATE_TIME, {"StudyDate": "20240101-20240103", "StudyTime": "1000-1200"}, ["1.1", "1.2"], ["1.2"]),
        (FUZZY, {"PatientName": "jan doe"}, ["1.0"], []),
        (FUZZY, {"PatientName": "JANE"}, ["1.0", "1.1"], []),
        (EMPTY, {"PatientName": '""'}, ["1.2"], []),
        (MULTIPLE, {"ModalitiesInStudy": "PT\\CT"}, ["1.0"], ["1.0", "1.1", "1.2"]),
    ],
)
def test_what_is_negotiated_is_done(finding, negotiated, keys, with_it, without):
    for proposed, found in ((negotiated, with_it), (EVERYTHING, with_it), (RELATIONAL, without), (b"", without)):
        with finding(proposed) as peer:
            assert find(peer, **keys) == (found, SUCCESS)
            peer.release()


@pytest.mark.parametrize(
    ("offset", "keys", "with_it", "without"),
    [
        ("+0100", {"StudyDate": "20240102"}, ["1.1"], ["1.1"]),
        ("+1000", {"StudyDate": "20240103"}, ["1.1", "1.2"], ["1.2"]),  # 15:00 is 24:00 there
        ("+1000", {"StudyDate": "20240102-20240102", "StudyTime": "0000-0100"}, [], []),
        ("+1000", {"StudyTime": "0000-0100"}, ["1.1"], []),
        ("-1000", {"StudyDate": "-20231231"}, ["1.0"], []),
        ("", {"StudyDate": "20240103"}, ["1.2"], ["1.2"]),
    ],
)
def test_dates_in_the_requesters_zone(finding, storage, offset, keys, with_it, without):
    for number in range(3):  # all say now that they are an hour ahead of UTC
        uids: dict[str, Any] = {"sop": f"4.{number}", "series": f"2.{number}", "study": f"1.{number}"}
        storage.index.add(version(**uids, minute=1, PatientName="", TimezoneOffsetFromUTC="+0100"))
    for proposed, found in ((ZONE, with_it), (EVERYTHING, with_it), (RELATIONAL, without), (b"", without)):
        with finding(proposed) as peer:
            assert find(peer, TimezoneOffsetFromUTC=offset, **keys) == (found, SUCCESS)
            peer.release()


def test_an_offset_that_is_none_is_refused_where_it_counts(finding):
    for negotiated, status in ((ZONE, INVALID), (b"", SUCCESS)):
        with finding(negotiated) as peer:
            for offset in ("noon", "+1", "0100", "+2500", "+0100\\+0200"):
                found, told, comment = find_and_comment(peer, TimezoneOffsetFromUTC=offset)
                assert (found, told) == (ALL if status == SUCCESS else [], status)
                assert ("(0008,0201)" in comment) is (status == INVALID)
            assert find(peer, TimezoneOffsetFromUTC="+0100")[1] == SUCCESS
            peer.release()


@pytest.mark.parametrize("keyword", ["StudyDate", "StudyTime", "TimezoneOffsetFromUTC"])
def test_hostile_keys_in_a_zone(finding, keyword):
    with finding(EVERYTHING) as peer:
        for name, value in HOSTILE.items():
            keys = {"TimezoneOffsetFromUTC": "+0500", keyword: value}
            found, status = find(peer, **keys)
            assert status == (INVALID if keyword == "TimezoneOffsetFromUTC" and value.strip(b"\0") else SUCCESS), name
            assert not found or not value.strip(b"* \0\\"), name
        assert find(peer, StudyInstanceUID="1.1") == (["1.1"], SUCCESS)
        peer.release()


@pytest.mark.parametrize(
    ("negotiated", "strict", "keys", "answered"),
    [
        (b"", False, {}, (["1.0"], SUCCESS)),
        (b"", True, {}, ([], INVALID)),
        (b"", True, {"StudyInstanceUID": "1.0\\1.1"}, ([], INVALID)),
        (b"", True, {"StudyInstanceUID": "1.0"}, (["1.0"], SUCCESS)),
        (RELATIONAL, True, {}, (["1.0"], SUCCESS)),
    ],
)
def test_a_strict_hierarchy(finding, negotiated, strict, keys, answered):
    with finding(negotiated, strict=strict) as peer:
        assert find(peer, "SERIES", SeriesInstanceUID="2.0", **keys) == answered
        assert find(peer, PatientID="P1")[1] == SUCCESS  # there is nothing above it, and the association goes on
        peer.release()


@pytest.mark.parametrize("negotiated", [b"", EVERYTHING])
@pytest.mark.parametrize("keyword", [k for k in TAGS if k not in {"SeriesInstanceUID", "TimezoneOffsetFromUTC"}])
def test_hostile_keys_are_answered(finding, negotiated, keyword):
    with finding(negotiated) as peer:
        for name, value in HOSTILE.items():
            signs = b"* \0" + UNIVERSAL_TOO.get(keyword, b"\\")
            assert find(peer, **{keyword: value}) == ([] if value.strip(signs) else ALL, SUCCESS), name
        assert find(peer, StudyInstanceUID="1.1") == (["1.1"], SUCCESS)
        peer.release()


# A backslash is text in an LT; delimiters without a name between them are no name.
UNIVERSAL_TOO = {"PatientComments": b"", "PatientName": b"\\^=", "ReferringPhysicianName": b"\\^="}
ALL = ["1.0", "1.1", "1.2"]


A = "a" * 512
LEADING_ASTRAY = {
    "*a" * 500: True,
    "*a" * 500 + "b": False,
    "a*" * 500 + "b": False,
    f"*{A}b*": False,
    f"*{A}?b*{A}": False,
    "*" + "?a" * 256 + "*": True,
    "*" + "?a" * 256 + "b*": False,
    f"{A}*{A}": True,
    f"{A}*{A}a": False,
    "?" * 1024: True,
    "*?" * 1025: False,
    "*a*b" * 200: False,
}


def test_patterns_that_lead_astray_meet_long_values(finding, storage):
    storage.index.add(version("5", "5", "5", PatientComments=A + A, OtherPatientIDs=A + A, StudyID=""))
    with finding() as peer:
        for keyword in ("PatientComments", "OtherPatientIDs"):
            for pattern, matches in LEADING_ASTRAY.items():
                assert find(peer, **{keyword: pattern}) == (["5"] * matches, SUCCESS), pattern
        peer.release()


def test_a_thousand_keys(finding):
    values = {LEVEL: b"STUDY ", TAGS["StudyInstanceUID"]: b"1.1\0"}
    with finding() as peer:
        assert ask(peer, values | {0x00111000 + n: b"A*B?" for n in range(1_000)}) == (["1.1"], SUCCESS)
        assert ask(peer, values | dict.fromkeys(BY_TAG, b"\\ ") | values)[1] == SUCCESS
        peer.release()


@pytest.mark.parametrize("length", [0, 0xFFFFFFFF], ids=["defined", "undefined"])
@pytest.mark.parametrize("sequence", [0x00081032, 0x00400275, 0x00111001])
def test_sequences_in_sequences(finding, sequence, length):
    value = b""
    for _ in range(5_000):
        nested = struct.pack("<HHI", sequence >> 16, sequence & 0xFFFF, length or len(value)) + value
        value = struct.pack("<HHI", 0xFFFE, 0xE000, length or len(nested)) + nested
        if length:
            value += struct.pack("<HHIHHI", 0xFFFE, 0xE00D, 0, 0xFFFE, 0xE0DD, 0)
    with finding() as peer:
        found, status = ask(peer, {LEVEL: b"STUDY ", sequence: value, TAGS["StudyInstanceUID"]: b"1.1\0"})
        assert (found, status) in ((["1.1"], SUCCESS), ([], INVALID))
        assert find(peer) == (ALL, SUCCESS)
        peer.release()


def test_an_identifier_beyond_1_mib_is_refused(finding):
    with finding() as peer:
        assert find(peer, PatientComments=b"A" * MIB) == ([], INVALID)
        assert find(peer) == (ALL, SUCCESS)
        peer.release()
