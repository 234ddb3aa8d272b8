"""A volume that fills up: ``python -m tests.archive.full_volume FOLDER`` in a mount namespace of its own."""

from __future__ import annotations

import sys
from contextlib import suppress
from pathlib import Path

import pytest

from backup_scp.archive import FilesystemArchive
from backup_scp.errors import ArchiveFull, ArchiveUnavailable
from tests.archive.examples import ARRIVAL, DATA_SET, HEADING, KEY, digest, store


def main(folder: str) -> None:
    root = Path(folder, "archive")
    archive = FilesystemArchive(root)
    kept = store(archive)
    no_room_for_the_data_set(archive)
    no_room_for_the_header(archive, Path(folder, "filler"))
    no_room_for_a_name(archive, Path(folder))
    archive.verify(kept, digest(DATA_SET))
    archive.verify(store(archive, b"there is room again"), digest(b"there is room again"))
    archive.close()
    assert list(root.glob(".staging/*/*")) == []


def no_room_for_the_data_set(archive: FilesystemArchive) -> None:
    staged = archive.stage(HEADING)
    with pytest.raises(ArchiveFull) as caught:
        staged.write(bytes(10_000_000))
    assert len(str(caught.value)) <= 64  # an Error Comment, (0000,0902)
    with pytest.raises(ArchiveUnavailable, match="given up"):
        archive.commit(staged, KEY, ARRIVAL)
    staged.discard()
    assert archive.free_bytes() > 2_000_000


def no_room_for_the_header(archive: FilesystemArchive, filler: Path) -> None:
    with suppress(OSError), filler.open("wb", buffering=0) as file:
        while file.write(bytes(4096)):
            pass
    staged = archive.stage(HEADING)
    staged.write(DATA_SET)  # a short one is written when all of it is in
    with pytest.raises(ArchiveFull):
        archive.commit(staged, KEY._replace(sop_instance_uid="1.2.9"), ARRIVAL)
    staged.discard()
    assert archive.free_bytes() == 0
    filler.unlink()


def no_room_for_a_name(archive: FilesystemArchive, folder: Path) -> None:
    """Inodes run out: there is one for the staged file, none for its folders."""
    staged = archive.stage(HEADING)
    staged.write(DATA_SET)
    with suppress(OSError):
        for number in range(100):
            (folder / f"inode{number}").touch()
    with pytest.raises(ArchiveFull):
        archive.commit(staged, KEY._replace(study_instance_uid="1.2.5"), ARRIVAL)
    staged.discard()
    for used in folder.glob("inode*"):
        used.unlink()


if __name__ == "__main__":
    main(sys.argv[1])
