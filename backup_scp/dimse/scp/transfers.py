"""Describe the Transfer Syntaxes of sent images for the log."""

from __future__ import annotations

from collections.abc import Mapping

from backup_scp.dicom.uid_names import uid_name


def summary(sent: Mapping[tuple[str, str], int]) -> str:
    """Describe how many instances were sent as stored, and how many were transcoded from which to which syntax.

    ``sent`` counts them by two Transfer Syntaxes: as stored, and as sent.  The text ends with a comma and a space.
    """
    as_stored = sum(count for (stored, syntax), count in sent.items() if stored == syntax)
    transcoded = [
        f"{count} transcoded from {uid_name(stored)} to {uid_name(syntax)}"
        for (stored, syntax), count in sorted(sent.items())
        if stored != syntax
    ]
    return "".join(f"{part}, " for part in (f"{as_stored} sent as stored", *transcoded))
