"""Restore images into a folder: an external drive, a share, or any other folder."""

from __future__ import annotations

import errno
import hashlib
import os
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import BinaryIO, Self

from backup_scp.dicom.part10 import relabelled
from backup_scp.dicom.uids import path_component
from backup_scp.errors import DestinationUnavailable, DigestMismatch, InstanceRefused
from backup_scp.machine.folders import fsync_folder, uncache
from backup_scp.ports import ArchivedFile, Meanwhile, StoredVersion, do_nothing

CHUNK_BYTES = 1 << 20
HEADER_BYTES = 4096
"""Disk space added to each Data Set: its File Meta, and the rest of the file's last block."""

_TEMPORARY = ".partial"


class DirectoryDestination:
    """Writes ``<Study>/<Series>/<SOP>.dcm`` below a folder; each file exactly as archived, File Meta included.

    Further versions of an instance get the name ``<SOP>.<12 digits of their SHA-256>.dcm`` beside the first.  A file
    that is there with the same bytes is not written again, so an interrupted restore continues where it ended.  No
    file is ever overwritten.

    Parameters
    ----------
    folder
        Created when missing; its parent folder must exist.

    Attributes
    ----------
    already_there
        How many of the instances sent were already in the folder, byte for byte.
    """

    def __init__(self, folder: Path) -> None:
        self.name = str(folder)
        self.implementation = ""
        self.already_there = 0
        self._folder = folder
        self._expected_bytes = 0

    def __enter__(self) -> Self:
        try:
            self._folder.mkdir(exist_ok=True)
        except FileNotFoundError:
            raise DestinationUnavailable(f"There is no folder {self._folder.parent}: is the drive connected?") from None
        except OSError as error:
            raise self._unavailable(error) from error
        return self

    def __exit__(self, *exc: object) -> None:
        pass

    def expect(self, held: StoredVersion) -> None:
        self._expected_bytes += 0 if self._seems_there(held) else held.size_bytes + HEADER_BYTES

    def disconnect(self) -> None:
        pass

    def prepare(self, instances: Sequence[StoredVersion]) -> Sequence[StoredVersion]:
        try:
            probe = self._folder / f".{os.getpid()}{_TEMPORARY}"
            probe.touch()
            probe.unlink()
            free_bytes = shutil.disk_usage(self._folder).free
        except OSError as error:
            raise self._unavailable(error) from error
        batch_bytes = sum(held.size_bytes + HEADER_BYTES for held in instances if not self._seems_there(held))
        due_bytes, self._expected_bytes = max(batch_bytes, self._expected_bytes), 0  # of all, before the first
        if due_bytes > free_bytes:
            raise DestinationUnavailable(
                f"{self._folder} has {free_bytes / 1e6:.0f} MB free and {due_bytes / 1e6:.0f} MB are to be written: "
                "make room there, or restore less at a time"
            )
        return instances

    def send(
        self,
        file: ArchivedFile,
        held: StoredVersion,
        meanwhile: Meanwhile = do_nothing,  # noqa: ARG002 - there is no waiting
    ) -> str | None:
        for path in self._candidates(held):
            try:
                if not path.exists():
                    self._write(file, held, path)
                elif _same_bytes(file, held, path):
                    self.already_there += 1
                else:
                    continue
            except OSError as error:
                raise self._error(error, held) from error
            return None
        raise InstanceRefused(f"Image {held.sop_instance_uid}: both of its file names are taken by other bytes")

    def _candidates(self, held: StoredVersion) -> Iterator[Path]:
        folder = self._folder / path_component(held.study_instance_uid) / path_component(held.series_instance_uid)
        name = path_component(held.sop_instance_uid)
        yield folder / f"{name}.dcm"
        yield folder / f"{name}.{held.sha256[:12]}.dcm"

    def _seems_there(self, held: StoredVersion) -> bool:
        """Guess by the file's size whether the folder has the instance already; ``send`` compares the bytes."""
        try:
            return any(path.stat().st_size > held.size_bytes for path in self._candidates(held))
        except OSError:
            return False

    def _write(self, file: ArchivedFile, held: StoredVersion, path: Path) -> None:
        """Copy under a temporary name, fsync, rename to the final name, and read the file back."""
        _make_folders(path.parent, self._folder)
        temporary = path.with_name(f".{path.name}{_TEMPORARY}")  # replaces what a crash left in an earlier run
        temporary.unlink(missing_ok=True)
        try:
            sha256 = _copy(file, held, temporary)
            temporary.rename(path)
        finally:
            temporary.unlink(missing_ok=True)
        fsync_folder(path.parent)
        if _read_back(path) != sha256:
            path.unlink()
            raise DestinationUnavailable(
                f"{self._folder} returns other bytes than were written to it: try another drive"
            )

    def _error(self, error: OSError, held: StoredVersion) -> DestinationUnavailable | InstanceRefused:
        if error.errno in {errno.ENAMETOOLONG, errno.EINVAL}:
            return InstanceRefused(f"{self._folder} cannot hold the file name of image {held.sop_instance_uid}")
        return self._unavailable(error)

    def _unavailable(self, error: OSError) -> DestinationUnavailable:
        if error.errno in {errno.ENOSPC, errno.EDQUOT}:
            return DestinationUnavailable(f"{self._folder} is full: make room there and run the same command again")
        reason = error.strerror or type(error).__name__
        return DestinationUnavailable(f"{self._folder} cannot be written ({reason}): check the drive and its rights")


def _chunks(stream: BinaryIO) -> Iterator[bytes]:
    return iter(lambda: stream.read(CHUNK_BYTES), b"")


def _copy(file: ArchivedFile, held: StoredVersion, target: Path) -> str:
    """Copy and fsync; check the SHA-256 of the Data Set and return that of the whole file."""
    whole, data_set = hashlib.sha256(), hashlib.sha256()
    header_left = file.data_set_offset
    with target.open("xb") as copy:
        for chunk in _stored(file, held):
            whole.update(chunk)
            data_set.update(chunk[header_left:])
            header_left = max(header_left - len(chunk), 0)
            copy.write(chunk)
        copy.flush()
        os.fsync(copy.fileno())
    if data_set.hexdigest() != held.sha256:
        raise DigestMismatch(f"{file.location} changed in the archive while it was copied")
    return whole.hexdigest()


def _stored(file: ArchivedFile, held: StoredVersion) -> Iterator[bytes]:
    """Read a file of the archive; an error here concerns this file only, not the folder.

    Its File Meta names the Transfer Syntax under which it was sent.  When the Data Set is encoded otherwise, the copy
    names the real encoding.
    """
    with file.reopen() as stream:
        header = stream.read(file.data_set_offset)
        yield relabelled(header, file.heading.transfer_syntax_uid, held.transfer_syntax_uid)
        yield from _chunks(stream)


def _read_back(path: Path) -> str:
    """Hash a file as its disk has it: drop it from the page cache first, where the system can do that."""
    digest = hashlib.sha256()
    with path.open("rb") as stream:
        uncache(stream)
        for chunk in _chunks(stream):
            digest.update(chunk)
    return digest.hexdigest()


def _same_bytes(file: ArchivedFile, held: StoredVersion, there: Path) -> bool:
    if file.data_set_offset + file.size_bytes != there.stat().st_size:
        return False
    with there.open("rb") as stream:
        return all(chunk == stream.read(len(chunk)) for chunk in _stored(file, held)) and not stream.read(1)


def _make_folders(folder: Path, root: Path) -> None:
    """Create a folder and its parents up to ``root``; fsync the entries of new ones."""
    if folder == root or folder.is_dir():
        return
    _make_folders(folder.parent, root)
    folder.mkdir(exist_ok=True)
    fsync_folder(folder.parent)
