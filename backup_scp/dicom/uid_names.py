"""What the standard calls its UIDs (PS3.6 Annex A), for people."""

from __future__ import annotations

from functools import lru_cache

from pydicom.config import IGNORE
from pydicom.uid import UID


@lru_cache(maxsize=1024)
def uid_name(uid: str) -> str:
    """Return the name of a UID, such as "CT Image Storage"; the UID itself, printable, when it has none."""
    return ascii(UID(uid, IGNORE).name)[1:-1]
