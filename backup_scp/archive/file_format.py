"""Encode and read file format 1: preamble, File Meta Information with the Data Set's origin, the Data Set as received.

``docs/archive-format.md`` describes it.  In short: Private Information (0002,0102) is the last element of File Meta and
has a fixed length.  So its position and that of the Data Set are known before the first byte arrives, and it is filled
in after the last byte.  Its ``sha256`` covers the Data Set, its ``meta_sha256`` every byte before Private Information
(PS3.10 7.1).  ``xxh3_128`` covers the Data Set too, for a quick comparison; files of earlier releases have none.
"""

from __future__ import annotations

import json
import struct
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import lru_cache
from hashlib import sha256 as _sha256
from typing import Any, BinaryIO

import msgspec

from backup_scp.archive.layout import LOCATION_LIMIT
from backup_scp.dicom.uids import IMPLEMENTATION_CLASS_UID, IMPLEMENTATION_VERSION_NAME, PRIVATE_INFORMATION_CREATOR_UID
from backup_scp.errors import DigestMismatch, NotOurFile
from backup_scp.ports import Arrival, Heading

FORMAT = 1
PRIVATE_INFORMATION_LENGTH = 2048
HEADER_LIMIT_BYTES = 65536

_PREFIX = bytes(128) + b"DICM" + struct.pack("<HH2sH", 2, 0, b"UL", 4)
_FIXED = len(_PREFIX) + 4
_UID_LIMIT = 1024  # for File Meta only; the Data Set has the whole UID
_OPENING = f'{{"format":{FORMAT},"meta_sha256":"'.encode("ascii")
_DIGEST = slice(len(_OPENING), len(_OPENING) + 64)
_UNKNOWN = b"0" * 64
_LEFT_OUT_WHEN_EMPTY = ("xxh3_128", "remote", "ordered", "same_as")


@dataclass(frozen=True, slots=True)
class FileHeader:
    """What the header of a stored file says.

    Attributes
    ----------
    heading
        From File Meta, without padding.
    arrival
        From Private Information.
    location
        Where the file was committed; check it with ``layout.is_location`` before use.
    sha256, size_bytes
        Of the Data Set.
    xxh3_128
        Of the Data Set; empty when the file has none.
    length
        Number of bytes before the Data Set.
    """

    heading: Heading
    arrival: Arrival
    location: str
    sha256: str
    size_bytes: int
    xxh3_128: str
    length: int


def blank_header(heading: Heading) -> bytes:
    """Encode all bytes before the Data Set, with a blank for Private Information at the end."""
    before = _before_instance(heading.sop_class_uid)
    instance = _element(0x0003, b"UI", _uid(heading.sop_instance_uid))
    after = _after_instance(heading.transfer_syntax_uid, heading.source_ae_title)
    return b"".join((_PREFIX, struct.pack("<I", len(before) + len(instance) + len(after)), before, instance, after))


@lru_cache(maxsize=64)  # the instances of an Association are mostly alike
def _before_instance(sop_class_uid: str) -> bytes:
    return _element(0x0001, b"OB", b"\0\1") + _element(0x0002, b"UI", _uid(sop_class_uid))


@lru_cache(maxsize=64)
def _after_instance(transfer_syntax_uid: str, source_ae_title: str) -> bytes:
    return b"".join(
        (
            _element(0x0010, b"UI", _uid(transfer_syntax_uid)),
            _element(0x0012, b"UI", _uid(IMPLEMENTATION_CLASS_UID)),
            _element(0x0013, b"SH", _text(IMPLEMENTATION_VERSION_NAME)),
            _source_ae_title(source_ae_title),
            _element(0x0100, b"UI", _uid(PRIVATE_INFORMATION_CREATOR_UID)),
            _element(0x0102, b"OB", b" " * PRIVATE_INFORMATION_LENGTH),
        )
    )


def private_information(
    header: bytes, arrival: Arrival, location: str, sha256: str, size_bytes: int, xxh3_128: str = ""
) -> bytes:
    """Encode the Private Information that fills the blank at the end of ``header``.

    It cuts texts to the lengths that an Association allows: AE titles and service to 16 characters; address, site and
    remote to 64.
    """
    record: dict[str, str | int] = {
        "format": FORMAT,
        "meta_sha256": _UNKNOWN.decode("ascii"),
        "sha256": sha256,
        "xxh3_128": xxh3_128,
        "size": size_bytes,
        "received": _moment(arrival.received_at),
        **_sender(arrival.service, arrival.calling_ae_title, arrival.called_ae_title, arrival.address),
        "site": _bounded(arrival.site, 64),
        "remote": _bounded(arrival.remote, 64, 192),
        "ordered": _moment(arrival.ordered_at) if arrival.ordered_at else "",
        "same_as": arrival.same_as,
        "location": location[:LOCATION_LIMIT],
    }
    for name in _LEFT_OUT_WHEN_EMPTY:
        if not record[name]:
            del record[name]
    blank = _json(record).ljust(PRIVATE_INFORMATION_LENGTH)
    digest = _sha256(header[:-PRIVATE_INFORMATION_LENGTH] + blank).hexdigest().encode("ascii")
    return blank[: _DIGEST.start] + digest + blank[_DIGEST.stop :]


@lru_cache(maxsize=64)
def _sender(service: str, calling_ae_title: str, called_ae_title: str, address: str) -> dict[str, str]:
    return {
        "service": _bounded(service, 16),
        "calling_ae_title": _bounded(calling_ae_title, 16),
        "called_ae_title": _bounded(called_ae_title, 16),
        "address": _bounded(address, 64),
    }


def _json(record: dict[str, str | int]) -> bytes:
    """Encode in ASCII: msgspec is ten times as fast as the library, but escapes no other characters."""
    with suppress(UnicodeEncodeError):  # a lone surrogate
        encoded = msgspec.json.encode(record)
        if encoded.isascii():
            return encoded
    return json.dumps(record, separators=(",", ":")).encode("ascii")


def read_header(stream: BinaryIO, name: str) -> FileHeader:
    """Read all bytes before the Data Set, and leave the stream at the first byte of the Data Set.

    Parameters
    ----------
    stream
        At the file's first byte.
    name
        The file's name in an error.

    Raises
    ------
    DigestMismatch
        The header is incomplete or changed, or the file is not of this format.
    """
    try:
        header = _header_bytes(stream)
        elements = _elements(header)
        information = elements[0x0102]
        _require(information == header[-PRIVATE_INFORMATION_LENGTH:], "Private Information is not at its place")
        _require_digest(header, information)
        return _file_header(elements, _record(information), len(header))
    except (ValueError, KeyError, TypeError, struct.error, RecursionError) as error:
        raise DigestMismatch(f"{name} is damaged before its Data Set: {error}") from error


def header_length(beginning: bytes | bytearray) -> int | None:
    """Return the number of bytes before the Data Set; None when the beginning is too short to say it.

    Raises
    ------
    NotOurFile
        It is not the beginning of a file of ours.
    """
    if len(beginning) < _FIXED:
        return None
    (length,) = struct.unpack_from("<I", beginning, len(_PREFIX))
    if not beginning.startswith(_PREFIX) or not PRIVATE_INFORMATION_LENGTH < length <= HEADER_LIMIT_BYTES - _FIXED:
        raise NotOurFile("It does not begin like a file of this archive")
    return _FIXED + int(length)


def _header_bytes(stream: BinaryIO) -> bytes:
    fixed = stream.read(_FIXED)
    _require(len(fixed) == _FIXED and fixed.startswith(_PREFIX), "it does not begin like a DICOM file of ours")
    (length,) = struct.unpack_from("<I", fixed, len(_PREFIX))
    _require(PRIVATE_INFORMATION_LENGTH < length <= HEADER_LIMIT_BYTES - _FIXED, "File Meta has an impossible length")
    elements = stream.read(length)
    _require(len(elements) == length, "it ends early")
    return fixed + elements


def _elements(header: bytes) -> dict[int, bytes]:
    """Decode File Meta into values by element number (PS3.5 7.1.2, Explicit VR Little Endian)."""
    elements: dict[int, bytes] = {}
    at = _FIXED
    while at < len(header):
        group, number, vr, length = struct.unpack_from("<HH2sH", header, at)
        at += 8
        if vr == b"OB":
            (length,) = struct.unpack_from("<I", header, at)
            at += 4
        _require(group == 2 and at + length <= len(header), "File Meta is broken")
        elements[number] = header[at : at + length]
        at += length
    return elements


def _require_digest(header: bytes, information: bytes) -> None:
    _require(not information.isspace(), "it was never completed")
    _require(information.startswith(_OPENING), f"Private Information is not of format {FORMAT}")
    blank = information[: _DIGEST.start] + _UNKNOWN + information[_DIGEST.stop :]
    digest = _sha256(header[:-PRIVATE_INFORMATION_LENGTH] + blank).hexdigest()
    _require(information[_DIGEST] == digest.encode("ascii"), "File Meta does not match its digest")


def _record(information: bytes) -> dict[str, Any]:
    """Decode Private Information: msgspec is three times as fast as the library, but takes no lone surrogates."""
    with suppress(msgspec.DecodeError):
        return msgspec.json.decode(information, type=dict[str, Any])
    record: dict[str, Any] = json.loads(information)
    return record


def _file_header(elements: dict[int, bytes], record: dict[str, Any], length: int) -> FileHeader:
    heading = Heading(
        sop_class_uid=_decoded(elements[0x0002]),
        sop_instance_uid=_decoded(elements[0x0003]),
        transfer_syntax_uid=_decoded(elements[0x0010]),
        source_ae_title=_decoded(elements.get(0x0016, b"")).rstrip(" "),
    )
    arrival = Arrival(
        received_at=datetime.fromisoformat(record["received"]),
        service=record["service"],
        calling_ae_title=record["calling_ae_title"],
        called_ae_title=record["called_ae_title"],
        address=record["address"],
        site=record["site"],
        remote=record.get("remote", ""),
        ordered_at=datetime.fromisoformat(record["ordered"]) if "ordered" in record else None,
        same_as=str(record.get("same_as", "")),
    )
    sha256, xxh3_128 = record["sha256"], str(record.get("xxh3_128", ""))
    return FileHeader(heading, arrival, record["location"], sha256, int(record["size"]), xxh3_128, length)


def _require(truth: bool, otherwise: str) -> None:  # noqa: FBT001 - a call reads like a sentence
    if not truth:
        raise ValueError(otherwise)


def _element(number: int, vr: bytes, value: bytes) -> bytes:
    if vr == b"OB":
        return struct.pack("<HH2sHI", 2, number, vr, 0, len(value)) + value
    return struct.pack("<HH2sH", 2, number, vr, len(value)) + value


def _uid(uid: str) -> bytes:
    """Encode a UID unchanged, also an invalid one, padded with NUL to even length (PS3.5 9.1)."""
    value = uid[:_UID_LIMIT].encode("utf-8", "surrogatepass")
    return value + b"\0" * (len(value) % 2)


def _decoded(value: bytes) -> str:
    return value.decode("utf-8", "surrogatepass").rstrip("\0")


def _text(text: str) -> bytes:
    return text.encode("ascii") + b" " * (len(text) % 2)


def _source_ae_title(title: str) -> bytes:
    """Encode (0002,0016) in the character repertoire of VR AE (PS3.5 6.2); nothing without a title."""
    allowed = "".join(c if " " <= c <= "~" and c != "\\" else "?" for c in title).strip(" ")[:16]
    return _element(0x0016, b"AE", _text(allowed)) if allowed else b""


def _moment(moment: datetime) -> str:
    return moment.astimezone(UTC).replace(tzinfo=None).isoformat(timespec="microseconds") + "Z"


def _bounded(text: str, limit: int, written: int | None = None) -> str:
    """Cut to ``limit`` characters, and to ``written`` in JSON: by default 6 for each (an emoji takes 12)."""
    text, written = text[:limit], written or 6 * limit
    if text.isascii() and 6 * len(text) <= written:
        return text
    while len(json.dumps(text)) - 2 > written:
        text = text[:-1]
    return text
