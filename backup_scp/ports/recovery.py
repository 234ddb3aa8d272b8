"""The interface of a copy that can stand alone: a node can be made from it, without the one that was lost."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import NamedTuple, Protocol, runtime_checkable

from backup_scp.ports.archive import InstanceKey
from backup_scp.ports.copies import Contents, CopyPlace, StoredCopy


class ListedImage(NamedTuple):
    """An image that the copy's own lists name.

    Attributes
    ----------
    location
        In the archive; empty when the list does not say it, but ``key``.
    sha256, size_bytes
        Digest and length of its Data Set; the length is 0 when the list does not say it.
    stored
        What the copy has of it.
    key
        Its UIDs; None when the list does not say them.
    """

    location: str
    sha256: str
    size_bytes: int
    stored: StoredCopy
    key: InstanceKey | None = None


@runtime_checkable
class StandAloneCopy(CopyPlace, Protocol):
    """A copy from which a node can be made again.  It is entered as any place, and only read here.

    Attributes
    ----------
    fetches_at_once
        How many threads may call ``fetch`` at a time.
    archive
        Identity of the archive that it is a copy of; empty when only the index says it.  Known after entering.
    """

    fetches_at_once: int
    archive: str

    def contents(self) -> Contents:
        """Return what the copy says of itself; quick, whatever it holds.

        Before ``fetch_index`` it tells of the newest index, and then of the one that was fetched.

        Raises
        ------
        DestinationUnavailable, DigestMismatch
        """

    def saved_settings(self) -> str:
        """Return the settings of the node that wrote it, as TOML; empty when there are none.

        Raises
        ------
        DestinationUnavailable
        DigestMismatch
            They are damaged, or sealed and the recovery key is missing or another one.
        """

    def index_in_place(self) -> Path | None:
        """Return the index where it lies, as one SQLite file to read; None when it must be fetched."""

    def fetch_index(self, path: Path) -> bool:
        """Write the newest index that is whole to a new file, durably; False when there is none.

        Raises
        ------
        DestinationUnavailable, DigestMismatch
        OSError
            ``path`` cannot be written.
        """

    def listed(self, since: datetime | None = None) -> Iterator[ListedImage]:
        """Yield the images of the copy's lists, with constant memory; one that was written again may come twice.

        Parameters
        ----------
        since
            Leave out what is known to have been written to the copy before; None lists everything.

        Raises
        ------
        DestinationUnavailable, DigestMismatch
        """
