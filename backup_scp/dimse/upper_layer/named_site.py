"""Name the clinic whose images an Association is for, by User Identity Negotiation (PS3.7 D.3.3.7; docs/adr/0069).

A username that begins with ``backup-scp-site:`` names it.  Only another backup-scp reads it; one that answers has
understood it.
"""

from __future__ import annotations

import struct

from backup_scp.dimse.upper_layer.variable_items import (
    FIXED_BYTES,
    USER_IDENTITY,
    USER_IDENTITY_ANSWER,
    USER_INFORMATION,
    item,
    items,
    with_items,
)

_MARK = b"backup-scp-site:"
_USERNAME = 1  # type of the identity
_ANSWER_WANTED = 1
_HEAD = struct.Struct(">BBH")  # type, whether an answer is wanted, length of the username
_LONGEST = 64 * 4  # characters in UTF-8


def with_site(request: bytes, site: str) -> bytes:
    """Return an A-ASSOCIATE-RQ that names a site."""
    name = _MARK + site.encode("utf-8", "surrogatepass")
    return _with_user_item(request, USER_IDENTITY, _HEAD.pack(_USERNAME, _ANSWER_WANTED, len(name)) + name + b"\0\0")


def with_answer(acceptance: bytes) -> bytes:
    """Return an A-ASSOCIATE-AC that says that the site was understood and is allowed."""
    return _with_user_item(acceptance, USER_IDENTITY_ANSWER, b"\0\0")


def is_answered(acceptance: bytes) -> bool:
    """Tell whether an A-ASSOCIATE-AC says so.

    Raises
    ------
    ValueError, struct.error
        It is malformed.
    """
    return any(kind == USER_IDENTITY_ANSWER for kind, _ in _user_items(acceptance))


def site_of(request: bytes) -> str:
    """Return the site that an A-ASSOCIATE-RQ names; empty for none.

    Raises
    ------
    ValueError, struct.error
        It is malformed.
    """
    for kind, body in _user_items(request):
        if kind == USER_IDENTITY and len(body) >= _HEAD.size:
            identity, _, length = _HEAD.unpack_from(body)
            name = body[_HEAD.size : _HEAD.size + length]
            if identity == _USERNAME and name.startswith(_MARK) and length <= len(_MARK) + _LONGEST:
                return name.removeprefix(_MARK).decode("utf-8", "surrogateescape")
    return ""


def _user_items(pdu: bytes) -> list[tuple[int, bytes]]:
    return [each for kind, body in items(pdu[FIXED_BYTES:]) if kind == USER_INFORMATION for each in items(body)]


def _with_user_item(pdu: bytes, kind: int, content: bytes) -> bytes:
    changed = (
        (each, body + item(kind, content) if each == USER_INFORMATION else body)
        for each, body in items(pdu[FIXED_BYTES:])
    )
    return with_items(pdu, changed)
