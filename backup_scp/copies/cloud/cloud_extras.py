"""What lets a copy in cloud storage stand alone: manifests, index, settings, and a text for whoever finds it."""

from __future__ import annotations

import gzip
import hashlib
import shutil
import threading
from datetime import timedelta
from pathlib import Path

from backup_scp.copies.cloud import cloud_names
from backup_scp.copies.cloud.byte_store import ByteStore
from backup_scp.copies.cloud.manifests import write_manifest
from backup_scp.copies.cloud.packing import pack
from backup_scp.copies.cloud.sealing import Seal
from backup_scp.copies.cloud.spool import Spool
from backup_scp.copies.contents_file import encode_contents
from backup_scp.errors import DestinationUnavailable
from backup_scp.machine import clock
from backup_scp.ports import ListedImage, Snapshot

_SNAPSHOT_EVERY = timedelta(days=1)

_README = """\
This is a copy of the x-ray archive of a clinic, made by backup-scp.

images/      one object for each image: a DICOM file (PS3.10), in a folder for the day of its arrival.  A name ends in
             the SHA-256 of the object.
manifests/   lists of the images: JSON Lines, compressed by gzip.
index/       the database of the archive (SQLite, compressed by gzip), one a day.
contents/    how much each of these lists (JSON).
settings/    the settings of the program.

Names that end in .age are sealed by age (https://age-encryption.org).  The recovery key opens them:
    age --decrypt -i KEYFILE NAME.age > NAME
The clinic has it on paper, in an envelope.

Do not delete or change anything here.  Where names were deleted or overwritten, the earlier versions are kept: ask the
storage service for the whole bucket as of a time before, for instance by
    rclone copy --s3-version-at "YYYY-MM-DD HH:MM:SS" REMOTE:BUCKET FOLDER
"""


class CloudExtras:
    """Writes the objects besides the images; ``CloudContents`` reads them.

    Parameters
    ----------
    seal
        Seals them; None: they leave as they are.  The README is never sealed.
    """

    def __init__(self, store: ByteStore, spool: Spool, seal: Seal | None) -> None:
        self._store = store
        self._spool = spool
        self._seal = seal
        self._notes: list[ListedImage] = []
        self._mutex = threading.Lock()
        self._has_readme = False
        self._is_snapshot_old = True

    def note(self, image: ListedImage) -> None:
        """Remember a stored image for the next manifest."""
        with self._mutex:
            self._notes.append(image)
            self._is_snapshot_old = True

    def write_manifest(self) -> None:
        """Write a manifest of the images since the last one, if there are any.

        Raises
        ------
        DestinationUnavailable
            They are in the next one.
        """
        with self._mutex:
            notes = list(self._notes)
        if not notes:
            return
        with self._spool.file() as path:
            with self._spool.writing(path) as file:
                write_manifest(notes, file)
            self._store_file(path, cloud_names.MANIFESTS, ".jsonl.gz")
        with self._mutex:
            del self._notes[: len(notes)]

    def write_snapshot(self, snapshot: Snapshot, *, is_complete: bool) -> None:
        """Write index, settings and contents, when the last are a day old, and the README, when there is none.

        Raises
        ------
        DestinationUnavailable
        """
        self._write_readme()
        if not self._is_snapshot_due():
            return
        with self._spool.file() as index, self._spool.file() as compressed:
            contents = snapshot.index(index)
            try:
                with index.open("rb") as source, gzip.open(compressed, "xb", compresslevel=1) as target:
                    shutil.copyfileobj(source, target, 1 << 20)
            except OSError as error:
                raise self._spool.unavailable(error) from error
            name = self._store_file(compressed, cloud_names.INDEX, ".sqlite.gz")
        self._store_bytes(snapshot.settings().encode(), cloud_names.SETTINGS, ".toml")
        taken_at = contents.taken_at or clock.now()
        said = encode_contents(taken_at, contents, is_complete=is_complete, index_name=name)
        self._store_bytes(said, cloud_names.CONTENTS, ".json")  # the last: who finds it finds the others
        self._is_snapshot_old = False

    def _is_snapshot_due(self) -> bool:
        """Whether images came since the last snapshot, and that is a day old: locked objects cost for years."""
        if not self._is_snapshot_old:
            return False
        moments = [moment for name in self._store.list(cloud_names.INDEX) if (moment := cloud_names.moment_of(name))]
        believable = [moment for moment in moments if not clock.is_future(moment)]
        if not believable:
            return True
        return clock.now() - max(believable) >= _SNAPSHOT_EVERY

    def _write_readme(self) -> None:
        if self._has_readme:
            return
        text = _README.encode()
        name = f"README-{hashlib.sha256(text).hexdigest()}.txt"
        if self._store.head(name) is None:
            with self._spool.file() as path:
                with self._spool.writing(path) as file:
                    file.write(text)
                self._store.put(name, path)
        self._has_readme = True

    def _store_bytes(self, content: bytes, kind: str, suffix: str) -> None:
        with self._spool.file() as path:
            with self._spool.writing(path) as file:
                file.write(content)
            self._store_file(path, kind, suffix)

    def _store_file(self, file: Path, kind: str, suffix: str) -> str:
        """Seal a file when the copy is sealed, store it, read it back and compare; return its name."""
        with self._spool.file() as path:
            with file.open("rb") as source, self._spool.writing(path) as target:
                packed = pack(source, self._seal, target)
            suffix += cloud_names.SEALED if self._seal else ""
            name = cloud_names.stamped_name(kind, clock.now(), packed.sha256, suffix)
            version = self._store.put(name, path)
        if self._store.digest(name, version) != packed.sha256:
            raise DestinationUnavailable(f"{name} came back changed from {self._store.place}")
        return name
