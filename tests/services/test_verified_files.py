"""Reading parts of stored files: every byte is compared, and what is damaged comes from a copy."""

from __future__ import annotations

import random
import shutil

import pytest

from backup_scp.errors import Damaged, FileMissing
from backup_scp.ports import StoredVersion
from backup_scp.services import verified_files
from backup_scp.services.verified_files import BLOCK_BYTES, PART_BYTES, VerifiedFiles
from tests.samples import dx, encode
from tests.stored import stored_in


def long_dx():
    ds = dx()
    ds.PixelData = random.Random(1).randbytes(9 << 20)  # more than is kept in memory
    return ds


class WithCopy:
    """Reads an archive whose damaged files come back from a copy, as ``ArchiveWithCopies`` does."""

    def __init__(self, archive, copy) -> None:
        self._archive = archive
        self._copy = copy
        self.read, self.announce = archive.read, archive.announce
        self.brought = 0

    def load(self, location, sha256, room, *, by_sha256=False):
        try:
            return self._archive.load(location, sha256, room, by_sha256=by_sha256)
        except Damaged:
            self.brought += 1
            path = self._archive._root / location
            path.parent.mkdir(parents=True, exist_ok=True)
            path.unlink(missing_ok=True)
            shutil.copy(self._copy, path)
        return self._archive.load(location, sha256, room, by_sha256=by_sha256)


@pytest.fixture(params=[dx, long_dx])
def kept(request, tmp_path):
    with stored_in(tmp_path) as stored:
        sample = encode(request.param())
        location = stored.put(sample).location
        (held,) = stored.index.versions()
        copy = shutil.copy(stored.path(location), tmp_path / "copy")
        yield stored, held, sample, copy


def files_of(stored, archive=None) -> VerifiedFiles:
    return VerifiedFiles(archive or stored.archive, stored.index, stored.index.record_verification)


def test_any_part_is_that_of_the_data_set(kept):
    stored, held, sample, _ = kept
    files, chance = files_of(stored), random.Random(2)
    for _ in range(2):
        with files.open(held) as file:
            assert b"".join(map(bytes, file.parts())) == sample.data_set
            assert max(map(len, file.parts())) <= PART_BYTES
            stream = file.stream()
            for _ in range(50):
                start, length = chance.randrange(held.size_bytes + 9), chance.randrange(3 * BLOCK_BYTES)
                expected = sample.data_set[start : start + length]
                assert file.read_at(start, length) == expected
                stream.seek(start)
                assert stream.read(length) == expected


def test_a_damaged_file_comes_from_a_copy(kept):
    stored, held, sample, copy = kept
    stored.flip(held.location)
    archive = WithCopy(stored.archive, copy)
    with files_of(stored, archive).open(held) as file:
        assert b"".join(map(bytes, file.parts())) == sample.data_set
    assert archive.brought == 1


def test_a_missing_file_comes_from_a_copy(kept):
    stored, held, sample, copy = kept
    stored.path(held.location).unlink()
    with files_of(stored, WithCopy(stored.archive, copy)).open(held) as file:
        assert b"".join(map(bytes, file.parts())) == sample.data_set


def test_without_a_copy_damage_is_recorded_and_raised(kept):
    stored, held, _, _ = kept
    stored.path(held.location).unlink()
    with pytest.raises(FileMissing):
        files_of(stored).open(held)
    assert stored.index.is_damaged(held.location)


def test_what_is_damaged_while_it_is_read_comes_from_a_copy(tmp_path):
    with stored_in(tmp_path) as stored:
        sample = encode(long_dx())
        location = stored.put(sample).location
        (held,) = stored.index.versions()
        archive = WithCopy(stored.archive, shutil.copy(stored.path(location), tmp_path / "copy"))
        files = files_of(stored, archive)
        with files.open(held) as file:
            parts = file.parts()
            first = bytes(next(parts))
            stored.flip(location)
            assert first + b"".join(map(bytes, parts)) == sample.data_set
        assert archive.brought == 1


def test_what_is_damaged_while_it_is_read_is_never_returned(tmp_path):
    with stored_in(tmp_path) as stored:
        location = stored.put(encode(long_dx())).location
        (held,) = stored.index.versions()
        with files_of(stored).open(held) as file:
            stored.flip(location)
            with pytest.raises(Damaged):
                list(file.parts())


def test_a_file_of_other_bytes_is_damaged(kept, monkeypatch):
    stored, held, _, _ = kept
    other = StoredVersion(*held._replace(sha256="0" * 64))
    with pytest.raises(Damaged):
        files_of(stored).open(other)


def test_digests_of_few_files_are_noted(kept, monkeypatch):
    stored, held, sample, _ = kept
    monkeypatch.setattr(verified_files, "_NOTED_BYTES", 1)
    files = files_of(stored)
    for _ in range(3):
        with files.open(held) as file:
            assert b"".join(map(bytes, file.parts())) == sample.data_set
    assert len(files._noted) == 1


def test_without_room_in_memory_a_short_one_is_read_again(tmp_path):
    with stored_in(tmp_path) as stored:
        sample = encode(dx())
        location = stored.put(sample).location
        (held,) = stored.index.versions()
        files = files_of(stored)
        taken = [files._memory.take(8 << 20) for _ in range(4)]
        with files.open(held) as file:
            stored.flip(location)
            with pytest.raises(Damaged):
                file.read_at(0, held.size_bytes)
        for room in taken:
            room.give_back()
        files = files_of(stored)
        stored.flip(location)
        with files.open(held) as file:
            stored.flip(location)
            assert file.read_at(0, held.size_bytes) == sample.data_set


def test_callers_that_stop_in_the_middle_keep_little_memory(tmp_path):
    with stored_in(tmp_path) as stored:
        sample = encode(long_dx())
        stored.put(sample)
        (held,) = stored.index.versions()
        files = files_of(stored)
        callers = [files.open(held) for _ in range(20)]
        try:
            reading = [(file.parts(), list[bytes]()) for file in callers]
            for _ in range(2):
                for parts, got in reading:
                    got.append(bytes(next(parts)))
            assert sum(len(got[1]) > 1 << 18 for _, got in reading) == verified_files._LONG_BUFFERS
            for parts, got in reading:
                assert b"".join([*got, *map(bytes, parts)]) == sample.data_set
            assert max(map(len, callers[-1].parts())) == PART_BYTES  # they were given back
        finally:
            for file in callers:
                file.close()
