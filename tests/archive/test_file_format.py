"""The file format: other programs can read it, and every changed byte is found."""

from __future__ import annotations

import io
import json
import re
import shutil
import subprocess
from dataclasses import replace
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path

import pydicom
import pytest
from hypothesis import given
from hypothesis import strategies as st
from xxhash import xxh3_128_hexdigest

from backup_scp.archive import FilesystemArchive, layout
from backup_scp.archive.file_format import (
    HEADER_LIMIT_BYTES,
    PRIVATE_INFORMATION_LENGTH,
    blank_header,
    private_information,
    read_header,
)
from backup_scp.dicom.uids import IMPLEMENTATION_CLASS_UID, IMPLEMENTATION_VERSION_NAME, PRIVATE_INFORMATION_CREATOR_UID
from backup_scp.errors import DigestMismatch
from backup_scp.ports import Arrival, Heading
from tests.archive.examples import ARRIVAL, CR, DATA_SET, EXPLICIT_VR_LITTLE_ENDIAN, HEADING, KEY, digest, store

LOCATION = layout.location_of(KEY, digest(DATA_SET))
DOCS = Path(__file__).parents[2] / "docs" / "archive-format.md"


def whole(
    heading: Heading = HEADING, arrival: Arrival = ARRIVAL, data: bytes = DATA_SET, location: str = LOCATION
) -> bytes:
    header = blank_header(heading)
    xxh3 = xxh3_128_hexdigest(data)
    information = private_information(header, arrival, location, digest(data), len(data), xxh3)
    return header[: -len(information)] + information + data


def test_pydicom_reads_it():
    meta = (ds := pydicom.dcmread(io.BytesIO(whole()))).file_meta
    assert (meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID) == (CR, "1.2.3.4")
    assert meta.TransferSyntaxUID == EXPLICIT_VR_LITTLE_ENDIAN
    assert meta.FileMetaInformationVersion == b"\0\1"
    assert (meta.ImplementationClassUID, meta.ImplementationVersionName) == (
        IMPLEMENTATION_CLASS_UID,
        IMPLEMENTATION_VERSION_NAME,
    )
    assert meta.SourceApplicationEntityTitle == "CONSOLE"
    assert meta.PrivateInformationCreatorUID == PRIVATE_INFORMATION_CREATOR_UID
    assert json.loads(meta.PrivateInformation)["sha256"] == digest(DATA_SET)
    assert (ds.PatientID, ds.StudyInstanceUID) == ("P1", "1.2.3")
    pydicom.dataset.validate_file_meta(meta, enforce_standard=True)


def test_private_information_says_what_arrived():
    record = json.loads(whole()[-len(DATA_SET) - PRIVATE_INFORMATION_LENGTH : -len(DATA_SET)])
    assert record.pop("meta_sha256") != "0" * 64
    assert record == {
        "format": 1,
        "sha256": digest(DATA_SET),
        "xxh3_128": xxh3_128_hexdigest(DATA_SET),
        "size": len(DATA_SET),
        "received": "2026-11-21T20:24:56.123456Z",
        "service": "C-STORE",
        "calling_ae_title": "CONSOLE",
        "called_ae_title": "BACKUP_SCP",
        "address": "192.0.2.7",
        "site": "Clinic Łódź",
        "location": LOCATION,
    }


@pytest.mark.system
@pytest.mark.parametrize("title", ["CONSOLE", "EVEN", ""])
@pytest.mark.parametrize("uid", ["1.2.3.4", "1.2.3", "1.2.x", "1." * 40 + "1"])
def test_dcmdump_reads_it(tmp_path, uid, title):
    if shutil.which("dcmdump") is None:
        pytest.skip("dcmdump is not installed (Debian: apt install dcmtk)")
    file = tmp_path / "a.dcm"
    file.write_bytes(whole(Heading(CR, uid, EXPLICIT_VR_LITTLE_ENDIAN, title)))
    shown = subprocess.run(["dcmdump", "+L", "-Un", file], check=True, capture_output=True, text=True)
    assert f"(0002,0003) UI [{uid}]" in shown.stdout
    assert f"(0002,0012) UI [{IMPLEMENTATION_CLASS_UID}]" in shown.stdout
    assert f"(0002,0100) UI [{PRIVATE_INFORMATION_CREATOR_UID}]" in shown.stdout
    assert (f"(0002,0016) AE [{title}]" in shown.stdout) == bool(title)
    assert "(0010,0020) LO [P1]" in shown.stdout
    assert not re.search("^[EWF]: ", shown.stderr, re.MULTILINE)


@pytest.mark.parametrize("mask", [0x01, 0x20, 0x80])
def test_no_byte_changes_unseen(tmp_path, mask):
    archive = FilesystemArchive(tmp_path)
    location = store(archive)
    size = (tmp_path / location).stat().st_size
    with (tmp_path / location).open("r+b", buffering=0) as file:
        for position in range(size):
            file.seek(position)
            before = file.read(1)
            file.seek(position)
            file.write(bytes([before[0] ^ mask]))
            with pytest.raises(DigestMismatch):
                archive.verify(location, digest(DATA_SET))
            file.seek(position)
            file.write(before)
    archive.verify(location, digest(DATA_SET))


def test_no_prefix_is_whole():
    header = whole()[: -len(DATA_SET)]
    for length in range(len(header)):
        with pytest.raises(DigestMismatch):
            read_header(io.BytesIO(header[:length]), "it")
    assert read_header(io.BytesIO(header), "it").sha256 == digest(DATA_SET)


def test_a_blank_header_is_not_whole():
    with pytest.raises(DigestMismatch, match="never completed"):
        read_header(io.BytesIO(blank_header(HEADING)), "it")


@given(st.binary(max_size=400))
def test_garbage_is_refused(garbage):
    start = whole()[:144]
    for data in (garbage, start[:140] + garbage, start + garbage):
        with pytest.raises(DigestMismatch):
            read_header(io.BytesIO(data), "it")


def test_an_endless_header_is_not_read():
    stream = io.BytesIO(whole()[:140] + (0x7FFFFFFF).to_bytes(4, "little") + bytes(100_000))
    with pytest.raises(DigestMismatch):
        read_header(stream, "it")
    assert stream.tell() == 144


# No NUL at the end: that is padding.
texts = st.text(st.characters(codec=None, exclude_characters="\0"), max_size=100)
times = st.datetimes(timezones=st.just(UTC))
arrivals = st.builds(Arrival, times, texts, texts, texts, texts, texts, texts, st.none() | times)


@given(st.builds(Heading, texts, texts, texts, texts), arrivals)
def test_whatever_is_said_comes_back(heading, arrival):
    header = read_header(stream := io.BytesIO(whole(heading, arrival)), "it")
    assert stream.read() == DATA_SET
    assert replace(header.heading, source_ae_title="") == replace(heading, source_ae_title="")
    assert header.arrival.received_at == arrival.received_at
    assert header.arrival.ordered_at == arrival.ordered_at
    for name, limit in (
        ("service", 16),
        ("calling_ae_title", 16),
        ("called_ae_title", 16),
        ("address", 64),
        ("site", 64),
        ("remote", 32),
    ):
        told = getattr(arrival, name)[:limit]
        assert getattr(arrival, name).startswith(getattr(header.arrival, name))
        if all(character <= "\uffff" for character in told):
            assert getattr(header.arrival, name).startswith(told)


@pytest.mark.parametrize("character", ["x", '"', "\\", "\n", "é", "\U0001f9b7", "\ud800"])
def test_nothing_makes_it_overflow(character):
    text = character * 70_000
    end = datetime(9999, 12, 31, 23, 59, 59, 999999, UTC)
    arrival = Arrival(end, text, text, text, text, text, text, end, "f" * 64)
    heading = Heading(text, text, text, text)
    location = "f" * 2 * layout.LOCATION_LIMIT
    header = blank_header(heading)
    assert len(header) <= HEADER_LIMIT_BYTES
    information = private_information(header, arrival, location, "f" * 64, 2**64, "f" * 32)
    assert len(information) == PRIVATE_INFORMATION_LENGTH
    file = header[:-PRIVATE_INFORMATION_LENGTH] + information
    assert read_header(io.BytesIO(file), "it").size_bytes == 2**64


def test_the_name_of_a_remote_ae_is_kept_whole():
    named = replace(ARRIVAL, remote="n" * 64)
    assert read_header(io.BytesIO(whole(arrival=named)), "it").arrival == named


def test_what_says_the_same_is_named():
    named = replace(ARRIVAL, same_as="0123456789abcdef" * 4)
    assert read_header(io.BytesIO(whole(arrival=named)), "it").arrival == named


def test_what_earlier_versions_did_not_write_is_empty():
    assert b'"remote"' not in whole()
    assert b'"same_as"' not in whole()
    assert b'"ordered"' not in whole()
    arrival = read_header(io.BytesIO(whole()), "it").arrival
    assert (arrival.remote, arrival.ordered_at, arrival.order) == ("", None, ARRIVAL.received_at)


def test_source_ae_title_keeps_to_its_repertoire():
    header = read_header(io.BytesIO(whole(replace(HEADING, source_ae_title=" Ä\\B\nC longer still, too long"))), "it")
    assert header.heading.source_ae_title == "??B?C longer sti"


def test_received_is_written_as_utc():
    local = ARRIVAL.received_at.astimezone(timezone(timedelta(hours=5, minutes=30)))
    assert whole(arrival=replace(ARRIVAL, received_at=local)) == whole()


def test_no_two_spellings_of_a_field_can_be_mixed_up():
    hostile = replace(ARRIVAL, site='","meta_sha256":"' + "0" * 40, address='"}')
    assert read_header(io.BytesIO(whole(arrival=hostile)), "it").arrival == hostile


@pytest.mark.parametrize("data", [DATA_SET, b"", b"{\n}" * 1000], ids=["small", "empty", "lines"])
def test_the_documented_check_with_stock_tools(tmp_path, data):
    script = re.search(r"```sh\n(# check FILE.*?)```", DOCS.read_text("utf-8"), re.DOTALL)
    assert script is not None
    file = tmp_path / "a.dcm"

    def check(content: bytes) -> bool:
        file.write_bytes(content)
        run = subprocess.run(["sh", "-c", script[1], "check", file], capture_output=True, check=False)
        return run.returncode == 0

    intact = whole(data=data)
    assert check(intact)
    for position in (0, 131, 190, 300, 700, len(intact) - 1):
        assert not check(intact[:position] + bytes([intact[position] ^ 1]) + intact[position + 1 :])


def test_our_uids_are_uids():
    for uid in (IMPLEMENTATION_CLASS_UID, PRIVATE_INFORMATION_CREATOR_UID):
        assert pydicom.uid.UID(uid).is_valid
    assert re.fullmatch("[A-Z0-9_ ]{1,16}", IMPLEMENTATION_VERSION_NAME)
