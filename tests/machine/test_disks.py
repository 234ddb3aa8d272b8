"""The disks that hold files: what is listed of a table of mounts, and what is a share of another computer."""

from __future__ import annotations

from pathlib import Path

import pytest

from backup_scp.machine.disks import disks, existing, is_network_share

LINE = "{number} 1 8:1 / {place} {options},relatime shared:1 - {kind} /dev/sda1 rw\n"


@pytest.fixture
def mounts(tmp_path):
    """Return a table of mounts with these places, types and options."""

    def mounts(*rows: tuple[Path | str, str, str]) -> Path:
        table = tmp_path / "mountinfo"
        lines = (
            LINE.format(number=number, place=str(place).replace(" ", "\\040"), kind=kind, options=options)
            for number, (place, kind, options) in enumerate(rows, 20)
        )
        table.write_text("".join(lines))
        return table

    return mounts


def test_a_disk_is_listed_once(mounts, tmp_path):
    drive = tmp_path / "a drive"
    drive.mkdir()
    (found,) = disks(mounts((drive, "ext4", "rw"), (tmp_path, "ext4", "rw")))
    assert found.path == tmp_path
    assert found.device == tmp_path.stat().st_dev
    assert 0 < found.free_bytes <= found.size_bytes


@pytest.mark.parametrize(("kind", "options"), [("nfs4", "rw"), ("tmpfs", "rw"), ("ext4", "ro"), ("proc", "rw")])
def test_what_holds_no_images_is_left_out(mounts, tmp_path, kind, options):
    assert disks(mounts((tmp_path, kind, options))) == []


def test_a_space_in_its_name(mounts, tmp_path):
    drive = tmp_path / "a drive"
    drive.mkdir()
    assert [disk.path for disk in disks(mounts((drive, "exfat", "rw")))] == [drive]


def test_places_of_the_system_are_left_out(mounts):
    assert disks(mounts(("/dev", "ext4", "rw"), ("/proc", "ext4", "rw"))) == []


def test_without_a_table_there_is_none(tmp_path):
    assert disks(tmp_path / "absent") == []


def test_a_share_is_one_also_below_it(mounts, tmp_path):
    table = mounts(("/", "ext4", "rw"), (tmp_path / "nas", "cifs", "rw"), (tmp_path / "nas" / "own", "xfs", "rw"))
    shares = ("nas", "nas/new/folder", "nas/own/folder", "elsewhere")
    assert [is_network_share(tmp_path / place, table) for place in shares] == [True, True, False, False]


def test_the_nearest_folder_that_is_there(tmp_path):
    assert existing(tmp_path / "new" / "folder") == tmp_path
