"""XXH3 beside SHA-256: computed from the received bytes, compared by ``load`` only (docs/adr/0022)."""

from __future__ import annotations

import json
import os
import threading

import pytest
from xxhash import xxh3_128_hexdigest

from backup_scp.archive import FilesystemArchive, staging
from backup_scp.archive import background_digest as digesting
from backup_scp.archive.file_format import PRIVATE_INFORMATION_LENGTH, blank_header, private_information
from backup_scp.errors import DigestMismatch
from backup_scp.machine.digests import digest_like
from backup_scp.services.read_ahead import parts
from tests.archive.examples import DATA_SET, HEADING, digest, store

_LONG = digesting.WORTH_BYTES + 54_321


@pytest.fixture
def archive(tmp_path):
    return FilesystemArchive(tmp_path)


def room(size):
    return memoryview(bytearray(size))


def no_room(_):
    return None


def record_of(path):
    return json.loads(path.read_bytes()[-len(DATA_SET) - PRIVATE_INFORMATION_LENGTH : -len(DATA_SET)])


def rewrite(archive, location, *, xxh3, data=DATA_SET):
    """Write a stored file again, with a consistent header, another XXH3, or another Data Set."""
    file, header = archive.read(location), blank_header(HEADING)
    information = private_information(header, file.arrival, location, file.sha256, file.size_bytes, xxh3)
    file.path.write_bytes(header[: -len(information)] + information + data)


@pytest.mark.parametrize("cores", [0, 1], ids=["no core is free", "a core is free"])
@pytest.mark.parametrize("size", [0, 1, 64 << 10, (64 << 10) + 1, 200_000, _LONG])
def test_it_is_made_of_every_byte(archive, monkeypatch, size, cores):
    monkeypatch.setattr(digesting, "_free_cores", threading.Semaphore(cores))
    data = os.urandom(size)
    staged = archive.stage(HEADING)
    for at in range(0, size, 99_999):
        staged.write(data[at : at + 99_999])
    assert (staged._beside is not None) == (cores == 1 and size == _LONG)
    staged.discard()
    location = store(archive, data)
    file = archive.read(location)
    assert (file.xxh3_128, file.sha256) == (xxh3_128_hexdigest(data), digest(data))


@pytest.mark.parametrize("size", [300_000, _LONG])
def test_it_is_of_what_was_received_not_of_what_the_disk_has_kept(archive, monkeypatch, size):
    data = os.urandom(size)
    monkeypatch.setattr(staging, "write_all", lambda file, part: file.write(bytes(len(part))))
    staged = archive.stage(HEADING)
    staged.write(data)
    staged.sha256  # noqa: B018 - the digest is complete
    assert staged._digests.xxh3_128 == xxh3_128_hexdigest(data)
    staged.discard()


@pytest.fixture
def compared(monkeypatch):
    """What Data Sets are compared with, reading by reading."""
    found = []

    def noted(expected):
        found.append(expected)
        return digest_like(expected)

    monkeypatch.setattr("backup_scp.archive.stored_files.digest_like", noted)
    monkeypatch.setattr("backup_scp.services.read_ahead.digest_like", noted)
    return found


XXH3, SHA256 = xxh3_128_hexdigest(DATA_SET), digest(DATA_SET)
ROOMS = pytest.mark.parametrize("given", [room, no_room], ids=["in memory", "read twice"])


def sent(file):
    return b"".join(map(bytes, parts(file)))


@ROOMS
def test_load_compares_by_it_in_each_reading(archive, compared, given):
    file = archive.load(store(archive), SHA256, given)
    assert sent(file) == DATA_SET
    assert compared == [XXH3] * (1 if given is room else 2)


@ROOMS
def test_what_must_be_proved_is_compared_by_sha256(archive, compared, given):
    location = store(archive)
    file = archive.load(location, SHA256, given, by_sha256=True)
    assert sent(file) == DATA_SET
    archive.verify(location, SHA256)
    assert set(compared) == {SHA256}


@ROOMS
def test_a_file_without_it_is_compared_by_sha256(archive, compared, given):
    location = store(archive)
    rewrite(archive, location, xxh3="")
    assert "xxh3_128" not in record_of(archive.read(location).path)
    assert sent(archive.load(location, SHA256, given)) == DATA_SET
    assert set(compared) == {SHA256}
    rewrite(archive, location, xxh3="", data=DATA_SET[:-1] + b"x")
    with pytest.raises(DigestMismatch):
        archive.load(location, SHA256, given)


@ROOMS
@pytest.mark.parametrize("wrong", ["0" * 32, "no digest", "f" * 64])
def test_where_it_is_wrong_and_the_data_set_right_sha256_decides(archive, compared, given, wrong):
    location = store(archive)
    rewrite(archive, location, xxh3=wrong)
    assert sent(archive.load(location, SHA256, given)) == DATA_SET
    assert compared[:2] == [wrong, SHA256]


@ROOMS
def test_damage_is_found_by_it_and_judged_by_sha256(archive, compared, given):
    location = store(archive)
    rewrite(archive, location, xxh3=XXH3, data=DATA_SET[:-1] + b"x")
    with pytest.raises(DigestMismatch):
        archive.load(location, SHA256, given)
    assert compared == [XXH3, SHA256]


def test_it_does_not_stand_in_for_another_sha256(archive, compared):
    """The file is whole, and is not the one that the index means."""
    with pytest.raises(DigestMismatch, match="holds another Data Set"):
        archive.load(store(archive), digest(b"another"), room)
    assert set(compared) == {SHA256}


def test_who_forges_it_too_is_found_by_what_proves(archive):
    """A person changes a file with its header on purpose: the limit that docs/adr/0022 names."""
    location, forged = store(archive), DATA_SET[:-1] + b"x"
    rewrite(archive, location, xxh3=xxh3_128_hexdigest(forged), data=forged)
    assert sent(archive.load(location, SHA256, room)) == forged
    with pytest.raises(DigestMismatch):
        archive.load(location, SHA256, room, by_sha256=True)
    with pytest.raises(DigestMismatch):
        archive.verify(location, SHA256)
