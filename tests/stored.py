"""Store instances in a real archive and index, as the node does."""

from __future__ import annotations

import contextlib
import functools
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from backup_scp.archive.filesystem import FilesystemArchive
from backup_scp.index.connection.migrate import upgrade
from backup_scp.index.sql_index import SQLIndex
from backup_scp.ports import Archive, Arrival, Heading, Index, InstanceKey, StoredVersion
from backup_scp.services.ingest import Accepted, Ingest
from tests.samples import Sample

FIRST_ARRIVAL = datetime(2026, 1, 2, 3, 4, 5, 678901, UTC)


def heading_of(sample: Sample) -> Heading:
    return Heading(sample.sop_class_uid, sample.sop_instance_uid, sample.transfer_syntax_uid, "SENDER")


def arrival(number: int = 0, **facts) -> Arrival:
    """Return an arrival; a higher number came later."""
    return Arrival(FIRST_ARRIVAL + timedelta(seconds=number), "C-STORE", **{"calling_ae_title": "SENDER"} | facts)


def key_of(sample: Sample) -> InstanceKey:
    ds = sample.dataset()
    return InstanceKey(ds.StudyInstanceUID, ds.SeriesInstanceUID, sample.sop_instance_uid)


def put_into_archive(archive: Archive, sample: Sample, came: Arrival | None = None) -> StoredVersion:
    """Commit a sample to the archive alone."""
    staged = archive.stage(heading_of(sample))
    staged.write(sample.data_set)
    key, came = key_of(sample), came or arrival()
    location, _ = archive.commit(staged, key, came)
    archive.forget(staged)
    return StoredVersion(
        *key,
        sample.sop_class_uid,
        sample.transfer_syntax_uid,
        location,
        sample.sha256,
        len(sample.data_set),
        came.received_at,
    )


@dataclass
class Stored:
    """A real archive and a real index, and what the tests do to them."""

    archive: Archive
    index: Index

    def put(self, sample: Sample, number: int = 0, **facts) -> Accepted:
        """Bring a sample in the way the node does; a higher number came later."""
        ingest = Ingest(self.archive, self.index)
        staged = ingest.begin(heading_of(sample))
        staged.write(sample.data_set)
        return ingest.accept(staged, arrival(number, **facts))

    def path(self, location: str) -> Path:
        return self.archive.read(location).path

    def flip(self, location: str, position: int = -1) -> None:
        """Change one byte of a stored file; the last one is Pixel Data."""
        path = self.path(location)
        path.chmod(0o600)
        content = bytearray(path.read_bytes())
        content[position] ^= 1
        path.write_bytes(content)


@contextlib.contextmanager
def stored_in(folder: Path) -> Iterator[Stored]:
    """Open an archive and an SQLite index below a folder, where the node's defaults have them."""
    file = folder / "index.sqlite"
    if not file.exists():
        file.write_bytes(_empty_index())
    index = SQLIndex(f"sqlite:///{file}")
    try:
        yield Stored(FilesystemArchive(folder / "archive"), index)
    finally:
        index.close()


@functools.cache
def _empty_index() -> bytes:
    """An index of the newest schema; a migration takes longer than most tests."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "index.sqlite"
        upgrade(f"sqlite:///{file}")
        return file.read_bytes()
