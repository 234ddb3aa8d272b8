"""Our own identifiers; every UID that backup-scp makes lies below one root (PS3.5 B.2)."""

from __future__ import annotations

import re
from functools import lru_cache
from hashlib import sha256

from backup_scp import __version__

# UUID version 5 of "backup-scp" in the DNS name space, as a decimal number.  It never changes: files carry it.
ROOT_UID = "2.25.181995984334273217066454557685840449869"

IMPLEMENTATION_CLASS_UID = f"{ROOT_UID}.1"
IMPLEMENTATION_VERSION_NAME = ("BACKUP_SCP_" + "".join(filter(str.isdigit, __version__)))[:16]
PRIVATE_INFORMATION_CREATOR_UID = f"{ROOT_UID}.2"

_UID = re.compile(r"(?=.{1,64}\Z)[0-9]+(?:\.[0-9]+)*")
_WELL_FORMED = re.compile(r"(?=.{1,64}\Z)(?:0|[1-9][0-9]*)(?:\.(?:0|[1-9][0-9]*))*")


@lru_cache(maxsize=1024)
def is_well_formed(uid: str) -> bool:
    """Tell whether it is a UID as PS3.5 9.1 has it: no component begins with a zero that is not needed."""
    return _WELL_FORMED.fullmatch(uid) is not None


def path_component(uid: str) -> str:
    """Name a file or folder after a UID: the UID itself if it is one, else ``x`` and 40 hex digits of its SHA-256.

    What is not a UID (PS3.5 9.1) never becomes a name, whatever it holds: ``/``, ``..``, nothing, device names.
    """
    return uid if _UID.fullmatch(uid) else "x" + sha256(uid.encode("utf-8", "surrogatepass")).hexdigest()[:40]
