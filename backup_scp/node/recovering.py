"""Make a node again from a further copy: on an empty machine first, then in the running node until all is back."""

from __future__ import annotations

import errno
import logging
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, suppress
from dataclasses import dataclass, field, replace
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from backup_scp.errors import (
    DestinationAway,
    DigestMismatch,
    IndexUnavailable,
    InvalidSelection,
    InvalidSettings,
    OtherKey,
    Unavailable,
)
from backup_scp.machine import clock
from backup_scp.machine.folders import fsync, fsync_folder, make_folders
from backup_scp.node.copy_places import open_place
from backup_scp.node.opening import OpenStores, index_path, open_archive, open_index
from backup_scp.node.place_at_url import PlaceOptions, place_at
from backup_scp.node.recovery_receipt import write_receipts
from backup_scp.node.settings import CopySettings, RemoteSettings, Sections, Settings
from backup_scp.ports import RECOVERY, Contents, CopyPlace, Index, ReadableArchive, StandAloneCopy, Task
from backup_scp.services import rebuild
from backup_scp.services.bringing_back import ArchiveWithCopies, BringingBack, Pace
from backup_scp.services.ingest import Ingest
from backup_scp.services.recovery import Recovered, Recovery

if TYPE_CHECKING:
    from backup_scp.ports import Progress
    from backup_scp.watch.recovery_thread import RecoveryThread

log = logging.getLogger(__name__)

_KEY_FILE = "recovery.key"


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


def keep_key(settings: Settings, key: str) -> Path:
    """Write a recovery key that was typed to a file of ours, for as long as the recovery lasts.

    Raises
    ------
    InvalidSettings
    """
    file = settings.home / _KEY_FILE
    write_settings(file, f"{key}\n")
    return file


# -- on the empty machine ----------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Adapted:
    """The settings of the node that was lost, for a new machine.

    Attributes
    ----------
    sections
        The settings.
    notes
        What a person must put back, one sentence each.
    """

    sections: Sections
    notes: tuple[str, ...] = ()

    def toml_of(self, file: Path, home: Path) -> str:
        """Return the text of a settings file for a home, without what has its usual value."""
        values, usual = msgspec.to_builtins(self.sections), msgspec.to_builtins(Sections())
        changed = _changed(values, usual)
        for tables, kind in ((changed.get("remote", ()), RemoteSettings), (changed.get("copy", ()), CopySettings)):
            for table in tables:
                for each in msgspec.structs.fields(kind):
                    if not each.required and table[each.name] == msgspec.to_builtins(each.default):
                        del table[each.name]
        node = changed.setdefault("node", {})
        node["home"] = "." if file.absolute().parent == home else str(home)
        lists = {name: changed.pop(name, ()) for name in ("remote", "copy")}
        text = msgspec.toml.encode(changed).decode()
        tables = ((name, msgspec.toml.encode(table).decode()) for name, each in lists.items() for table in each)
        return text + "".join(f"\n[[{name}]]\n{table}" for name, table in tables)


def _changed(value: Any, usual: Any) -> Any:
    """Return the settings of a section, or of each table of a list, that do not have their usual value."""
    return {
        name: _changed(each, usual[name]) if isinstance(each, dict) else each
        for name, each in value.items()
        if each != usual.get(name) and not (isinstance(each, dict) and not _changed(each, usual[name]))
    }


def adapt(saved: str, home: Path, *, ae_title: str = "") -> Adapted:
    """Turn the saved settings into those of a new machine: its own folders, and no file that is not here.

    Raises
    ------
    DigestMismatch
        They cannot be read.
    """
    try:
        sections = msgspec.toml.decode(saved, type=Sections)
    except msgspec.MsgspecError as error:
        raise DigestMismatch(f"The settings of the copy cannot be used ({error})") from None
    notes: list[str] = []
    sections = msgspec.structs.replace(
        sections,
        node=msgspec.structs.replace(sections.node, home="", ae_title=ae_title or sections.node.ae_title),
        archive=msgspec.structs.replace(sections.archive, url=""),
        index=msgspec.structs.replace(sections.index, url=""),
        log=msgspec.structs.replace(sections.log, file=""),
    )
    if sections.tls.certificate and not _is_here(home, sections.tls.certificate):
        notes.append("TLS is off: put certificate and key back, and set [tls] and tls of each [[remote]] again")
        sections = msgspec.structs.replace(
            sections,
            tls=type(sections.tls)(),
            node=msgspec.structs.replace(sections.node, plain=True),
            remote=tuple(msgspec.structs.replace(remote, tls=False) for remote in sections.remote),
        )
    for copy in sections.copy:
        for key in ("secret_key_file", "password_file", "token_file", "rclone_config", "ca"):
            named = getattr(copy, key)
            if named and not _is_here(home, named):
                notes.append(f"Copy {copy.name} waits for its {key}: {named}")
        if copy.url.startswith("s3:") and not copy.access_key:
            notes.append(f"Copy {copy.name} waits for its access_key, which no copy holds")
    return Adapted(sections, tuple(notes))


def _is_here(home: Path, named: str) -> bool:
    return (home / Path(named).expanduser()).is_file()


def require_empty(settings: Settings) -> Task | None:
    """Raise unless there is no archive yet; return the recovery that was begun here.

    Raises
    ------
    InvalidSelection
    """
    if not settings.index_is_embedded:
        raise InvalidSelection(
            "recover makes an SQLite index: leave url of [index] empty for now; docs/way-back.md says how to go on"
        )
    if index_path(settings).exists():
        with closing(open_index(settings)) as index:
            task = index.tasks().get(RECOVERY)
        if task is None:
            raise InvalidSelection(
                f"There is an archive in {settings.home}: recover needs an empty home (BACKUP_SCP_HOME=FOLDER). To "
                "bring back single studies: backup-scp copies fetch"
            )
        return task
    archive = open_archive(settings)
    if settings.archive_path.exists() and next(archive.locations(), None) is not None:
        raise InvalidSelection(
            f"There are images in {settings.archive_path}: recover needs an empty home (BACKUP_SCP_HOME=FOLDER)"
        )
    return None


def write_settings(path: Path, text: str) -> None:
    """Write a settings file that is not there yet, durably.

    Raises
    ------
    InvalidSettings
    """
    try:
        make_folders(path.parent, 0o700)
        part = path.with_name(f"{path.name}.part")
        part.unlink(missing_ok=True)
        part.touch(0o600)  # it names the clinic's computers
        with part.open("wb") as stream:
            stream.write(text.encode())
            stream.flush()
            fsync(stream.fileno())
        part.rename(path)
        fsync_folder(path.parent)
    except OSError as error:
        raise InvalidSettings(f"{path} cannot be written ({error.strerror})") from None


def begin(settings: Settings, place: StandAloneCopy, source: RecoverySource) -> Contents:
    """Make the home of a node from a copy that was entered: its index, and the note that the files are to come.

    After a crash it begins again: the index has its name only when it is whole.

    Raises
    ------
    DestinationUnavailable, DigestMismatch, IndexUnavailable, ArchiveUnavailable
    """
    final = index_path(settings)
    part = final.with_name(f"{final.name}.coming")
    make_folders(settings.home, 0o700)
    for suffix in ("", "-wal", "-shm"):
        part.with_name(f"{part.name}{suffix}").unlink(missing_ok=True)
    coming = msgspec.structs.replace(settings, index=type(settings.index)(f"sqlite:///{part.as_posix()}"))
    has_index = _fetch_index(place, part, coming.index_url)
    contents = place.contents()  # of the index that was fetched: it may be an older one
    with closing(open_index(coming, migrate=True)) as index:
        identity = index.archive_identity() or place.archive or None
        name = _name_of(settings, index, place, source)
        identity = open_archive(settings).establish(identity)
        index.record_archive_identity(identity)
        is_complete = has_index and rebuild.NAME not in index.tasks()  # else the lists know more
        note = replace(source, copy=name, taken_at=contents.taken_at if is_complete else None)
        index.record_task(Task(RECOVERY, clock.now(), position=msgspec.json.encode(note).decode()))
    for suffix in ("-wal", "-shm"):
        part.with_name(f"{part.name}{suffix}").unlink(missing_ok=True)
    part.rename(final)
    fsync_folder(final.parent)
    return contents


def _fetch_index(place: StandAloneCopy, part: Path, url: str) -> bool:
    """Fetch the copy's index; False when there is none, or a damaged one: one is made from the files then."""
    from backup_scp.index.connection.sqlite_file import damage_of

    try:
        if not place.fetch_index(part):
            return False
        damage = damage_of(url)
    except OtherKey:
        raise
    except DigestMismatch as error:
        damage = str(error)
    except OSError as error:
        if error.errno != errno.EIO:
            raise IndexUnavailable(f"{part.parent} cannot take the index ({error.strerror})") from None
        place.contents()  # raises when the drive is away
        damage = "it cannot be read"
    if damage:
        log.error("The index of the copy is damaged (%s): a new one is made from the files", damage)
        part.unlink(missing_ok=True)
    return not damage


def _name_of(settings: Settings, index: Index, place: StandAloneCopy, source: RecoverySource) -> str:
    """Return the name that the copy has in its index: by its drive, else by its URL."""
    states = index.copies.states(clock.now())
    if place.medium:
        names = [state.name for state in states if state.medium == place.medium]
    else:
        names = [copy.name for copy in settings.copy if copy.url.rstrip("/") == source.url.rstrip("/")]
    return names[0] if names else source.copy or source.options.name


# -- in the running node -----------------------------------------------------------------------------------------------


def readable_archive(storage: OpenStores, open_until: ExitStack) -> ReadableArchive:
    """Return the archive for a command that sends: what is damaged or missing is brought back from a copy first."""
    ingest = open_until.enter_context(Ingest(storage.archive, storage.index))
    return ReadingCopies(storage, ingest).archive


def bringing_back(storage: OpenStores, open_until: ExitStack) -> BringingBack:
    """Return what brings back images from the further copies, for a command."""
    ingest = open_until.enter_context(Ingest(storage.archive, storage.index))
    return ReadingCopies(storage, ingest).bring_back


class ReadingCopies:
    """What of the archive is damaged or missing is read through the further copies.

    Attributes
    ----------
    archive
        For sending: it brings back what is not here.
    bring_back
        Brings back.
    task
        The recovery that is not finished; None without one.
    """

    def __init__(self, storage: OpenStores, ingest: Ingest) -> None:
        self._settings = storage.settings
        self._storage = storage
        self._ingest = ingest
        self.task: Task | None = None
        with suppress(Unavailable):
            self.task = storage.index.tasks().get(RECOVERY)
        self.bring_back = BringingBack(storage.archive, storage.index, ingest, self._place, storage.settings.home)
        self.archive = ArchiveWithCopies(storage.archive, self.bring_back)

    def _place(self, name: str, _medium: str) -> CopyPlace | None:
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
            for path in write_receipts(home, self._storage.index, done, source.url, task.began_at):
                log.info("The receipt of the recovery is %s", path)
        self._drop_key()

    def _drop_key(self) -> None:
        """Delete the recovery key that was typed, unless a recovery needs it; a crash may have left it."""
        with suppress(OSError, Unavailable):
            if RECOVERY not in self._storage.index.tasks():
                (self._settings.home / _KEY_FILE).unlink(missing_ok=True)

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
