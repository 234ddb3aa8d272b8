"""One entry of the audit log as a syslog message (RFC 5424, with the constraints of PS3.15 A.6)."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from xml.etree import ElementTree as ET

from backup_scp.audit.log_record import LogRecord

LONGEST_BYTES = 8_000
"""Of a message with its header: rsyslog cuts at 8,096 and gives the rest as further messages."""

_PRIORITY = 10 * 8 + 5  # security/authorization, notice
_APPLICATION = "backup-scp"
_MESSAGE_ID = "DICOM+RFC3881"
_BOM = b"\xef\xbb\xbf"  # RFC 5424 6.4: the text is UTF-8
_LEAST = 64  # characters: what is shorter names something, and stays
_OBJECT, _DESCRIPTION = "ParticipantObjectIdentification", "ParticipantObjectDescription"


def syslog_message(record: LogRecord, process: int) -> bytes:
    """Return the message, in one line.

    Parameters
    ----------
    record
        An entry.
    process
        Number of the process that sends it.
    """
    head = f"<{_PRIORITY}>1 {record.at} {_host()} {_APPLICATION} {process} {_MESSAGE_ID} - ".encode() + _BOM
    room = LONGEST_BYTES - len(head)
    return head + (record.content if len(record.content) <= room else shortened(record.content, room, record.number))


def framed(message: bytes) -> bytes:
    """Return the frame of a message over TLS: its length in bytes, a blank, and itself (RFC 5425 4.3)."""
    return b"%d %b" % (len(message), message)


def shortened(xml: bytes, room: int, number: int) -> bytes:
    """Return a message with its longest values cut, and a remark where the whole one is.

    It stays valid by the schema of PS3.15 A.5.1: no element goes that must be there, but for SOP Classes of which
    others are listed, and a value in base64 is cut where it can be decoded.

    Parameters
    ----------
    room
        Its most bytes.
    number
        Of its record in the log.
    """
    try:
        root = ET.fromstring(xml)  # noqa: S314 - our own message
    except ET.ParseError:  # somebody has changed it in the log
        return xml[:room]
    described = root.find(_OBJECT)
    if described is not None:
        remark = ET.Element("ParticipantObjectDetail", type="shortened", value=_base64_of(number))
        at = next((place for place, each in enumerate(described) if each.tag == _DESCRIPTION), len(described))
        described.insert(at, remark)
    while len(whole := _written(root)) > room:
        longest = max(_values(root), key=lambda each: len(each[1]), default=None)
        if longest is not None and len(longest[1]) > _LEAST:
            element, value, name = longest
            cut = value[: max(_LEAST, len(value) // 2) // 4 * 4]
            if name:
                element.set(name, cut)
            else:
                element.text = cut
        elif not _without_one(root):
            break
    return whole


def _values(root: ET.Element) -> Iterator[tuple[ET.Element, str, str]]:
    """Yield each value with its element and the name of its attribute; an empty name for its text."""
    for element in root.iter():
        yield element, element.text or "", ""
        for name, value in element.items():
            yield element, value, name


def _without_one(root: ET.Element) -> bool:
    """Take out the last SOP Class of the longest list, or the last object; False when nothing is left to take out."""
    lists = [each for each in root.iter(_DESCRIPTION) if len(each) > 1]
    if lists:
        longest = max(lists, key=len)
        longest.remove(longest[-1])
        return True
    objects = root.findall(_OBJECT)
    if len(objects) < 2:
        return False
    root.remove(objects[-1])
    return True


def _written(root: ET.Element) -> bytes:
    return b'<?xml version="1.0" encoding="UTF-8"?>' + ET.tostring(root, encoding="unicode").encode()


def _base64_of(number: int) -> str:
    import base64

    return base64.b64encode(f"The whole message is record {number} of the audit log".encode()).decode()


def _host() -> str:
    """Return this computer's name as a header may have it: printable ASCII without blanks, 255 characters."""
    name = "".join(character for character in socket.gethostname() if "!" <= character <= "~")
    return name[:255] or "-"
