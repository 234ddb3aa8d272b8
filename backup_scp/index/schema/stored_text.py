"""Convert text to the form that the index stores, and derive some values of every row.

PostgreSQL accepts neither NUL nor lone surrogates in text, and no index entry over 2700 bytes; SQLite accepts these.
Here both store the same text, so that the index is the same on both engines and no unusual value is refused:

* NUL becomes U+2400 (SYMBOL FOR NULL), a lone surrogate U+FFFD; trailing spaces are padding and are removed;
* of a value too long for its column, the beginning is stored, then the SHA-256 of the whole.  Different values still
  differ, and a query's value is shortened in the same way.  The file keeps the value as received.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from hashlib import blake2b, sha256

from backup_scp.machine import clock

LONGEST_KEY = 512
"""Limit of UTF-8 bytes of a value in a database index; four such values fit in one entry."""

LONGEST_TEXT = 10_240
"""Limit of characters of any other value: the longest of PS3.5 6.2 (LT)."""

_MARK = "\N{HORIZONTAL ELLIPSIS}"


def stored_text(text: str) -> str:
    """Convert text to the stored form; several values are separated by a backslash."""
    if "\0" in text:
        text = text.rstrip("\0 ").replace("\0", "\N{SYMBOL FOR NULL}")
    if not text.isascii():
        text = text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    return text.rstrip(" ")


def stored_key(text: str) -> str:
    """Convert text for a column with a database index."""
    text = stored_text(text)
    if len(text) * 4 <= LONGEST_KEY or len(text.encode()) <= LONGEST_KEY:
        return text
    digest = _MARK + sha256(text.encode()).hexdigest()
    head = text.encode()[: LONGEST_KEY - len(digest.encode())]
    return head.decode(errors="ignore") + digest


def stored_long(text: str) -> str:
    """Convert text for a column without a database index."""
    text = stored_text(text)
    if len(text) <= LONGEST_TEXT:
        return text
    digest = _MARK + sha256(text.encode()).hexdigest()
    return text[: LONGEST_TEXT - len(digest)] + digest


def timestamp(moment: datetime) -> str:
    """Write a time as text: UTC, of fixed width, so that it sorts by time on both engines."""
    return moment.astimezone(UTC).isoformat(timespec="microseconds")[:26] + "Z"


def moment(text: str) -> datetime:
    """Return the datetime that ``timestamp`` has written."""
    return datetime.fromisoformat(text)


def now() -> str:
    """Return the timestamp of the present time."""
    return timestamp(clock.now())


def patient_key(study: Mapping[str, str]) -> str:
    """Return a key that is equal for the studies of one patient.

    A patient is a Patient ID with its issuer, at a site.  Without an ID, name and birth date identify the patient.
    Without a name, each study gets a key of its own: unidentified people are not merged.
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
    """Return a signed 64-bit number for PostgreSQL's advisory locks."""
    return int.from_bytes(blake2b(text.encode(), digest_size=8).digest(), signed=True)
