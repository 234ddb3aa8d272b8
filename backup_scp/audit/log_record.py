"""One record of the audit log: a line with its number, its time, and the SHA-256 of the line before."""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from enum import StrEnum
from typing import Self

FIRST_BEFORE = "0" * 64
"""Stands in the first record, which has none before it."""

_LINE = re.compile(
    rb"(?P<number>[1-9]\d{0,14}) (?P<at>\d{4}-\d\d-\d\dT[0-9:.+-]{18,24}) (?P<before>[0-9a-f]{64}) "
    rb"(?P<kind>entry|note|signed) (?P<content>[^\n]*)\n"
)
_BREAKS = re.compile(rb"[\r\n\0]+")


class RecordKind(StrEnum):
    """What a record is."""

    ENTRY = "entry"  # an audit message, XML
    NOTE = "note"  # something about the log itself, a sentence
    SIGNED = "signed"  # fingerprint of the key, and the signature of this line up to there


@dataclass(frozen=True, slots=True)
class LogRecord:
    """One record.

    Attributes
    ----------
    number
        From 1, without a gap.
    at
        When it was written; ISO 8601 with an offset.
    before
        SHA-256 of the line before, with its line feed, in hexadecimal digits.
    kind
        What it is.
    content
        The message, without a line break.
    """

    number: int
    at: str
    before: str
    kind: RecordKind
    content: bytes

    @classmethod
    def read(cls, line: bytes) -> Self | None:
        """Read a line with its line feed; None when it is no record."""
        found = _LINE.fullmatch(line)
        if found is None:
            return None
        return cls(
            int(found["number"]),
            found["at"].decode(),
            found["before"].decode(),
            RecordKind(found["kind"].decode()),
            found["content"],
        )

    @property
    def line(self) -> bytes:
        """The line, with its line feed."""
        return b"%b %b\n" % (self._head, self.content)

    @property
    def _head(self) -> bytes:
        return f"{self.number} {self.at} {self.before} {self.kind}".encode()


def digest(line: bytes) -> str:
    """Return the SHA-256 of a line, as the next record names it."""
    return hashlib.sha256(line).hexdigest()


def in_one_line(message: bytes) -> bytes:
    """Replace line breaks, which end a record, by blanks."""
    return _BREAKS.sub(b" ", message)
