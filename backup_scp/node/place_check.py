"""What the place of a copy really gives, for ``copies check``."""

from __future__ import annotations

from backup_scp.errors import DestinationUnavailable
from backup_scp.node.copy_places import open_place
from backup_scp.node.copy_setup import chosen
from backup_scp.node.opening import OpenStores
from backup_scp.node.settings import Settings
from backup_scp.ports import PlaceAnswer


def check_place(settings: Settings, name: str) -> list[PlaceAnswer]:
    """Reach the place of a copy, and try what it gives.

    Raises
    ------
    InvalidSelection, InvalidSettings
        There is no such copy, or it cannot be used as it is set.
    """
    from backup_scp.copies.cloud.cloud_copy import CloudCopy

    (copy,) = chosen(settings, name)
    reached = "Can it be reached?"
    with OpenStores(settings, create=True) as storage:
        place = open_place(settings, copy, storage.index)
        try:
            with place:
                found = place.check() if isinstance(place, CloudCopy) else []
        except DestinationUnavailable as error:
            return [PlaceAnswer(reached, str(error), is_well=False)]
    label = f", the drive {place.label}" if place.label else ""
    return [PlaceAnswer(reached, f"yes{label}", is_well=True), *found]
