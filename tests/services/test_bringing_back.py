"""What is fetched from a copy, and what stays when it fails."""

from __future__ import annotations

from pathlib import Path

import pytest

from backup_scp.copies.drive.drive_copy import DriveCopy
from backup_scp.errors import DestinationUnavailable
from backup_scp.ports import CopyItem, StoredCopy
from backup_scp.services.bringing_back import fetch
from tests.samples import encode, secondary_capture


class FailingDrive(DriveCopy):
    """Gives all images but one: as a drive that is pulled meanwhile."""

    def __init__(self, contents: dict[str, bytes], lost: str) -> None:
        super().__init__("drive", Path("/nowhere"), lambda: None)
        self._contents, self._lost = contents, lost

    def fetch(self, item, into) -> None:
        if item.held.location == self._lost:
            raise DestinationUnavailable("The drive was pulled")
        into.write(self._contents[item.held.location])


def test_nothing_stays_of_a_batch_that_fails(stored):
    for number in range(6):
        stored.put(encode(secondary_capture(study="back", series=str(number))), number)
    items = [CopyItem(number, held, StoredCopy("", "", 0)) for number, held in enumerate(stored.index.versions(), 1)]
    contents = {item.held.location: stored.path(item.held.location).read_bytes() for item in items}
    place = FailingDrive(contents, items[0].held.location)

    with pytest.raises(DestinationUnavailable):
        fetch(place, items, stored.archive)

    assert not list(stored.archive._root.rglob("*.back"))
