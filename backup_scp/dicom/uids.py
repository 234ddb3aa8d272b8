"""Our own UIDs, all below one root (PS3.5 B.2), and names made of other UIDs."""

from __future__ import annotations

import re
from functools import lru_cache
from hashlib import sha256

from backup_scp import __version__

# UUID version 5 of "backup-scp" in the DNS name space, as a decimal number.  It must never change: files contain it.
ROOT_UID = "2.25.181995984334273217066454557685840449869"

IMPLEMENTATION_CLASS_UID = f"{ROOT_UID}.1"
IMPLEMENTATION_VERSION_NAME = ("BACKUP_SCP_" + "".join(filter(str.isdigit, __version__)))[:16]
PRIVATE_INFORMATION_CREATOR_UID = f"{ROOT_UID}.2"

_UID = re.compile(r"(?=.{1,64}\Z)[0-9]+(?:\.[0-9]+)*")
_WELL_FORMED = re.compile(r"(?=.{1,64}\Z)(?:0|[1-9][0-9]*)(?:\.(?:0|[1-9][0-9]*))*")


@lru_cache(maxsize=1024)
def is_well_formed(uid: str) -> bool:
    """Tell whether a text is a valid UID (PS3.5 9.1), without leading zeros in components."""
    return _WELL_FORMED.fullmatch(uid) is not None


def is_like_uid(uid: str) -> bool:
    """Tell whether a text is digits and dots alone, as a UID is, with leading zeros or without (PS3.5 9.1)."""
    return _UID.fullmatch(uid) is not None


def path_component(uid: str) -> str:
    """Return a file or folder name for a UID: the UID itself if valid, else ``x`` and 40 hex digits of its SHA-256.

    An invalid UID (PS3.5 9.1) never becomes a name: it may be ``/``, ``..``, empty, or the name of a device.
    """
    return uid if _UID.fullmatch(uid) else "x" + sha256(uid.encode("utf-8", "surrogatepass")).hexdigest()[:40]
