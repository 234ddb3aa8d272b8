"""Make a node again from a further copy: on an empty machine first, then in the running node until all is back."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field, replace
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from backup_scp.errors import (
    DestinationAway,
    InvalidSelection,
    InvalidSettings,
    Unavailable,
)
from backup_scp.machine import clock
from backup_scp.node.copy_places import open_place
from backup_scp.node.opening import OpenStores
from backup_scp.node.place_at_url import PlaceOptions, place_at
from backup_scp.node.recovery_receipt import write_receipts
from backup_scp.node.recovery_report import report_of
from backup_scp.node.settings import Settings
from backup_scp.ports import RECOVERY, CopyPlace, ReadableArchive, StandAloneCopy, Task
from backup_scp.services.bringing_back import ArchiveWithCopies, BringingBack, Pace
from backup_scp.services.ingest import Ingest
from backup_scp.services.recovery import Recovered, Recovery

if TYPE_CHECKING:
    from backup_scp.ports import Progress
    from backup_scp.watch.recovery_thread import RecoveryThread

log = logging.getLogger(__name__)

KEY_FILE = "recovery.key"
NOTE_FILE = "recovery.json"
"""Files of the home: the key that was typed, and where the archive comes from, if the index with its row is lost."""


@dataclass(frozen=True, slots=True)
class RecoverySource:
    """Where an archive comes back from; recorded until all is back.

    Attributes
    ----------
    url
        A folder, or the URL of a copy.
    options
        What must be known besides.
    copy
        Name of the copy in the index; empty until it is known.
    taken_at
        When the copy's index was written; None without one.
    mb_per_s
        The highest rate; 0 for none.
    """

    url: str
    options: PlaceOptions = field(default_factory=PlaceOptions)
    copy: str = ""
    taken_at: datetime | None = None
    mb_per_s: float = 0


def source_of(task: Task) -> RecoverySource:
    """Return where a recovery that was recorded comes from."""
    return msgspec.json.decode(task.position, type=RecoverySource)


def named_source(settings: Settings, said: str, options: PlaceOptions) -> RecoverySource:
    """Return the source that a person names: a place, or a copy of the settings by its name."""
    for copy in settings.copy:
        if copy.name == said:
            from_settings = {
                key: value
                for key in ("endpoint", "region", "access_key")
                if (value := getattr(copy, key)) and not getattr(options, key)
            } | {
                key: str(settings.home / Path(value).expanduser())
                for key in ("secret_key_file", "ca", "rclone_config")
                if (value := getattr(copy, key)) and not getattr(options, key)
            }
            return RecoverySource(copy.url, replace(options, **from_settings), copy.name)
    return RecoverySource(said, options)


def open_source(settings: Settings, source: RecoverySource) -> StandAloneCopy:
    """Return the copy that an archive comes back from, not entered.

    Raises
    ------
    InvalidSelection, InvalidSettings
    """
    return place_at(settings, source.url, replace(source.options, name=source.copy or source.options.name))


def readable_archive(storage: OpenStores, open_until: ExitStack) -> ReadableArchive:
    """Return the archive for a command that sends: what is damaged or missing is brought back from a copy first."""
    ingest = open_until.enter_context(Ingest(storage.archive, storage.index))
    return ReadingCopies(storage, ingest).archive(storage.settings)


def bringing_back(storage: OpenStores, open_until: ExitStack) -> BringingBack:
    """Return what brings back images from the further copies, for a command."""
    ingest = open_until.enter_context(Ingest(storage.archive, storage.index))
    return ReadingCopies(storage, ingest).bring_back


def _noted(storage: OpenStores) -> Task | None:
    """Record again a recovery whose index was lost before the end: all that is not here comes by the copy's lists."""
    try:
        source = msgspec.json.decode((storage.settings.home / NOTE_FILE).read_bytes(), type=RecoverySource)
    except (OSError, msgspec.MsgspecError):
        return None
    position = msgspec.json.encode(replace(source, taken_at=None)).decode()
    task = Task(RECOVERY, clock.now(), position=position)
    storage.index.record_task(task)
    log.warning("The recovery from %s goes on with a new index", source.url)
    return task


class ReadingCopies:
    """What of the archive is damaged or missing is read through the further copies.

    Attributes
    ----------
    bring_back
        Brings back.
    task
        The recovery that is not finished; None without one.
    """

    def __init__(self, storage: OpenStores, ingest: Ingest) -> None:
        self._storage = storage
        self._ingest = ingest
        self.task: Task | None = None
        with suppress(Unavailable):
            self.task = storage.index.tasks().get(RECOVERY) or _noted(storage)
        self.bring_back = BringingBack(storage.archive, storage.index, ingest, self._place, storage.settings.home)
        self.bring_back.on_brought = storage.reporter.brought_back

    def archive(self, settings: Settings) -> ReadableArchive:
        """Return the archive for sending: it brings back what is not here, if these settings have a copy."""
        if settings.copy or self.task is not None:  # else a damaged file would be read once more for nothing
            return ArchiveWithCopies(self._storage.archive, self.bring_back)
        return self._storage.archive

    @property
    def _settings(self) -> Settings:
        return self._storage.settings

    def _place(self, name: str, _medium: str) -> CopyPlace | None:
        if self.task is not None:
            with suppress(Unavailable):  # another process of the node may have ended it, and dropped its key
                self.task = self._storage.index.tasks().get(RECOVERY)
        if self.task is not None and (source := source_of(self.task)).copy == name:
            return open_source(self._settings, source)
        for copy in self._settings.copy:
            if copy.name == name:
                try:
                    return open_place(self._settings, copy, self._storage.index)
                except InvalidSettings as error:
                    log.warning("Copy %s: %s", name, error)
        return None

    def _others(self, name: str) -> Iterator[tuple[str, StandAloneCopy]]:
        """Yield the other copies of the settings whose lists can be read."""
        for copy in self._settings.copy:
            place = self._place(copy.name, "") if copy.name != name else None
            if isinstance(place, StandAloneCopy):
                yield copy.name, place

    def _conclude(self, done: Recovered) -> None:
        """Write the receipt, and forget where everything came from."""
        task, self.task = self.task, None
        if task is not None:
            home, source = self._settings.home, source_of(task)
            for path in write_receipts(home, self._storage.index, report_of(done), source.url, task.began_at):
                log.info("The receipt of the recovery is %s", path)
        with suppress(OSError):
            (self._settings.home / NOTE_FILE).unlink(missing_ok=True)
        self._drop_key()

    def _drop_key(self) -> None:
        """Delete the recovery key that was typed, unless a recovery needs it; a crash may have left it."""
        with suppress(OSError, Unavailable):
            if RECOVERY not in self._storage.index.tasks():
                (self._settings.home / KEY_FILE).unlink(missing_ok=True)

    def thread(self, at_end: Callable[[], None]) -> RecoveryThread | None:
        """Return the thread that goes on with the recovery; None when there is none."""
        if self.task is None:
            self._drop_key()
            return None
        from backup_scp.watch.recovery_thread import RecoveryThread

        source = source_of(self.task)

        def make(pace: Pace, on_progress: Callable[[Progress], None]) -> Recovery:
            try:
                place = open_source(self._settings, source)
            except InvalidSelection as error:
                raise DestinationAway(str(error)) from error
            return Recovery(
                place,
                source.copy,
                self._storage.archive,
                self._storage.index,
                self._ingest,
                self.bring_back,
                taken_at=source.taken_at,
                pace=pace,
                on_progress=on_progress,
                others=self._others(source.copy),
            )

        return RecoveryThread(
            make,
            self._storage.index,
            self.task,
            mb_per_s=source.mb_per_s,
            is_asked=lambda: bool(self.bring_back.waiting),
            conclude=self._conclude,
            at_end=at_end,
        )
