"""Write what makes a drive understandable without us: lists, DICOMDIRs, README, index and settings."""

from __future__ import annotations

import logging
import os
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from contextlib import closing, contextmanager, suppress
from datetime import timedelta
from itertools import chain

from backup_scp.copies.contents_file import encode_contents
from backup_scp.copies.drive.drive_batch import NewFile
from backup_scp.copies.drive.drive_catalog import LIST, MANIFEST, decode, encode
from backup_scp.copies.drive.drive_contents import INDEX, SETTINGS, STATE, read_state
from backup_scp.copies.drive.drive_readme import README, list_text, readme
from backup_scp.copies.drive.drive_writer import NEW_LISTS, OWN, TemporaryFolder, month_of_new_list
from backup_scp.dicom.file_set import DICOMDIR, Entry, dicomdir, sort_key
from backup_scp.errors import IndexUnavailable
from backup_scp.machine import clock
from backup_scp.machine.folders import fsync
from backup_scp.machine.process_lock import Lock
from backup_scp.machine.root_folder import BINARY, READ, RootFolder
from backup_scp.ports import Snapshot

MOST_ENTRIES = 10_000
"""How many images one list, and one DICOMDIR, has at most; a series has one DICOMDIR, however long it is."""

_LOCK = f"{OWN}/LOCK"
_INDEX_AGE = timedelta(days=1)
_MOST_WRITTEN_BYTES = 16 << 20  # lists and DICOMDIRs that take room beside the old ones
_Version = tuple[str, str, str]
_DEEPEST = 5  # a series: year, month, patient, study, series

log = logging.getLogger(__name__)


def write_lists(root: RootFolder, snapshot: Snapshot, label: str, *, is_complete: bool) -> None:
    """Bring lists and DICOMDIRs of all months up to date in which something is new; renew the index once a day.

    Nothing happens while another process does it.

    Raises
    ------
    OSError
    """
    root.forget_folders()
    root.make_folders(NEW_LISTS)
    try:
        lock = Lock(root.path_of(_LOCK))
    except BlockingIOError:
        return
    with closing(lock), closing(TemporaryFolder(root)) as temporary:
        writer = _ListWriter(root, temporary)
        if root.read(README, len(readme(label)) + 1) != readme(label):
            writer.replace(README, [readme(label)])
        months: dict[str, list[str]] = {}
        for name in sorted(root.names(NEW_LISTS)):
            if month := month_of_new_list(name):
                months.setdefault(month, []).append(f"{NEW_LISTS}/{name}")
        writer.bring_up_to_date(months)
        writer.keep_index(snapshot, is_complete=is_complete)


class _ListWriter:
    """Writes lists on a drive, each one beside the old one, flushed and renamed over it."""

    def __init__(self, root: RootFolder, temporary: TemporaryFolder) -> None:
        self._root, self._temporary = root, temporary
        self._written: list[tuple[str, str]] = []  # temporary names and names
        self._written_bytes = 0
        self._outgrown: list[str] = []  # DICOMDIRs that those of folders below replace

    def replace(self, name: str, content: Iterable[bytes]) -> None:
        """Write a file beside the one of this name; ``keep`` lets it take its place."""
        temporary = self._temporary.new_name()
        with NewFile(self._root, temporary) as target:
            for part in content:
                target.write(part)
                self._written_bytes += len(part)
        self._written.append((temporary, name))

    def keep(self) -> None:
        """Flush all files that were written, and rename them in this order; the names are durable on return."""
        if not self._written:
            return
        self._root.flush()
        written, self._written, self._written_bytes = self._written, [], 0
        for temporary, name in written:
            self._root.replace(temporary, name)
        self._root.flush()
        for name in self._outgrown:
            self._root.remove(name)
        self._outgrown.clear()

    def _keep_many(self) -> None:
        """Flush when there is much to flush: on a disk with a moving head, a flush takes longer than a list."""
        if self._written_bytes >= _MOST_WRITTEN_BYTES:
            self.keep()

    def bring_up_to_date(self, months: Mapping[str, list[str]]) -> None:
        """Move the entries of new lists into the lists of their months; write the DICOMDIRs and LIST.TXT of these."""
        touched: dict[str, set[str]] = {}
        for month in sorted(months):
            touched[month] = self._fold(month, months[month])
            self._keep_many()
        self.keep()
        for month, series in touched.items():
            counts = Counter(_levels(entry.path) for entry in self._entries(month))
            self.replace(f"{month}/{LIST}", list_text(month, self._entries(month)))
            self._write_dicomdirs(month, counts, series)
            self._keep_many()
        self.keep()
        for name in chain.from_iterable(months.values()):  # only now: after a crash all of this is done again
            self._root.remove(name)

    def _fold(self, month: str, new: list[str]) -> set[str]:
        """Add entries to the month's lists; return the folders of series that have something new."""
        touched: set[str] = set()
        full = [name for name in self._lists(month) if name != f"{month}/{MANIFEST}"]
        listed = {hash(entry.path) for name in full for entry in self._read(name)}
        for name in (f"{month}/{MANIFEST}", *new):
            if self._is_damaged(name):  # its checksums are good, and nothing is added to it
                full.append(self._next_full(month, full))
                self._root.rename_new(name, full[-1])
        entries = self._latest(self._read(f"{month}/{MANIFEST}"), listed)
        for name in new:
            for entry in self._read(name):
                touched.add(_series(entry.path))
                if hash(entry.path) not in listed:
                    _add(entries, entry)
                if len(entries) == MOST_ENTRIES:
                    full.append(self._next_full(month, full))
                    self.replace(full[-1], encode(sorted(entries.values(), key=sort_key)))
                    listed.update(hash(entry.path) for entry in entries.values())
                    entries.clear()
        self.replace(f"{month}/{MANIFEST}", encode(sorted(entries.values(), key=sort_key)))
        return touched

    def _next_full(self, month: str, full: list[str]) -> str:
        """Return the name of a further list that nothing is added to."""
        number = len(full) + 1
        while (name := f"{month}/{MANIFEST.replace('.', f'_{number}.')}") in full:
            number += 1
        return name

    def _is_damaged(self, name: str) -> bool:
        try:
            with suppress(FileNotFoundError), _open(self._root, name) as lines:
                for _ in decode(lines):
                    pass
        except ValueError:
            return True
        return False

    def _latest(self, entries: Iterable[Entry], listed: set[int]) -> dict[_Version, Entry]:
        """Return one entry for each version, the last one: a damaged file may have been written again elsewhere."""
        return {_version(entry): entry for entry in entries if hash(entry.path) not in listed}

    def _lists(self, month: str) -> list[str]:
        stem = MANIFEST.partition(".")[0]
        names = [name for name in self._root.names(month) if name.startswith(stem) and name.endswith(".TXT")]
        return [f"{month}/{name}" for name in sorted(names, reverse=True)]  # the one with the newest entries last

    def _entries(self, month: str) -> Iterator[Entry]:
        for name in self._lists(month):
            yield from self._read(name)

    def _read(self, name: str) -> Iterator[Entry]:
        """Read a list; none when it is not there, and up to the damage when it is damaged."""
        with suppress(FileNotFoundError), _open(self._root, name) as lines:
            try:
                yield from decode(lines)
            except ValueError as error:
                log.error("%s on the drive: %s", name, error)

    def _write_dicomdirs(self, month: str, counts: Counter[tuple[str, ...]], touched: set[str]) -> None:
        """Write the DICOMDIRs of all folders in which something is new.

        A month has one, unless it has too many images: then each patient has one, or each study, or each series.
        """
        units = dict(_units(month, counts))
        changed = touched | {above for series in touched for above in _above(series)}
        outgrown = {above for unit in units for above in _above(unit) if self._root.size(f"{above}/{DICOMDIR}")}
        due = [unit for unit in units if unit in changed or not outgrown.isdisjoint(_above(unit))]
        while due:
            portion = [due.pop()]
            size = units[portion[0]]
            while due and size + units[due[-1]] <= MOST_ENTRIES:
                size += units[due[-1]]
                portion.append(due.pop())
            self._write_some(month, portion)
        self._outgrown += [f"{folder}/{DICOMDIR}" for folder in outgrown]

    def _write_some(self, month: str, units: list[str]) -> None:
        of: dict[str, list[Entry]] = {unit: [] for unit in units}
        for entry in self._entries(month):
            unit = next((above for above in _above(entry.path) if above in of), None)
            if unit is not None:
                of[unit].append(entry)
        for unit, entries in of.items():
            name = unit.replace("/", "_")[-16:].lstrip("_")
            self.replace(f"{unit}/{DICOMDIR}", [dicomdir(entries, unit, name)])

    def keep_index(self, snapshot: Snapshot, *, is_complete: bool) -> None:
        """Write the index and the settings, when the last ones are a day old, or were written in the middle."""
        last = read_state(self._root)
        taken_at = last.contents.taken_at
        age = clock.now() - taken_at if taken_at else _INDEX_AGE
        if timedelta(0) <= age < _INDEX_AGE and (last.is_complete or not is_complete):
            return
        temporary = self._temporary.new_name()
        now = clock.now()
        try:
            contents = snapshot.index(self._root.path_of(temporary))
        except IndexUnavailable as error:
            log.warning("The drive keeps its older copy of the index: %s", error)
            return
        with suppress(OSError):
            self._root.path_of(temporary).chmod(0o644)  # as the images
        with open(self._root.open(temporary, os.O_RDWR | BINARY), "rb+") as stream:  # noqa: PTH123 - a descriptor
            fsync(stream.fileno())
        self._written.append((temporary, INDEX))
        self.replace(SETTINGS, [snapshot.settings().encode()])
        self.replace(STATE, [encode_contents(now, contents, is_complete=is_complete)])
        self.keep()


@contextmanager
def _open(root: RootFolder, name: str) -> Iterator[Iterable[bytes]]:
    with open(root.open(name, READ), "rb") as lines:  # noqa: PTH123 - a descriptor
        yield lines


def _version(entry: Entry) -> _Version:
    return entry.image.sop_instance_uid, entry.image.version, entry.patient.site


def _add(entries: dict[_Version, Entry], entry: Entry) -> None:
    """Add an entry in place of an earlier one of its version; also of one that named this file without its site."""
    key = uid, version, _ = _version(entry)
    before = entries.get((uid, version, ""))
    if before is not None and before.path == entry.path:
        del entries[uid, version, ""]
    entries[key] = entry


def _series(path: str) -> str:
    return path.rpartition("/")[0]


def _levels(path: str) -> tuple[str, ...]:
    """Return the folders of patient, study and series of an image."""
    parts = path.split("/")
    return tuple("/".join(parts[:depth]) for depth in range(3, _DEEPEST + 1))


def _above(path: str) -> Iterator[str]:
    """Yield the folders above a path, from the month on."""
    parts = path.split("/")
    for depth in range(2, len(parts)):
        yield "/".join(parts[:depth])


def _units(month: str, counts: Counter[tuple[str, ...]], level: int = -1) -> Iterator[tuple[str, int]]:
    """Yield the folders that have a DICOMDIR of their own, and how many images each has."""
    total = sum(counts.values())
    if total <= MOST_ENTRIES or level == _DEEPEST - 3:
        yield month, total
        return
    below: dict[str, Counter[tuple[str, ...]]] = {}
    for levels, count in counts.items():
        below.setdefault(levels[level + 1], Counter())[levels] = count
    for folder, its in below.items():
        yield from _units(folder, its, level + 1)
