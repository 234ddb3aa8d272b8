"""DICOM files of other programs, with and without what PS3.10 requires."""

from __future__ import annotations

import struct

import pytest
from pydicom.uid import (
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    MediaStorageDirectoryStorage,
)

from backup_scp.dicom.part10 import open_part10, relabelled
from backup_scp.errors import NotDICOM, SourceUnavailable
from tests.samples import Sample, dx, encode, pydicom_files, pydicom_samples, replace, uid, unparsable

UNCOMPRESSED = [ImplicitVRLittleEndian, ExplicitVRLittleEndian, ExplicitVRBigEndian]


@pytest.fixture
def written(tmp_path):
    def written(content: bytes):
        path = tmp_path / "file"
        path.write_bytes(content)
        return path

    return written


def opened(path):
    heading, stream = open_part10(path)
    with stream:
        return heading, stream.read()


def test_every_file_that_ships_with_pydicom():
    found = {}
    for path in pydicom_files():
        try:
            found[path.name] = opened(path)
        except NotDICOM:
            continue
    expected = {sample.name: sample for sample in pydicom_samples()}
    assert found.keys() == expected.keys()
    for name, (heading, data_set) in found.items():
        sample = expected[name]
        assert data_set == sample.data_set, name
        assert heading.sop_instance_uid == sample.sop_instance_uid, name
        assert heading.transfer_syntax_uid == sample.transfer_syntax_uid, name


@pytest.mark.parametrize("transfer_syntax_uid", [*UNCOMPRESSED, DeflatedExplicitVRLittleEndian])
def test_a_proper_file(written, transfer_syntax_uid):
    sample = encode(dx(), transfer_syntax_uid)
    heading, data_set = opened(written(sample.file_bytes()))
    assert data_set == sample.data_set
    assert heading.sop_class_uid == sample.sop_class_uid
    assert heading.sop_instance_uid == sample.sop_instance_uid
    assert heading.transfer_syntax_uid == transfer_syntax_uid


@pytest.mark.parametrize("transfer_syntax_uid", UNCOMPRESSED)
@pytest.mark.parametrize("preamble", [b"", b"DICM", bytes(128) + b"DICM"])
def test_no_file_meta(written, transfer_syntax_uid, preamble):
    sample = encode(dx(), transfer_syntax_uid)
    heading, data_set = opened(written(preamble + sample.data_set))
    assert data_set == sample.data_set
    assert heading.sop_instance_uid == sample.sop_instance_uid
    assert heading.transfer_syntax_uid == transfer_syntax_uid


@pytest.mark.parametrize("cut", [128, 132])
def test_file_meta_without_preamble(written, cut):
    sample = encode(dx())
    heading, data_set = opened(written(sample.file_bytes()[cut:]))
    assert data_set == sample.data_set
    assert heading.transfer_syntax_uid == sample.transfer_syntax_uid


def test_file_meta_in_implicit_vr(written):
    """Some writers do so; PS3.10 7.1 has it in Explicit VR."""
    sample = encode(dx())
    values = ((2, sample.sop_class_uid), (3, sample.sop_instance_uid), (0x10, sample.transfer_syntax_uid))
    meta = b"".join(
        struct.pack("<HHI", 2, element, len(text) + len(text) % 2) + text.encode() + b"\0" * (len(text) % 2)
        for element, text in values
    )
    heading, data_set = opened(written(bytes(128) + b"DICM" + meta + sample.data_set))
    assert data_set == sample.data_set
    assert heading.transfer_syntax_uid == sample.transfer_syntax_uid


def test_long_private_information_in_file_meta(written):
    sample = encode(dx())
    element = struct.pack("<HH2sHI", 2, 0x102, b"OB", 0, 1_000_000) + bytes(1_000_000)
    content = sample.file_bytes()[: -len(sample.data_set)] + element + sample.data_set
    assert opened(written(content))[1] == sample.data_set


@pytest.mark.parametrize("length", [0, 1, 0xFFFFFFFF])
def test_a_wrong_group_length_is_not_believed(written, length):
    content = bytearray(encode(dx()).file_bytes())
    content[140:144] = struct.pack("<I", length)
    assert opened(written(bytes(content)))[1] == encode(dx()).data_set


def test_the_data_set_says_which_instance_it_is(written):
    sample = encode(dx())
    other = Sample("", sample.sop_class_uid, uid("an older one"), sample.transfer_syntax_uid, sample.data_set)
    assert opened(written(other.file_bytes()))[0].sop_instance_uid == sample.sop_instance_uid


def test_file_meta_says_it_where_the_data_set_cannot_be_read(written):
    sample = unparsable()
    heading, data_set = opened(written(sample.file_bytes()))
    assert (heading.sop_instance_uid, data_set) == (sample.sop_instance_uid, sample.data_set)


def test_the_source_ae_title_is_kept(written):
    sample = encode(dx())
    element = struct.pack("<HH2sH", 2, 0x16, b"AE", 8) + b"CONSOLE "
    content = sample.file_bytes()[: -len(sample.data_set)] + element + sample.data_set
    assert opened(written(content))[0].source_ae_title == "CONSOLE"


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "Not a DICOM file"),
        (b"\x08\x00", "Not a DICOM file"),
        (b"MZ" + bytes(500), "Not a DICOM file"),
        (b"\x08\x00\x10\x00\1\0\0", "Not a DICOM file"),
        ("Patient Müller, 1970".encode().ljust(200), "Not a DICOM file"),
        (b"\x08\x00\x10\x00" + bytes(300), "names no SOP Instance UID"),
        (bytes(128) + b"DICM", "Not a DICOM file"),
        (encode(replace(dx(), SOPInstanceUID="")).data_set, "names no SOP Instance UID"),
        (bytes(128) + b"DICM" + b"\2\0\1\0OB\0\0\xff\xff\xff\xff", "claims"),
        (bytes(128) + b"DICM" + b"\2\0\1\0OB", "Not a DICOM file"),
        ((bytes(128) + b"DICM") + b"\2\0\3\0UI\xfe\xff" * 20 + bytes(2_000_000), "Not a DICOM file"),
        ((bytes(128) + b"DICM") + b"\2\0\3\0UI\0\0" * 200_000, "without an end"),
    ],
)
def test_not_dicom(written, content, words):
    with pytest.raises(NotDICOM, match=words) as caught:
        open_part10(written(content))
    assert "Müller" not in str(caught.value)


def test_a_dicomdir_is_a_list_of_files(written):
    sample = Sample("", MediaStorageDirectoryStorage, uid("dicomdir"), ExplicitVRLittleEndian, b"")
    with pytest.raises(NotDICOM, match="DICOMDIR"):
        open_part10(written(sample.file_bytes()))


def test_a_file_that_is_not_there(tmp_path):
    with pytest.raises(SourceUnavailable, match="cannot be read"):
        open_part10(tmp_path / "Müller.dcm")


@pytest.mark.parametrize(
    ("from_uid", "to_uid", "value"),
    [
        (DeflatedExplicitVRLittleEndian, ExplicitVRLittleEndian, b"1.2.840.10008.1.2.1\0\0\0"),
        (ExplicitVRLittleEndian, ImplicitVRLittleEndian, b"1.2.840.10008.1.2\0\0\0"),
        (ExplicitVRLittleEndian, "1.2.840.10008.1.2.34", b"1.2.840.10008.1.2.34"),  # as long as the padded value
        (ExplicitVRLittleEndian, "1.2.840.10008.1.2.345", b"1.2.840.10008.1.2.1\0"),
        (ImplicitVRLittleEndian, ExplicitVRLittleEndian, b"1.2.840.10008.1.2\0"),
        (ExplicitVRLittleEndian, ExplicitVRLittleEndian, b"1.2.840.10008.1.2.1\0"),
        (ExplicitVRLittleEndian, "no UID", b"1.2.840.10008.1.2.1\0"),
    ],
)
def test_a_header_of_the_same_length_names_another_transfer_syntax(from_uid, to_uid, value):
    """Where there is room for it; what looks the same behind the element stays."""

    def header(value: bytes) -> bytes:
        return b"\2\0\x10\0UI" + struct.pack("<H", len(value)) + value

    before = header(from_uid.encode() + bytes(len(from_uid) % 2))
    assert relabelled(b"before" + before + before, from_uid, to_uid) == b"before" + header(value) + before
