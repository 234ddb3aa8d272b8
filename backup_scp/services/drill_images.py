"""Fetch images from a copy into a scratch home, send them over the network, and compare what arrives."""

from __future__ import annotations

import shutil
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager
from dataclasses import dataclass
from functools import partial
from hashlib import sha256
from pathlib import Path
from typing import BinaryIO, Protocol, cast

from backup_scp.dicom.part10 import read_heading
from backup_scp.dicom.transcode import applied, padding
from backup_scp.dicom.transcode.content import digest_of_content
from backup_scp.errors import ArchiveFull, ArchiveUnavailable, Damaged, InstanceRefused, NotDICOM
from backup_scp.machine import clock
from backup_scp.ports import (
    IMPORT,
    Archive,
    Arrival,
    CopyItem,
    CopyPlace,
    DrillKind,
    DrillProblem,
    Index,
    NamingPlace,
    RestoreDestination,
    Selection,
    StandAloneCopy,
    StoredVersion,
)
from backup_scp.services.drill_diagnosis import diagnose
from backup_scp.services.ingest import Ingest
from backup_scp.services.restore import restore

Pace = Callable[[int], None]
"""Called with a number of bytes before they are read; limits the rate, and raises to end the work."""

_IN_MEMORY_BYTES = 4 << 20
_CHUNK_BYTES = 1 << 20
_MOST_DECODED = 20  # in each batch
_DECODING_S = 60.0
_ROOM_FACTOR = 3  # fetched, in staging, and stored


@dataclass(frozen=True, slots=True)
class ScratchHome:
    """An empty archive and index, of which nothing stays."""

    archive: Archive
    index: Index
    folder: Path


class DrillStage(Protocol):
    """What a drill needs besides the copy.

    Attributes
    ----------
    folder
        The scratch folder.
    arrived
        SHA-256 of each Data Set that our throw-away Storage SCP has received.
    """

    folder: Path
    arrived: set[str]

    def home(self) -> AbstractContextManager[ScratchHome]:
        """Make a scratch home, and remove it at the end."""

    def open_index(self, path: Path) -> AbstractContextManager[Index]:
        """Open the index of a copy.

        Raises
        ------
        IndexUnavailable
            It is damaged.
        """

    def read_settings(self, text: str) -> None:
        """Try settings of a copy.

        Raises
        ------
        InvalidSettings
        """

    def destinations(self) -> Sequence[RestoreDestination]:
        """Return where images are sent: our throw-away Storage SCP, then a test AE if there is one."""


class ImageDrill:
    """Tries images of one copy.

    Attributes
    ----------
    problems
        What is wrong; the caller takes them out.
    tried, came_back, size_bytes, compared, decoded, undecoded
        See ``DrillResult``; ``undecoded`` counts those whose pixels no decoder here reads.
    worked_s
        Seconds for fetching, storing and sending.

    Parameters
    ----------
    pace
        Called with the size of each image before it is fetched.
    """

    def __init__(
        self, place: CopyPlace, archive: Archive, index: Index, stage: DrillStage, *, is_sealed: bool, pace: Pace
    ) -> None:
        self._place = place
        self._archive = archive
        self._index = index
        self._stage = stage
        self._is_sealed = is_sealed
        self._pace = pace
        self._paused_s = 0.0
        self.problems: list[DrillProblem] = []
        self.tried = self.came_back = self.size_bytes = self.compared = self.decoded = self.undecoded = 0
        self.worked_s = 0.0

    def compare(self, items: Sequence[CopyItem]) -> None:
        """Compare sealed bytes, when nobody can open them."""
        of_number = {item.number: item for item in items}
        for result in self._place.compare(items):
            item = of_number[result.number]
            self._pace(item.held.size_bytes)
            self.tried += 1
            if result.stored is None:
                uid = item.held.sop_instance_uid
                why = result.error.removeprefix(f"Image {uid}").lstrip(": ")
                self._add(DrillKind.DAMAGED, item, f"damaged or missing: {why}")
            else:
                self.compared += 1
                self._look_at_name(item)

    def bring_back(self, items: Sequence[CopyItem]) -> None:
        """Fetch images into a scratch home, send them from there, and compare what arrives.

        Raises
        ------
        DestinationUnavailable
        ArchiveUnavailable, IndexUnavailable
            The scratch home cannot hold them.
        """
        self._require_room(items)
        with self._stage.home() as home, Ingest(home.archive, home.index) as ingest:
            began, self._paused_s = time.monotonic(), 0.0
            fetched = list(self._fetch(items, ingest))
            self._stage.arrived.clear()
            why = self._send(home)
            self.worked_s += max(time.monotonic() - began - self._paused_s, 0)
            arrived = [item for item in fetched if self._has_arrived(item.held, home, why)]
            self._decode(home, arrived)

    def _add(self, kind: DrillKind, item: CopyItem, sentence: str) -> None:
        self.problems.append(DrillProblem(kind, item.held.sop_instance_uid, sentence))

    def _fetch(self, items: Sequence[CopyItem], ingest: Ingest) -> Iterator[CopyItem]:
        """Yield the images that are in the scratch home now."""
        with ThreadPoolExecutor(self._at_once, "drill") as pool:
            for item, problem in zip(items, pool.map(partial(self._fetch_one, ingest=ingest), items), strict=True):
                self.tried += 1
                if problem is not None:
                    self.problems.append(problem)
                else:
                    self._look_at_name(item)
                    yield item

    @property
    def _at_once(self) -> int:
        return self._place.fetches_at_once if isinstance(self._place, StandAloneCopy) else 1

    def _fetch_one(self, item: CopyItem, ingest: Ingest) -> DrillProblem | None:
        """Bring one image into the scratch home; return what is wrong with it."""
        began = time.monotonic()
        self._pace(item.held.size_bytes)
        self._paused_s += (time.monotonic() - began) / self._at_once
        error: Damaged | None = None
        try:
            with tempfile.SpooledTemporaryFile(_IN_MEMORY_BYTES, dir=str(self._stage.folder)) as spooled:
                found = cast("BinaryIO", spooled)
                try:
                    self._place.fetch(item, found)
                    if take_back(item.held, found, ingest):
                        return None
                except Damaged as damage:
                    error = damage
                return diagnose(item, error, found, self._archive, self._index, is_sealed=self._is_sealed)
        except OSError as full:
            raise no_room(self._stage.folder, full) from full

    def _look_at_name(self, item: CopyItem) -> None:
        if not isinstance(self._place, NamingPlace) or item.stored is None:
            return
        if what := self._place.name_trouble(item.stored):
            self._add(DrillKind.DELETED_NAME, item, f"its bytes are intact, and its name was {what}")

    def _send(self, home: ScratchHome) -> dict[str, str]:
        """Send all of a scratch home; return why images were not taken, by SHA-256, or by ``""`` for all of them."""
        why: dict[str, str] = {}
        for destination in self._stage.destinations():
            sent = restore(home.archive, home.index, Selection(all_versions=True), destination)
            if sent.interrupted:
                raise KeyboardInterrupt
            why |= {outcome.held.sha256: f"{destination.name}: {outcome.reason}" for outcome in sent.failed}
            if sent.stopped:
                why[""] = f"{destination.name}: {sent.stopped}"
        return why

    def _has_arrived(self, held: StoredVersion, home: ScratchHome, why: dict[str, str]) -> bool:
        """Tell whether an image arrived byte for byte; otherwise note why not."""
        reason = why.get(held.sha256) or why.get("", "")
        if not reason and (held.sha256 in self._stage.arrived or _padded(held, home) in self._stage.arrived):
            self.came_back += 1
            self.size_bytes += held.size_bytes
            return True
        sentence = reason or "it arrived over the network with other bytes"
        self.problems.append(DrillProblem(DrillKind.NOT_SENT, held.sop_instance_uid, sentence))
        return False

    def _decode(self, home: ScratchHome, items: Sequence[CopyItem]) -> None:
        """Decode pixels, of each kind first, and compare them with those of the original."""
        of_kind = {(item.held.transfer_syntax_uid, item.held.sop_class_uid): item for item in items}
        in_order = {item.number: item for item in (*of_kind.values(), *items)}
        for item in list(in_order.values())[:_MOST_DECODED]:
            found = _content_digest(home.archive, item.held, home.folder)
            original = _content_digest(self._archive, item.held, home.folder)
            if found is None:
                self.undecoded += 1
            elif original is None or found == original:  # a damaged original is for ``verify`` to tell
                self.decoded += 1
            else:
                self._add(DrillKind.BAD_PIXELS, item, "its pixels are not those of the original")

    def _require_room(self, items: Sequence[CopyItem]) -> None:
        needed = _ROOM_FACTOR * sum(item.held.size_bytes for item in items)
        try:
            free = shutil.disk_usage(self._stage.folder).free
        except OSError as error:
            raise no_room(self._stage.folder, error) from error
        if free < needed:
            folder = self._stage.folder
            raise ArchiveFull(
                f"{folder} has no room for the drill ({needed / 1e6:.0f} MB): make room, or name another folder by "
                "--scratch"
            )


def take_back(held: StoredVersion, found: BinaryIO, ingest: Ingest) -> bool:
    """Store a fetched file in a scratch home; False when its Data Set is not the one that we look for.

    Raises
    ------
    ArchiveUnavailable, IndexUnavailable
    """
    found.seek(0)
    try:
        heading = read_heading(found)
    except NotDICOM:
        return False
    staged = ingest.begin(heading)
    try:
        while part := found.read(_CHUNK_BYTES):
            staged.write(part)
        is_same = staged.sha256 == held.sha256
    except BaseException:
        staged.discard()
        raise
    if is_same:
        ingest.accept(staged, Arrival(clock.now(), IMPORT))
    else:
        staged.discard()
    return is_same


def no_room(folder: Path, error: OSError) -> ArchiveUnavailable:
    """Return the error to raise when the scratch folder cannot be written."""
    reason = error.strerror or type(error).__name__
    return ArchiveUnavailable(f"{folder} cannot take the drill's files ({reason}): name another folder by --scratch")


def _padded(held: StoredVersion, home: ScratchHome) -> str:
    """Return the SHA-256 of a Data Set as it is sent: one of odd length gets a byte (PS3.8 E.1)."""
    if held.size_bytes % 2 == 0:
        return held.sha256
    (version,) = (one for one in home.index.versions() if one.sha256 == held.sha256)
    file = home.archive.read(version.location)
    with file.data_set() as stream:
        missing = padding(stream, held.transfer_syntax_uid, file.size_bytes)
    digest = sha256()
    with file.data_set() as stream:
        for part in applied(iter(partial(stream.read, _CHUNK_BYTES), b""), missing):
            digest.update(part)
    return digest.hexdigest()


def _content_digest(archive: Archive, held: StoredVersion, folder: Path) -> str | None:
    """Return the digest of all elements and decoded pixels; None when it cannot be read or decoded."""
    until = time.monotonic() + _DECODING_S
    try:
        file = archive.read(held.location)
        with file.data_set() as stream:
            return digest_of_content(stream, file.heading.transfer_syntax_uid, file.size_bytes, folder, until)
    except (ArchiveUnavailable, Damaged, InstanceRefused):
        return None
