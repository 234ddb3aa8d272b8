"""A folder as destination, filled from a real archive."""

from __future__ import annotations

import errno
import os
import shutil
import types
from dataclasses import replace
from pathlib import Path

import pydicom
import pytest
from pydicom.uid import DeflatedExplicitVRLittleEndian, ExplicitVRLittleEndian

from backup_scp.archive.filesystem import FilesystemArchive
from backup_scp.copies import directory
from backup_scp.copies.directory import DirectoryDestination
from backup_scp.errors import DestinationUnavailable, DigestMismatch, FileMissing, InstanceRefused
from backup_scp.ports import Selection
from tests.samples import cr, data_set_bytes, dx, encode
from tests.stored import put_into_archive, stored_in


@pytest.fixture
def archive(tmp_path):
    return FilesystemArchive(tmp_path / "archive")


@pytest.fixture
def folder(tmp_path):
    return tmp_path / "drive"


def bring(archive, held, destination):
    return destination.send(archive.verify(held.location, held.sha256), held)


def files(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def name_of(held, suffix=".dcm"):
    return f"{held.study_instance_uid}/{held.series_instance_uid}/{held.sop_instance_uid}{suffix}"


def as_archived(archive, held):
    return archive.read(held.location).path.read_bytes()


def test_a_file_is_the_archived_one_byte_for_byte(archive, folder):
    held = put_into_archive(archive, encode(dx()))
    with DirectoryDestination(folder) as destination:
        assert list(destination.prepare([held])) == [held]
        assert bring(archive, held, destination) is None
    assert files(folder) == {name_of(held): as_archived(archive, held)}


def test_what_should_be_deflated_and_is_not_is_labelled_as_what_it_is(tmp_path, folder):
    sample = encode(dx())
    with stored_in(tmp_path) as stored:
        stored.put(replace(sample, transfer_syntax_uid=DeflatedExplicitVRLittleEndian))
        archive, (held,) = stored.archive, stored.index.select(Selection())
        (remark,) = stored.index.remarks(9)
    assert (held.transfer_syntax_uid, remark.flags) == (ExplicitVRLittleEndian, ("not-deflated",))
    with DirectoryDestination(folder) as destination:
        for _ in range(2):
            bring(archive, held, destination)
        assert destination.already_there == 1
    (path,) = folder.rglob("*.dcm")
    read = pydicom.dcmread(path)
    assert read.file_meta.TransferSyntaxUID == ExplicitVRLittleEndian
    assert read.PixelData == sample.dataset().PixelData
    assert data_set_bytes(path) == sample.data_set


def test_versions_stand_side_by_side(archive, folder):
    one, two = (put_into_archive(archive, encode(dx(StudyDescription=text))) for text in ("One", "Two"))
    with DirectoryDestination(folder) as destination:
        for held in (one, two):
            bring(archive, held, destination)
    second = name_of(two, f".{two.sha256[:12]}.dcm")
    assert files(folder) == {name_of(one): as_archived(archive, one), second: as_archived(archive, two)}


def test_what_is_there_already_is_left_alone(archive, folder):
    one, two = (put_into_archive(archive, encode(dx(StudyDescription=text))) for text in ("One", "Two"))
    with DirectoryDestination(folder) as destination:
        for held in (one, two):
            bring(archive, held, destination)
    before = {path: path.stat().st_ino for path in folder.rglob("*.dcm")}
    with DirectoryDestination(folder) as destination:
        for held in (two, one):
            bring(archive, held, destination)
    assert destination.already_there == 2
    assert {path: path.stat().st_ino for path in folder.rglob("*.dcm")} == before


def test_nothing_is_overwritten(archive, folder):
    held = put_into_archive(archive, encode(dx()))
    for suffix in (".dcm", f".{held.sha256[:12]}.dcm"):
        path = folder / name_of(held, suffix)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"somebody else's")
    with DirectoryDestination(folder) as destination, pytest.raises(InstanceRefused):
        bring(archive, held, destination)
    assert set(files(folder).values()) == {b"somebody else's"}


def test_a_file_of_the_same_length_with_one_other_byte_is_not_taken_for_it(archive, folder):
    held = put_into_archive(archive, encode(dx()))
    damaged = bytearray(as_archived(archive, held))
    damaged[-1] ^= 1
    path = folder / name_of(held)
    path.parent.mkdir(parents=True)
    path.write_bytes(damaged)
    with DirectoryDestination(folder) as destination:
        bring(archive, held, destination)
    assert path.read_bytes() == damaged
    assert (folder / name_of(held, f".{held.sha256[:12]}.dcm")).read_bytes() == as_archived(archive, held)


@pytest.mark.parametrize("uid", ["folder/escaped", ".", "1.2.3/4", "CON", "1" * 65])
def test_a_uid_is_never_a_path(archive, folder, uid):
    held = put_into_archive(archive, encode(dx()))
    held = held._replace(study_instance_uid=uid, series_instance_uid=uid, sop_instance_uid=uid)
    with DirectoryDestination(folder) as destination:
        bring(archive, held, destination)
    (name,) = files(folder)
    parts = Path(name).parts
    assert len(parts) == 3
    assert all(len(part.removesuffix(".dcm")) == 41 and part.startswith("x") for part in parts)


def test_the_folder_is_made_but_not_the_one_it_is_in(tmp_path):
    with DirectoryDestination(tmp_path / "new") as destination:
        destination.prepare([])
    assert (tmp_path / "new").is_dir()
    with pytest.raises(DestinationUnavailable, match="is the drive connected"):
        DirectoryDestination(tmp_path / "no" / "new").__enter__()


def test_a_file_in_place_of_the_folder(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(DestinationUnavailable, match="file"), DirectoryDestination(tmp_path / "file") as destination:
        destination.prepare([])


class TestSpace:
    """Asked before the first byte, and answered with a fix."""

    @pytest.fixture
    def free(self, monkeypatch):
        def free(number_of_bytes):
            monkeypatch.setattr(shutil, "disk_usage", lambda _: types.SimpleNamespace(free=number_of_bytes))

        return free

    def test_too_little(self, archive, folder, free):
        held = put_into_archive(archive, encode(dx()))
        free(held.size_bytes)
        with DirectoryDestination(folder) as destination, pytest.raises(DestinationUnavailable, match="make room"):
            destination.prepare([held])
        assert files(folder) == {}

    def test_what_is_there_needs_none(self, archive, folder, free):
        held = put_into_archive(archive, encode(dx()))
        with DirectoryDestination(folder) as destination:
            bring(archive, held, destination)
            free(0)
            assert list(destination.prepare([held])) == [held]
            bring(archive, held, destination)
        assert list(files(folder)) == [name_of(held)]

    def test_a_disk_that_fills_up_on_the_way(self, archive, folder, monkeypatch):
        held = put_into_archive(archive, encode(dx()))

        def full(_):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

        monkeypatch.setattr(os, "fsync", full)
        with DirectoryDestination(folder) as destination, pytest.raises(DestinationUnavailable, match="is full"):
            bring(archive, held, destination)
        assert files(folder) == {}


def test_what_does_not_come_back_from_the_drive_is_not_confirmed(archive, folder, monkeypatch):
    held = put_into_archive(archive, encode(dx()))
    monkeypatch.setattr(directory, "fsync_folder", lambda _: _flip(folder / name_of(held)))
    with DirectoryDestination(folder) as destination, pytest.raises(DestinationUnavailable, match="another drive"):
        bring(archive, held, destination)
    assert files(folder) == {}


def test_a_file_that_changes_while_it_is_copied_is_refused(archive, folder):
    held = put_into_archive(archive, encode(dx()))
    file = archive.verify(held.location, held.sha256)
    _flip(file.path)
    with DirectoryDestination(folder) as destination, pytest.raises(DigestMismatch, match="changed in the archive"):
        destination.send(file, held)
    assert files(folder) == {}


@pytest.mark.parametrize("is_there", [True, False])
def test_what_is_wrong_with_a_file_of_the_archive_is_not_said_of_the_folder(archive, folder, is_there):
    """It would end the whole restore, with advice on a drive that is well."""
    held, other = put_into_archive(archive, encode(dx())), put_into_archive(archive, encode(cr()))
    with DirectoryDestination(folder) as destination:
        if is_there:
            bring(archive, held, destination)
        file = archive.verify(held.location, held.sha256)
        file.path.rename(file.path.with_suffix(".moved"))
        with pytest.raises(FileMissing, match="is gone from the archive"):
            destination.send(file, held)
        file.path.mkdir()
        with pytest.raises(DigestMismatch, match="cannot be read"):
            destination.send(file, held)
        bring(archive, other, destination)
    assert len(files(folder)) == 1 + is_there


def test_what_a_crash_left_is_replaced(archive, folder):
    held = put_into_archive(archive, encode(cr()))
    path = folder / name_of(held)
    path.parent.mkdir(parents=True)
    (path.parent / f".{path.name}.partial").write_bytes(b"half")
    with DirectoryDestination(folder) as destination:
        bring(archive, held, destination)
    assert files(folder) == {name_of(held): as_archived(archive, held)}


def _flip(path: Path) -> None:
    if path.is_file():
        path.chmod(0o600)
        content = bytearray(path.read_bytes())
        content[-1] ^= 1
        path.write_bytes(content)
