"""Put together what keeps further copies up to date: in the running node, and in a command."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import msgspec

from backup_scp.errors import CopyingStopped, InvalidSelection, InvalidSettings, Unavailable
from backup_scp.machine import clock
from backup_scp.machine.hours import Hours
from backup_scp.node.copy_places import open_place
from backup_scp.node.mass_changes import mass_changes
from backup_scp.node.opening import OpenStores
from backup_scp.node.settings import CopySettings, Sections, Settings
from backup_scp.ports import Contents, CopyPlace, Index
from backup_scp.services.allowance import Allowance
from backup_scp.services.comparing import Pace
from backup_scp.services.copying import Copying
from backup_scp.services.ingest import Ingest
from backup_scp.services.throttle import Throttle
from backup_scp.watch.alarm import CopyAlarm
from backup_scp.watch.copy_thread import CopySchedule, CopyThread

log = logging.getLogger(__name__)


class CopySnapshot:
    """Implements ``ports.Snapshot`` for this node."""

    def __init__(self, settings: Settings, index: Index) -> None:
        self._settings = settings
        self._index = index

    def index(self, path: Path) -> Contents:
        taken_at = clock.now()
        self._index.snapshot(path)
        held = self._index.holdings()
        return Contents(
            taken_at, held.patients, held.studies, held.versions, held.size_bytes, newest_at=held.last_received_at
        )

    def settings(self) -> str:
        sections = msgspec.to_builtins(Sections(**{name: getattr(self._settings, name) for name in _SECTION_NAMES}))
        if self._settings.index.url and not self._settings.index_is_embedded:
            sections["index"]["url"] = ""  # it may hold a password
        for copy in sections["copy"]:
            copy["access_key"] = ""
        for name in ("webhook", "heartbeat"):  # their URLs often are secrets
            sections["alerts"][name] = ""
        return msgspec.toml.encode(sections).decode()


_GO_ON = "When you have looked: backup-scp copies sync --despite-alarm"
_SECTION_NAMES = [field.name for field in msgspec.structs.fields(Sections)]


def copying(
    settings: Settings, place: CopyPlace, storage: OpenStores, ingest: Ingest, pace: Pace = lambda _: None
) -> Copying:
    """Put together what fills and compares one copy."""
    snapshot = CopySnapshot(settings, storage.index)
    gb_per_month = next((copy.gb_per_month for copy in settings.copy if copy.name == place.name), 0)
    made = Copying(place, storage.archive, storage.index, ingest, snapshot, spool=settings.home, pace=pace)
    made.allowance = Allowance(storage.index, place.name, gb_per_month)
    made.on_copied = lambda versions: storage.reporter.copied(versions, place.name, place.label)
    made.on_healed = lambda held: storage.reporter.brought_back([held], place.name)
    return made


def chosen(settings: Settings, name: str | None) -> Sequence[CopySettings]:
    """Return the copy with this name; without a name all of them.

    Raises
    ------
    InvalidSelection
    """
    found = [copy for copy in settings.copy if name in {None, copy.name}]
    if not settings.copy:
        raise InvalidSelection("The settings name no further copy: add a [[copy]], as conf/backup-scp.toml explains")
    if not found:
        raise InvalidSelection(f"There is no copy {name}: the settings name {', '.join(c.name for c in settings.copy)}")
    return found


def alarm_of(settings: Settings, storage: OpenStores) -> CopyAlarm:
    """Return what stops all copies while a virus may be at work."""
    list_storms = partial(mass_changes, settings, storage.index)
    return CopyAlarm(storage.archive, storage.index, list_storms, settings.alerts.lost_images)


def pace_of(copy: CopySettings, alarm: CopyAlarm) -> Pace:
    """Return what keeps a command within the rate of the settings, and ends it when there is an alarm."""
    throttle = Throttle(copy.mb_per_s)

    def pace(size_bytes: int) -> None:
        if why := alarm.sentence:
            raise CopyingStopped(f"Stopped by an alarm: {why}. {_GO_ON}")
        throttle.wait(size_bytes)

    return pace


def schedule_of(copy: CopySettings) -> CopySchedule:
    """Return when and how fast a copy is written to."""
    hours = Hours.parse(copy.hours) if copy.hours else None
    return CopySchedule(copy.mb_per_s, hours, copy.compare_days)


def copy_threads(settings: Settings, storage: OpenStores, ingest: Ingest) -> list[CopyThread]:
    """Return a thread for each copy in the settings; one that cannot be used is told, and the node runs without it."""
    alarm = alarm_of(settings, storage)

    def threads() -> Iterator[CopyThread]:
        for copy in settings.copy:
            try:
                place = open_place(settings, copy, storage.index)
            except InvalidSettings as error:
                log.error("Copy %s: %s", copy.name, error)
                with suppress(Unavailable):
                    storage.index.copies.note_trouble(copy.name, str(error), clock.now())
                continue
            yield CopyThread(
                place,
                partial(copying, settings, place, storage, ingest),
                storage.index,
                schedule_of(copy),
                alarm,
                lambda: ingest.received_at,
            )

    return list(threads())


@dataclass(frozen=True, slots=True)
class Prepared:
    """A drive that was prepared.

    Attributes
    ----------
    medium, label
        Its ID, and its name for people.
    folder
        The folder on it.
    """

    medium: str
    label: str
    folder: str


def prepare(settings: Settings, name: str, folder: Path | None, label: str, *, may_share_disk: bool) -> Prepared:
    """Write the marker of a copy on a new drive.

    Raises
    ------
    InvalidSelection
        The copy is no drive, or the folder is not known.
    DestinationUnavailable, ArchiveUnavailable
        The drive cannot be written to, or is another archive's.
    """
    from backup_scp.copies.drive.drive_connection import folder_of_url
    from backup_scp.copies.drive.drive_marker import fits, prepare_drive

    (copy,) = chosen(settings, name)
    if not copy.url.startswith("file:"):
        raise InvalidSelection(f"Copy {name} is no drive: it needs no init")
    pattern = folder_of_url(copy.url)
    folder = folder.absolute() if folder else pattern
    if "*" in str(folder):
        raise InvalidSelection(f"Say which folder: backup-scp copies init {name} FOLDER")
    if not fits(folder, pattern):
        raise InvalidSelection(f"The node looks for copy {name} at {pattern}, and {folder} is not there")
    with OpenStores(settings, create=True) as storage:
        identity = storage.archive.identity() or storage.archive.establish(storage.index.archive_identity())
    marker = prepare_drive(folder, label, identity, settings.archive_path, may_share_disk=may_share_disk)
    return Prepared(marker.drive, marker.label, str(folder))


def forget(settings: Settings, name: str) -> None:
    """Delete the records of a copy that the settings name no more.

    Raises
    ------
    InvalidSelection
    IndexUnavailable
    """
    if any(copy.name == name for copy in settings.copy):
        raise InvalidSelection(f"Copy {name} is still in the settings: take it out first")
    with OpenStores(settings) as storage:
        if all(state.name != name for state in storage.index.copies.states(clock.now())):
            raise InvalidSelection(f"There is no copy {name}")
        storage.index.copies.forget(name)
