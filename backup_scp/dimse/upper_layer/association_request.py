"""Rewrite an A-ASSOCIATE-RQ without harmless violations, and name the others (PS3.8 9.3.2).

pynetdicom's codecs refuse an even Presentation Context ID, a role value above 1, a blank AE title and a user identity
of an unknown type, without naming the reason.  So they get a request without these.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from backup_scp.dimse.upper_layer.variable_items import (
    ABSTRACT_SYNTAX,
    FIXED_BYTES,
    PRESENTATION_CONTEXT_AC,
    PRESENTATION_CONTEXT_RQ,
    ROLE_SELECTION,
    USER_INFORMATION,
    item,
    items,
    with_items,
    without_unknown_items,
)

_CALLED, _CALLING = slice(10, 26), slice(26, 42)
_ECHOED = slice(10, 74)  # an answer repeats these bytes of the request (PS3.8 9.3.3)
_NO_AE_TITLE = b"-".ljust(16)
_MOST_CONTEXTS = 128
_MOST_ITEMS, _MOST_USER_ITEMS, _MOST_SYNTAXES = 512, 512, 8192  # several times what a real peer needs
_READ = frozenset((0x51, 0x53, ROLE_SELECTION, 0x56))  # maximum length, window, roles, extended negotiation
_LONGEST_SHOWN = 128


class InvalidRequest(ValueError):  # noqa: N818 - not an error of ours
    """An A-ASSOCIATE-RQ that cannot be answered; the text ends a sentence that begins with "it sent"."""


@dataclass(frozen=True, slots=True)
class AssociationRequest:
    """An A-ASSOCIATE-RQ, and the same without what pynetdicom's codecs refuse.

    Attributes
    ----------
    called, calling
        AE titles up to the first NUL, without surrounding spaces; empty when blank.
    protocol_version
        Bit 0 is the only version defined.
    encoded
        The rewritten request, for pynetdicom's codecs.
    oddities
        Harmless violations of PS3.8, each with its value; the request is accepted nevertheless.
    context_ids
        Presentation Context IDs as received, by those in ``encoded``.
    """

    called: str
    calling: str
    protocol_version: int
    encoded: bytes
    oddities: tuple[str, ...]
    context_ids: Mapping[int, int]
    _original: bytes

    def answer(self, encoded: bytes) -> bytes:
        """Turn the A-ASSOCIATE-AC to ``encoded`` into the one to the received request."""
        encoded = encoded[: _ECHOED.start] + self._original[_ECHOED] + encoded[_ECHOED.stop :]
        if all(ours == theirs for ours, theirs in self.context_ids.items()):
            return encoded
        return with_items(
            encoded,
            (
                (kind, bytes((self.context_ids[body[0]],)) + body[1:])
                if kind == PRESENTATION_CONTEXT_AC
                else (kind, body)
                for kind, body in items(encoded[FIXED_BYTES:])
            ),
        )


def read_request(encoded: bytes) -> AssociationRequest:
    """Read a whole A-ASSOCIATE-RQ.

    Raises
    ------
    InvalidRequest
        The text has the violation and its value.
    """
    if len(encoded) < FIXED_BYTES:
        raise InvalidRequest(f"an A-ASSOCIATE-RQ of {len(encoded)} bytes")
    try:
        return _Reader(encoded).read()
    except (ValueError, struct.error) as error:
        if isinstance(error, InvalidRequest):
            raise
        raise InvalidRequest("an A-ASSOCIATE-RQ with a wrong length") from None


class _Reader:
    """Reads one A-ASSOCIATE-RQ."""

    def __init__(self, encoded: bytes) -> None:
        self._original = encoded
        self._oddities: dict[str, None] = {}
        self._ids: list[int] = []  # as received, each once

    def read(self) -> AssociationRequest:
        _require_few_items(self._original)
        known = without_unknown_items(self._original)
        changed = [self._readable(kind, body) for kind, body in items(known[FIXED_BYTES:])]
        if len(self._ids) > _MOST_CONTEXTS:
            raise InvalidRequest(f"an A-ASSOCIATE-RQ with {len(self._ids)} Presentation Contexts")
        called, calling = ae_title(self._original[_CALLED]), ae_title(self._original[_CALLING])
        readable = bytearray(with_items(known, self._with_odd_ids(changed)))
        for place, title in ((_CALLED, called), (_CALLING, calling)):
            if not title:
                readable[place] = _NO_AE_TITLE
        readable[6:8] = b"\0\1"
        return AssociationRequest(
            called,
            calling,
            int.from_bytes(self._original[6:8], "big"),
            bytes(readable),
            tuple(self._oddities),
            {self._ours(number): number for number in self._ids},
            self._original,
        )

    def _readable(self, kind: int, body: bytes) -> tuple[int, bytes]:
        if kind == PRESENTATION_CONTEXT_RQ:
            self._note_context(body)
        elif kind == USER_INFORMATION:
            read = ((sub, content) for sub, content in items(body) if sub in _READ)
            return kind, b"".join(item(sub, self._with_roles_of_1(sub, content)) for sub, content in read)
        return kind, body

    def _note_context(self, body: bytes) -> None:
        if len(body) < 4:  # the ID and three reserved bytes
            raise InvalidRequest(f"an A-ASSOCIATE-RQ with a Presentation Context of {len(body)} bytes")
        number = body[0]
        if not any(kind == ABSTRACT_SYNTAX and uid.strip(b"\0 ") for kind, uid in items(body[4:])):
            raise InvalidRequest(f"an A-ASSOCIATE-RQ whose Presentation Context {number} has no Abstract Syntax")
        if number in self._ids:
            self._oddities[f"Presentation Context ID {number} twice"] = None
            return
        self._ids.append(number)
        if not number % 2:
            self._oddities[f"Presentation Context ID {number}, which is not odd"] = None

    def _with_roles_of_1(self, kind: int, body: bytes) -> bytes:
        if kind != ROLE_SELECTION or max(roles := body[-2:], default=0) <= 1:
            return body
        uid = body[2:-2].decode("ascii", "backslashreplace")[:_LONGEST_SHOWN]
        self._oddities[f"the roles {roles[0]} and {roles[-1]} for {uid!a}"] = None
        return body[:-2] + bytes(min(role, 1) for role in roles)

    def _with_odd_ids(self, found: list[tuple[int, bytes]]) -> Iterator[tuple[int, bytes]]:
        for kind, body in found:
            yield kind, bytes((self._ours(body[0]),)) + body[1:] if kind == PRESENTATION_CONTEXT_RQ else body

    def _ours(self, number: int) -> int:
        """Return the ID itself; when any ID is even, a new one from its position."""
        return number if all(each % 2 for each in self._ids) else 2 * self._ids.index(number) + 1


def _require_few_items(encoded: bytes) -> None:
    """Raise for thousands of short items, for which pynetdicom's codecs take seconds."""
    contexts = parts = 0
    for kind, body in items(encoded[FIXED_BYTES:]):
        contexts += 1
        if kind == PRESENTATION_CONTEXT_RQ:
            parts += sum(1 for _ in items(body[4:]))
        elif kind == USER_INFORMATION and (number := sum(1 for _ in items(body))) > _MOST_USER_ITEMS:
            raise InvalidRequest(f"an A-ASSOCIATE-RQ with {number} items of user information")
    if contexts > _MOST_ITEMS:
        raise InvalidRequest(f"an A-ASSOCIATE-RQ with {contexts} items")
    if parts > _MOST_SYNTAXES:
        raise InvalidRequest(f"an A-ASSOCIATE-RQ with {parts} Abstract and Transfer Syntaxes")


def ae_title(encoded: bytes) -> str:
    """Decode an AE title up to its first NUL, like a C string, without surrounding spaces (PS3.5 6.2: ASCII)."""
    return encoded.partition(b"\0")[0].decode("ascii", "ignore").strip(" ")
