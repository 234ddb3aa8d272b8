"""Describe the Transfer Syntaxes of sent images for the log."""

from __future__ import annotations

from collections.abc import Mapping

from pydicom.config import IGNORE
from pydicom.uid import UID

from backup_scp.dimse.association.access import printable


def summary(sent: Mapping[tuple[str, str], int]) -> str:
    """Describe how many instances were sent as stored, and how many were transcoded from which to which syntax.

    ``sent`` counts them by two Transfer Syntaxes: as stored, and as sent.  The text ends with a comma and a space.
    """
    as_stored = sum(count for (stored, syntax), count in sent.items() if stored == syntax)
    transcoded = [
        f"{count} transcoded from {_named(stored)} to {_named(syntax)}"
        for (stored, syntax), count in sorted(sent.items())
        if stored != syntax
    ]
    return "".join(f"{part}, " for part in (f"{as_stored} sent as stored", *transcoded))


def _named(uid: str) -> str:
    name = UID(uid, IGNORE).name
    return printable(uid) if name == uid else name
