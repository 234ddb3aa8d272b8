"""The cache in files: what is kept, what is removed, and that nothing damaged comes out of it."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from backup_scp.machine.disk_cache import DiskCache

BLOCK = 4096
LONG = bytes(10 * BLOCK)


def files(folder: Path) -> list[Path]:
    return sorted(folder.iterdir(), key=lambda path: path.stat().st_mtime_ns)


def fill(folder: Path, cache: DiskCache, count: int) -> None:
    """Keep values of 10 blocks and a checksum, 11 on the disk, the last one used last."""
    for number in range(count):
        cache.keep(str(number), LONG)
        for path in folder.iterdir():
            if path.stat().st_mtime > 1e9 / 2:
                os.utime(path, (number, number))


def test_a_value_outlives_the_process(tmp_path):
    DiskCache(tmp_path / "cache", 1 << 20).keep("key", b"value")
    again = DiskCache(tmp_path / "cache", 1 << 20)
    assert again.get("key") == b"value"
    assert again.get("another") is None


def test_a_value_can_be_kept_again(tmp_path):
    cache = DiskCache(tmp_path, 1 << 20)
    cache.keep("key", b"first")
    cache.keep("key", b"second")
    assert cache.get("key") == b"second"
    assert len(files(tmp_path)) == 1


@pytest.mark.parametrize("damage", [b"", b"short", b"x" * 16 + b"value", None])
def test_a_damaged_file_is_removed(tmp_path, damage):
    cache = DiskCache(tmp_path, 1 << 20)
    cache.keep("key", b"value")
    (file,) = files(tmp_path)
    content = file.read_bytes()
    file.write_bytes(content[:-1] + b"E" if damage is None else damage)
    assert cache.get("key") is None
    assert not files(tmp_path)


def test_a_file_in_the_place_of_another_is_not_believed(tmp_path):
    cache = DiskCache(tmp_path, 1 << 20)
    cache.keep("one", b"of one")
    (one,) = files(tmp_path)
    cache.keep("other", b"of other")
    other = next(path for path in files(tmp_path) if path != one)
    other.write_bytes(one.read_bytes())
    assert cache.get("other") is None
    assert cache.get("one") == b"of one"


def test_the_longest_unused_values_are_removed(tmp_path):
    cache = DiskCache(tmp_path, 110 * BLOCK)
    fill(tmp_path, cache, 10)
    assert cache.get("0") == LONG, "and it was used"
    cache.keep("10", LONG)
    found = [number for number in range(11) if cache.get(str(number)) is not None]
    assert found == [0, 3, 4, 5, 6, 7, 8, 9, 10], "down to nine tenths"


def test_a_limit_holds_for_files_of_an_earlier_process_too(tmp_path):
    fill(tmp_path, DiskCache(tmp_path, 1000 * BLOCK), 20)
    DiskCache(tmp_path, 110 * BLOCK).keep("new", LONG)
    assert len(files(tmp_path)) == 9


def test_a_value_of_a_tenth_of_the_limit_is_too_long(tmp_path):
    cache = DiskCache(tmp_path, 20 * BLOCK)
    cache.keep("short", bytes(2 * BLOCK))
    cache.keep("long", bytes(2 * BLOCK + 1))
    assert cache.get("short") == bytes(2 * BLOCK)
    assert cache.get("long") is None


def test_without_room_on_the_disk_nothing_is_kept(tmp_path):
    roomy = DiskCache(tmp_path, 1 << 20)
    roomy.keep("key", b"value")
    full = DiskCache(tmp_path, 1 << 20, least_free_bytes=1 << 62)
    full.keep("another", b"value")
    assert not files(tmp_path)


def test_a_folder_that_cannot_be_written_harms_nobody(tmp_path):
    in_the_way = tmp_path / "cache"
    in_the_way.write_bytes(b"")
    cache = DiskCache(in_the_way, 1 << 20)
    cache.keep("key", b"value")
    assert cache.get("key") is None


@pytest.mark.skipif(os.name == "nt", reason="POSIX permissions")
def test_only_its_owner_reads_it(tmp_path):
    cache = DiskCache(tmp_path / "cache", 1 << 20)
    cache.keep("key", b"value")
    (file,) = files(tmp_path / "cache")
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert stat.S_IMODE(file.parent.stat().st_mode) == 0o700
