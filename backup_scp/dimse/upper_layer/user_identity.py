"""Read and answer the User Identity of an Association (PS3.7 D.3.3.7)."""

from __future__ import annotations

import struct
from dataclasses import dataclass, field
from enum import IntEnum

from backup_scp.dimse.upper_layer.variable_items import (
    FIXED_BYTES,
    USER_IDENTITY,
    USER_IDENTITY_ANSWER,
    USER_INFORMATION,
    item,
    items,
    with_items,
)

SITE_MARK = b"backup-scp-site:"
"""A user name that begins with it names a clinic, and nobody: see ``named_site``."""

HEAD = struct.Struct(">BBH")
"""Type, whether an answer is wanted, length of the primary field."""

_LENGTH = struct.Struct(">H")


class IdentityKind(IntEnum):
    """User-Identity-Type, PS3.7 Table D.3-14."""

    UNREADABLE = 0
    NAME = 1
    PASSCODE = 2
    KERBEROS = 3
    SAML = 4
    TOKEN = 5


@dataclass(frozen=True, slots=True)
class OfferedIdentity:
    """What an A-ASSOCIATE-RQ says of its user; not checked.

    Attributes
    ----------
    kind
        The type; ``UNREADABLE`` for an item that is malformed or of no defined type.
    wants_answer
        Whether a positive response is requested.
    name
        The user name, or the token; empty for the other types.
    passcode
        The passcode of type 2.
    """

    kind: IdentityKind
    wants_answer: bool = False
    name: str = field(default="", repr=False)
    passcode: str = field(default="", repr=False)


def apart(request: bytes) -> tuple[OfferedIdentity | None, bytes]:
    """Take the user identity out of an A-ASSOCIATE-RQ, so that no passcode stays in memory with it.

    Returns
    -------
    OfferedIdentity or None
        The first one; None without any.
    bytes
        The request without user identities.  One whose items have wrong lengths is returned as it is.
    """
    if request.find(USER_IDENTITY, FIXED_BYTES) < 0:
        return None, request
    found: list[bytes] = []
    try:
        rest = [(kind, _without_identity(kind, body, found)) for kind, body in items(request[FIXED_BYTES:])]
    except (ValueError, struct.error):
        return None, request
    return (_read(found[0]), with_items(request, rest)) if found else (None, request)


def _without_identity(kind: int, body: bytes, found: list[bytes]) -> bytes:
    if kind != USER_INFORMATION:
        return body
    kept = []
    for sub, content in items(body):
        if sub == USER_IDENTITY and not content[HEAD.size :].startswith(SITE_MARK):
            found.append(content)
        else:
            kept.append(item(sub, content))
    return b"".join(kept)


def _read(body: bytes) -> OfferedIdentity:
    """Read a sub-item 58H; each length must be true, and the text UTF-8."""
    unreadable = OfferedIdentity(IdentityKind.UNREADABLE)
    try:
        number, wants_answer, length = HEAD.unpack_from(body)
        kind, end = IdentityKind(number), HEAD.size + length
        primary, (second,) = body[HEAD.size : end], _LENGTH.unpack_from(body, end)
        secondary = body[end + _LENGTH.size :]
        if len(secondary) != second or (second and kind is not IdentityKind.PASSCODE):
            return unreadable
        if kind not in {IdentityKind.NAME, IdentityKind.PASSCODE, IdentityKind.TOKEN}:
            return OfferedIdentity(kind, bool(wants_answer))
        return OfferedIdentity(kind, bool(wants_answer), primary.decode().rstrip("\0 "), secondary.decode())
    except (ValueError, struct.error):
        return unreadable


def with_positive_answer(acceptance: bytes) -> bytes:
    """Return an A-ASSOCIATE-AC that says that the identity was understood and is accepted (PS3.7 D.3.3.7.2)."""
    return with_user_item(acceptance, USER_IDENTITY_ANSWER, b"\0\0")


def user_items(pdu: bytes) -> list[tuple[int, bytes]]:
    """Return the items of user information.

    Raises
    ------
    ValueError, struct.error
        A length is not true.
    """
    return [each for kind, body in items(pdu[FIXED_BYTES:]) if kind == USER_INFORMATION for each in items(body)]


def with_user_item(pdu: bytes, kind: int, content: bytes) -> bytes:
    """Return the same PDU with one more item of user information."""
    changed = (
        (each, body + item(kind, content) if each == USER_INFORMATION else body)
        for each, body in items(pdu[FIXED_BYTES:])
    )
    return with_items(pdu, changed)
