"""Make the index from the files alone, folder by folder, while the node receives images."""

from __future__ import annotations

import time
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from typing import NamedTuple

from backup_scp.errors import ArchiveUnavailable, Damaged
from backup_scp.machine import clock
from backup_scp.ports import Archive, Index, Progress, Task, Version
from backup_scp.services.read_back import intact_version, version_of

NAME = "rebuild"
DONE = "rebuilt"

BATCH = 400
"""How many versions to read and add in one transaction; a study is never divided."""

_LET_OTHERS_WRITE = 0.3
"""The pause after each transaction, as a multiple of the time that it locked the index."""

OnProgress = Callable[[Progress], None]


@dataclass(frozen=True, slots=True)
class SkippedFile:
    """A damaged file or an unreadable folder that was left out of the index, and not touched.

    Attributes
    ----------
    location
        Its path in the archive.
    reason
        What is wrong with it.
    """

    location: str
    reason: str


@dataclass(slots=True)
class Rebuild:
    """What a rebuild did.

    Attributes
    ----------
    entered
        Number of versions read from files, including earlier runs that this run continues.
    new
        How many of the versions read in this run were missing in the index.
    left_out
        Damaged files found in this run, and folders that could not be read.
    stopped
        Why the rebuild ended early; empty when the index is complete.
    """

    entered: int = 0
    new: int = 0
    left_out: list[SkippedFile] = field(default_factory=list)
    stopped: str = ""


class Folders(NamedTuple):
    """Some folders of the archive, and the files in them."""

    last: str
    locations: list[str]


Found = Iterator[tuple[Folders, list[Version | SkippedFile]]]
ReadHeaders = Callable[[Iterable[Folders]], Found]
"""Reads the headers of the files in folders, in their order; perhaps several at a time."""


def rebuild(
    archive: Archive,
    index: Index,
    on_progress: OnProgress = lambda _: None,
    *,
    reader: ReadHeaders | None = None,
    reason: str = "",
    done: Rebuild | None = None,
) -> Rebuild:
    """Replace the rows of every study by what its files say; continue where an interrupted rebuild ended.

    It replaces one study at a time, in short transactions: queries see complete studies, and the node stores new
    instances meanwhile.  A lost index is filled study by study.  Rows of files that are damaged or gone stay.  It
    reads headers only; ``verify`` reads the rest.

    Parameters
    ----------
    reader
        Reads the files; by default in this thread.
    reason
        Why the index is rebuilt; ``status`` shows it.
    done
        Filled and returned, so that the caller also has the result of an interrupted run.

    Raises
    ------
    ArchiveUnavailable, IndexUnavailable
        Each study has its old rows, or those of its files.
    """
    task = _begun(archive, index, reason)
    done = Rebuild() if done is None else done
    done.entered = task.done
    read = reader or (lambda folders: ((each, read_files(archive, each.locations)) for each in folders))
    with closing(_batches(archive, task.position, done)) as batches:
        for folders, found in read(batches):
            versions = _sorted_out(found, done)
            entered = done.entered + len(versions)
            task = Task(NAME, task.began_at, None, folders.last, entered, task.note)
            began = time.monotonic()
            done.new += index.reindex_studies(versions, lambda location: intact_version(archive, location), task)
            done.entered = entered
            time.sleep((time.monotonic() - began) * _LET_OTHERS_WRITE)
            on_progress(Progress(done.entered, _estimated(done.entered, folders.last)))
    index.record_task(Task(NAME, task.began_at, clock.now(), "", done.entered, task.note))
    return done


def _begun(archive: Archive, index: Index, reason: str) -> Task:
    """Return the rebuild that was interrupted, or record a new one."""
    task = index.tasks().get(NAME) or Task(NAME, clock.now(), note=reason)
    if not task.position:
        _require_something(archive, index)
        index.record_task(task)
    return task


def read_files(archive: Archive, locations: Iterable[str]) -> list[Version | SkippedFile]:
    """Read the headers of files."""
    found: list[Version | SkippedFile] = []
    for location in locations:
        try:
            found.append(version_of(archive, location, verify=False))
        except Damaged as error:
            found.append(SkippedFile(location, str(error)))
    return found


def _batches(archive: Archive, after: str, done: Rebuild) -> Generator[Folders, None, None]:
    """Yield groups of folders, in order, of some hundred files each."""
    locations: list[str] = []
    last = ""
    for folder in _listed(archive.folders(), done):
        if folder <= after:
            continue
        locations += _listed(archive.locations(folder), done)
        last = folder
        if len(locations) >= BATCH:
            yield Folders(last, locations)
            locations = []
    if locations:
        yield Folders(last, locations)


def _listed(names: Iterator[str], done: Rebuild) -> Iterator[str]:
    """Yield the names, and record folders that cannot be read instead of raising."""
    try:
        yield from names
    except Damaged as error:
        done.left_out.append(SkippedFile("", str(error)))


def _sorted_out(found: Sequence[Version | SkippedFile], done: Rebuild) -> list[Version]:
    done.left_out += [each for each in found if isinstance(each, SkippedFile)]
    return [each for each in found if isinstance(each, Version)]


def _estimated(entered: int, folder: str) -> int:
    """Estimate the number of files: studies are spread evenly over 256 folders."""
    return entered * 256 // (int(folder[:2], 16) + 1)


def _require_something(archive: Archive, index: Index) -> None:
    """Raise when the index lists files and the archive has none: the drive is not connected."""
    if next(_listed(archive.locations(), Rebuild()), None) is None and (versions := index.holdings().versions):
        raise ArchiveUnavailable(
            f"The archive has no files, but the index lists {versions}: is the archive's drive connected? "
            "The index was left as it is"
        )
