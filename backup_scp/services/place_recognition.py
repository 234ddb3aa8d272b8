"""Recognise the place of a copy: after its url was changed, what the records say is there is somewhere else."""

from __future__ import annotations

from backup_scp.errors import DestinationUnavailable
from backup_scp.ports import CopyPlace, CopyRecords

_MOST_ASKED, _MOST_READ = 30, 3


def is_another(place: CopyPlace, records: CopyRecords, copy: int) -> bool:
    """Tell whether nothing is at the place of what should be: three small ones of its oldest images.

    Without an answer, the place counts as the one that is known.  A drive is known by its marker.

    Raises
    ------
    IndexUnavailable
    """
    if place.medium:
        return False
    items = sorted(records.stored(copy, 0, _MOST_ASKED), key=lambda item: item.held.size_bytes)[:_MOST_READ]
    try:
        results = list(place.compare(items)) if items else []
    except DestinationUnavailable:
        return False
    return bool(results) and not any(result.stored or result.is_left_out for result in results)
