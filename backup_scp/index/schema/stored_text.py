"""Text as the index stores it, and the few values that it derives for every row.

PostgreSQL takes neither NUL nor lone surrogates in text and no index entry over 2700 bytes; SQLite takes all three.
Both store the same here, so that an index is the same on either and no odd value is ever refused:

* NUL becomes U+2400 (the picture of NUL), a lone surrogate U+FFFD; trailing blanks are padding and go;
* a value too long for its column keeps its beginning and ends in the SHA-256 of the whole: values that differ still
  differ, and the same value given in a query is shortened in the same way.  The file keeps the value as received.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from hashlib import blake2b, sha256

from backup_scp.machine import clock

LONGEST_KEY = 512
"""Bytes of UTF-8 of a value that stands in a database index; four of them fit in one entry."""

LONGEST_TEXT = 10_240
"""Characters of any other value: the longest that PS3.5 6.2 knows (LT)."""

_MARK = "\N{HORIZONTAL ELLIPSIS}"


def stored_text(text: str) -> str:
    """Make text storable on both engines; several values are separated by a backslash."""
    if "\0" in text:
        text = text.rstrip("\0 ").replace("\0", "\N{SYMBOL FOR NULL}")
    if not text.isascii():
        text = text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    return text.rstrip(" ")


def stored_key(text: str) -> str:
    """Make text storable where a database index holds it."""
    text = stored_text(text)
    if len(text) * 4 <= LONGEST_KEY or len(text.encode()) <= LONGEST_KEY:
        return text
    digest = _MARK + sha256(text.encode()).hexdigest()
    head = text.encode()[: LONGEST_KEY - len(digest.encode())]
    return head.decode(errors="ignore") + digest


def stored_long(text: str) -> str:
    """Make text storable where no database index holds it."""
    text = stored_text(text)
    if len(text) <= LONGEST_TEXT:
        return text
    digest = _MARK + sha256(text.encode()).hexdigest()
    return text[: LONGEST_TEXT - len(digest)] + digest


def timestamp(moment: datetime) -> str:
    """UTC, fixed width: sorts as text in the order of time, on both engines."""
    return moment.astimezone(UTC).isoformat(timespec="microseconds")[:26] + "Z"


def moment(text: str) -> datetime:
    """Give the datetime back that ``timestamp`` was given."""
    return datetime.fromisoformat(text)


def now() -> str:
    """Give the timestamp of this moment."""
    return timestamp(clock.now())


def patient_key(study: Mapping[str, str]) -> str:
    """Say whose study it is: equal for the studies of one patient.

    A patient is a Patient ID with its issuer, at a site.  Without an ID the name and birth date stand for it, and
    without a name each study is somebody's own: people who are not identified are not merged.
    """
    facts: tuple[str, ...]
    if study["patient_id"]:
        facts = (study["site"], study["patient_id"], study["issuer_of_patient_id"])
    elif study["patient_name"]:
        facts = (study["site"], "", study["patient_name"], study["patient_birth_date"])
    else:
        facts = (study["site"], "", "", study["patient_birth_date"], study["study_instance_uid"])
    return blake2b("\0".join(facts).encode(), digest_size=16).hexdigest()


def lock_number(text: str) -> int:
    """Give a number of 64 bits, signed, for PostgreSQL's advisory locks."""
    return int.from_bytes(blake2b(text.encode(), digest_size=8).digest(), signed=True)
