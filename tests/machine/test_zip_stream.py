"""A ZIP archive that is made while it is sent."""

from __future__ import annotations

import io
import stat
import zipfile
import zlib
from datetime import UTC, datetime

import pytest

from backup_scp.machine.zip_stream import ZipStream

MADE_AT = datetime(2026, 3, 4, 5, 6, 8, tzinfo=UTC)


def test_files_come_out_as_they_went_in():
    with ZipStream() as stream:
        sent = b"".join(stream.add("A/B", MADE_AT, 5, [b"he", memoryview(b"llo")]))
        sent += b"".join(stream.add("C", datetime(1970, 1, 1, tzinfo=UTC), 0, []))
        sent += b"".join(stream.end())
    with zipfile.ZipFile(io.BytesIO(sent)) as archive:
        assert archive.testzip() is None
        assert {name: archive.read(name) for name in archive.namelist()} == {"A/B": b"hello", "C": b""}
        first, second = archive.infolist()
    assert (first.date_time, second.date_time) == ((2026, 3, 4, 5, 6, 8), (1980, 1, 1, 0, 0, 0))
    assert stat.S_IMODE(first.external_attr >> 16) == 0o600


def test_without_its_end_it_is_no_archive():
    with ZipStream() as stream:
        sent = b"".join(stream.add("A", MADE_AT, 1 << 20, [bytes(1 << 20)]))
    assert len(sent) > 1 << 19
    assert not zipfile.is_zipfile(io.BytesIO(sent))


def test_an_error_in_a_file_goes_on():
    def parts():
        yield b"x"
        raise OSError("broken")

    with pytest.raises(OSError, match="broken"), ZipStream() as stream:
        list(stream.add("A", MADE_AT, 2, parts()))


def test_a_program_that_reads_a_stream_finds_the_end_of_a_file():
    with ZipStream() as stream:
        sent = b"".join(stream.add("A", MADE_AT, 4, [b"data"])) + b"".join(stream.end())
    name_at = 30
    found = zlib.decompressobj(-zlib.MAX_WBITS)
    assert found.decompress(sent[name_at + 1 :]) == b"data"
    assert found.unused_data.startswith(b"PK\x07\x08")


def test_very_many_files():
    with ZipStream() as stream:
        sent = b"".join(b"".join(stream.add(f"{number}", MADE_AT, 0, [])) for number in range(1 << 16))
        sent += b"".join(stream.end())
    with zipfile.ZipFile(io.BytesIO(sent)) as archive:
        assert len(archive.namelist()) == 1 << 16


@pytest.mark.parametrize(("size", "is_long"), [(4, False), (5 << 30, True)])
def test_a_long_file_has_the_form_of_zip64(size, is_long):
    with ZipStream() as stream:
        sent = b"".join(stream.add("A", MADE_AT, size, [b"data"])) + b"".join(stream.end())
    zip64_at, lengths_at = 31, 18
    assert (sent[zip64_at : zip64_at + 2] == b"\1\0") is is_long
    assert (sent[lengths_at : lengths_at + 4] == b"\xff" * 4) is is_long
    with zipfile.ZipFile(io.BytesIO(sent)) as archive:
        assert archive.read("A") == b"data"
