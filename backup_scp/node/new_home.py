"""Make the home of a new node from a further copy, on an empty machine: its settings, and its index."""

from __future__ import annotations

import errno
import logging
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from backup_scp.errors import (
    DigestMismatch,
    IndexUnavailable,
    InvalidSelection,
    InvalidSettings,
    OtherKey,
)
from backup_scp.machine import clock
from backup_scp.machine.folders import fsync_folder, make_folders
from backup_scp.machine.process_lock import Lock
from backup_scp.machine.whole_file import write_new
from backup_scp.node.opening import index_path, open_archive, open_index
from backup_scp.node.recovering import KEY_FILE, NOTE_FILE, RecoverySource
from backup_scp.node.recovery_receipt import source_of_receipt
from backup_scp.node.settings import CopySettings, RemoteSettings, Sections, Settings
from backup_scp.ports import RECOVERED, RECOVERY, Contents, Index, StandAloneCopy, Task
from backup_scp.services import rebuild

if TYPE_CHECKING:
    pass

log = logging.getLogger(__name__)

_LOCK = "recovery.lock"


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
    if (named := sections.alerts.smtp_password_file) and not _is_here(home, named):
        notes.append(f"E-mail of [alerts] waits for its smtp_password_file: {named}")
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


def keep_key(settings: Settings, key: str) -> Path:
    """Write a recovery key that was typed to a file of ours, for as long as the recovery lasts.

    Raises
    ------
    InvalidSettings
    """
    file = settings.home / KEY_FILE
    write_settings(file, f"{key}\n")
    return file


def require_empty(settings: Settings, url: str) -> Task | None:
    """Raise unless there is no archive yet; return the recovery that was begun here, or has ended here.

    Parameters
    ----------
    url
        From where is to be recovered: only a recovery from there is the one that has ended.

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
            tasks = index.tasks()
        task = tasks.get(RECOVERY) or tasks.get(RECOVERED)
        if task is None or (task.ended_at and source_of_receipt(settings.home) != url):
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
        write_new(path, text.encode())  # private: it names the clinic's computers
    except OSError as error:
        raise InvalidSettings(f"{path} cannot be written ({error.strerror})") from None


def begin(settings: Settings, place: StandAloneCopy, source: RecoverySource) -> Contents:
    """Make the home of a node from a copy that was entered: its index, and the note that the files are to come.

    After a crash it begins again: the index has its name only when it is whole.

    Raises
    ------
    DestinationUnavailable, DigestMismatch, IndexUnavailable, ArchiveUnavailable
    InvalidSelection
        A newer version has made the index of the copy.
    """
    make_folders(settings.home, 0o700)
    try:
        lock = Lock(settings.home / _LOCK)
    except BlockingIOError:
        raise IndexUnavailable(f"Another command recovers into {settings.home} now: wait until it is ready") from None
    with closing(lock):
        return _begin(settings, place, source)


def _begin(settings: Settings, place: StandAloneCopy, source: RecoverySource) -> Contents:
    final = index_path(settings)
    part = final.with_name(f"{final.name}.coming")
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
        position = msgspec.json.encode(note).decode()
        index.record_task(Task(RECOVERY, clock.now(), position=position))
    write_settings(settings.home / NOTE_FILE, position)
    for suffix in ("-wal", "-shm"):
        part.with_name(f"{part.name}{suffix}").unlink(missing_ok=True)
    part.rename(final)
    fsync_folder(final.parent)
    return contents


def _fetch_index(place: StandAloneCopy, part: Path, url: str) -> bool:
    """Fetch the copy's index; False when there is none, or a damaged one: one is made from the files then.

    Raises
    ------
    InvalidSelection
        A newer version has made it.
    """
    from backup_scp.index.connection.migrate import newer_revision
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
    elif revision := newer_revision(url):
        part.unlink()
        raise InvalidSelection(
            f"The index of the copy was made by a newer version of backup-scp ({revision}): "
            "pip install --upgrade backup-scp, then type the same command again"
        )
    return not damage


def _name_of(settings: Settings, index: Index, place: StandAloneCopy, source: RecoverySource) -> str:
    """Return the name that the copy has in its index: by its drive, else by its URL."""
    states = index.copies.states(clock.now())
    if place.medium:
        names = [state.name for state in states if state.medium == place.medium]
    else:
        names = [copy.name for copy in settings.copy if copy.url.rstrip("/") == source.url.rstrip("/")]
    return names[0] if names else source.copy or source.options.name
