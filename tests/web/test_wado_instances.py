"""WADO-RS: studies, series and instances (PS3.18 10.4), one test for each sentence that we claim."""

from __future__ import annotations

import io
import os
import zipfile

import numpy as np
import pydicom
import pytest
from pydicom.uid import (
    MPEG4HP41,
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    JPEGLSLossless,
)

from backup_scp.services import verified_files
from tests.samples import Sample, ct_series, data_set_of, dx, encode, odd_identities, one_of_each, pydicom_samples
from tests.web.multipart import parts_in, parts_of

AS_STORED = 'multipart/related; type="application/dicom"; transfer-syntax=*'
SINGLE = "application/dicom; transfer-syntax=*"


def path_of(ds) -> str:
    return f"/studies/{ds.StudyInstanceUID}/series/{ds.SeriesInstanceUID}/instances/{ds.SOPInstanceUID}"


def put_all(stored, datasets, syntax=ExplicitVRLittleEndian) -> list[Sample]:
    samples = [encode(ds, syntax) for ds in datasets]
    for sample in samples:
        stored.put(sample)
    return samples


def get(web, path, accept, **headers):
    return web.get(path, headers={"accept": accept, **headers})


def test_a_study_comes_byte_for_byte_as_it_was_stored(stored, web):
    samples = put_all(stored, one_of_each())
    study = samples[0].dataset().StudyInstanceUID
    answer = get(web, f"/studies/{study}", AS_STORED)
    assert answer.status_code == 200
    parts = parts_of(answer)
    assert {data_set_of(part.content) for part in parts} == {sample.data_set for sample in samples}
    assert {part.content_type for part in parts} == {f"application/dicom; transfer-syntax={ExplicitVRLittleEndian}"}


def test_every_sample_comes_back_byte_for_byte(stored, web):
    samples = [*pydicom_samples(), *odd_identities()]
    sent = {stored.put(sample).location: sample for sample in samples}
    for held in list(stored.index.versions()):
        sample = sent[held.location]
        uids = held.study_instance_uid, held.series_instance_uid, held.sop_instance_uid
        if not all(uids) or any("/" in uid for uid in uids):
            continue  # no URI can name it
        answer = get(web, "/studies/{}/series/{}/instances/{}".format(*uids), SINGLE)
        assert answer.status_code == 200, (sample.name, answer.text)
        got = data_set_of(answer.content)
        others = [each.data_set for each in samples if each.sop_instance_uid == sample.sop_instance_uid]
        assert got in others, sample.name


def test_a_series_has_its_own_instances_only(stored, web):
    samples = put_all(stored, [dx(), *ct_series(3)])
    series = samples[-1].dataset()
    answer = get(web, f"/studies/{series.StudyInstanceUID}/series/{series.SeriesInstanceUID}", AS_STORED)
    assert [data_set_of(part.content) for part in parts_of(answer)] == [sample.data_set for sample in samples[1:]]


def test_the_file_meta_names_no_sender(stored, web):
    (sample,) = put_all(stored, [dx()])
    content = get(web, path_of(sample.dataset()), SINGLE).content
    read = pydicom.dcmread(io.BytesIO(content))
    assert read.file_meta.MediaStorageSOPInstanceUID == sample.sop_instance_uid
    assert "SENDER" not in str(read.file_meta)
    assert (0x0002, 0x0102) not in read.file_meta


def test_one_instance_is_a_single_part_when_asked_so(stored, web):
    (sample,) = put_all(stored, [dx()])
    answer = get(web, path_of(sample.dataset()), SINGLE)
    assert answer.headers["content-type"] == f"application/dicom; transfer-syntax={ExplicitVRLittleEndian}"
    assert int(answer.headers["content-length"]) == len(answer.content)


def test_without_accept_it_is_multipart_in_explicit_vr_little_endian(stored, web):
    (sample,) = put_all(stored, [dx()], ImplicitVRLittleEndian)
    (part,) = parts_of(web.get(path_of(sample.dataset())))
    read = pydicom.dcmread(io.BytesIO(part.content))
    assert read.file_meta.TransferSyntaxUID == ExplicitVRLittleEndian
    assert read == sample.dataset()


@pytest.mark.parametrize("stored_in", [ImplicitVRLittleEndian, ExplicitVRBigEndian, DeflatedExplicitVRLittleEndian])
@pytest.mark.parametrize("asked", [ExplicitVRLittleEndian, ImplicitVRLittleEndian])
def test_a_named_transfer_syntax_is_transcoded_without_loss(stored, web, stored_in, asked):
    (sample,) = put_all(stored, [dx()], stored_in)
    answer = get(web, path_of(sample.dataset()), f"application/dicom; transfer-syntax={asked}")
    read = pydicom.dcmread(io.BytesIO(answer.content))
    assert read.file_meta.TransferSyntaxUID == asked
    assert np.array_equal(read.pixel_array, sample.dataset().pixel_array)


def compressed(syntax=JPEGLSLossless) -> Sample:
    ds = dx()
    ds.file_meta = pydicom.dataset.FileMetaDataset()
    ds.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    ds.compress(syntax, generate_instance_uid=False)
    return encode(ds, syntax)


def test_compressed_pixels_are_decoded_for_the_default(stored, web):
    sample = compressed()
    stored.put(sample)
    (part,) = parts_of(web.get(path_of(sample.dataset())))
    read = pydicom.dcmread(io.BytesIO(part.content))
    assert read.file_meta.TransferSyntaxUID == ExplicitVRLittleEndian
    assert np.array_equal(read.pixel_array, sample.dataset().pixel_array)


def test_what_cannot_be_had_without_loss_is_not_acceptable(stored, web):
    (sample,) = put_all(stored, [dx()])
    answer = get(web, path_of(sample.dataset()), f"application/dicom; transfer-syntax={JPEGLSLossless}")
    assert answer.status_code == 406
    assert answer.headers["content-type"] == "application/problem+json"
    assert "transfer-syntax=*" in answer.json()["detail"]


def test_of_several_acceptable_ones_the_best_possible_is_sent(stored, web):
    (sample,) = put_all(stored, [dx()])
    accept = f"application/dicom; transfer-syntax={JPEGLSLossless}, application/dicom; transfer-syntax=*; q=0.5"
    answer = get(web, path_of(sample.dataset()), accept)
    assert answer.headers["content-type"].endswith(f"transfer-syntax={ExplicitVRLittleEndian}")


def test_a_study_with_a_video_is_partial_unless_asked_as_stored(stored, web):
    image, video = dx(number=1), dx(number=2)
    stored.put(encode(image))
    video_sample = encode(video)
    stored.put(
        Sample("video", video_sample.sop_class_uid, video_sample.sop_instance_uid, MPEG4HP41, video_sample.data_set)
    )
    answer = web.get(f"/studies/{image.StudyInstanceUID}")
    assert answer.status_code == 206
    assert len(parts_of(answer)) == 1
    assert len(parts_of(get(web, f"/studies/{image.StudyInstanceUID}", AS_STORED))) == 2
    assert web.get(path_of(video)).status_code == 406


@pytest.mark.parametrize("accept", ["image/jpeg", "text/html", "application/dicom; q=0"])
def test_other_media_types_are_not_acceptable(stored, web, accept):
    (sample,) = put_all(stored, [dx()])
    assert get(web, path_of(sample.dataset()), accept).status_code == 406


def test_what_is_not_here_is_not_found(web):
    for path in ("/studies/1.2.3", "/studies/1.2.3/series/4", "/studies/1.2.3/series/4/instances/5"):
        answer = web.get(path)
        assert answer.status_code == 404
        assert answer.headers["content-type"] == "application/problem+json"


def test_an_instance_of_another_study_is_not_found(stored, web):
    first, second = dx(study="1"), dx(study="2")
    put_all(stored, [first, second])
    path = f"/studies/{first.StudyInstanceUID}/series/{second.SeriesInstanceUID}/instances/{second.SOPInstanceUID}"
    assert web.get(path).status_code == 404


# ------------------------------------------------------------------------------------------------------ damage


def big_dx(number: int = 1):
    """Return an image that is not kept in memory."""
    ds = dx(number=number)
    ds.Rows = ds.Columns = 1100
    ds.PixelData = bytes(range(256)) * (2 * 1100 * 1100 // 256 + 1)
    ds.PixelData = ds.PixelData[: 2 * 1100 * 1100]
    return ds


@pytest.mark.parametrize("make", [dx, big_dx])
def test_a_damaged_file_is_an_error_that_names_its_instance(stored, web, make):
    ds = make()
    location = stored.put(encode(ds)).location
    stored.flip(location)
    answer = web.get(path_of(ds))
    assert answer.status_code == 500
    assert ds.SOPInstanceUID in answer.json()["detail"]
    assert stored.index.is_damaged(location)


def test_a_missing_file_is_an_error_that_names_its_instance(stored, web):
    ds = dx()
    stored.path(stored.put(encode(ds)).location).unlink()
    answer = get(web, path_of(ds), SINGLE)
    assert answer.status_code == 500
    assert ds.SOPInstanceUID in answer.json()["detail"]


def test_a_study_with_a_damaged_file_has_no_end(stored, web):
    good, bad = dx(number=1), dx(number=2)
    stored.put(encode(good))
    stored.flip(stored.put(encode(bad)).location)
    answer = get(web, f"/studies/{good.StudyInstanceUID}", AS_STORED)
    with pytest.raises(AssertionError, match="closing boundary"):
        parts_of(answer)


def test_a_file_that_changes_after_it_was_compared_is_never_sent(stored, web):
    ds = big_dx()
    location = stored.put(encode(ds)).location
    path = f"{path_of(ds)}"
    assert get(web, path, SINGLE).status_code == 200
    stat = stored.path(location).stat()
    stored.flip(location)
    os.utime(stored.path(location), ns=(stat.st_atime_ns, stat.st_mtime_ns))
    answer = get(web, path, SINGLE)
    assert len(answer.content) < int(answer.headers["content-length"])
    first = get(web, path, SINGLE, Range="bytes=0-99999")
    assert first.status_code == 206, "the blocks that are intact can still be read"


def test_another_version_with_the_same_content_stands_for_a_damaged_one(stored, web):
    ds = dx()
    location = stored.put(encode(ds)).location
    stored.put(encode(ds, ImplicitVRLittleEndian), 1)
    stored.flip(location)
    (part,) = parts_of(web.get(path_of(ds)))
    assert pydicom.dcmread(io.BytesIO(part.content)).PixelData == ds.PixelData


def test_little_is_kept_of_many_files(stored, web, monkeypatch):
    monkeypatch.setattr(verified_files, "_NOTED_BYTES", 40)
    samples = put_all(stored, ct_series(5))
    for _ in range(2):
        assert len(parts_of(get(web, f"/studies/{samples[0].dataset().StudyInstanceUID}", AS_STORED))) == 5


# ------------------------------------------------------------------------------------- ranges, entity tags, ZIP


@pytest.mark.parametrize(
    ("asked", "expected"),
    [("bytes=0-9", slice(0, 10)), ("bytes=100-", slice(100, None)), ("bytes=-7", slice(-7, None))],
)
@pytest.mark.parametrize("make", [dx, big_dx])
def test_a_range_is_a_part_of_the_whole(stored, web, asked, expected, make):
    ds = make()
    stored.put(encode(ds))
    whole = get(web, path_of(ds), SINGLE)
    part = get(web, path_of(ds), SINGLE, Range=asked)
    assert part.status_code == 206
    assert part.content == whole.content[expected]
    start, stop, _ = expected.indices(len(whole.content))
    assert part.headers["content-range"] == f"bytes {start}-{stop - 1}/{len(whole.content)}"


def test_a_range_behind_the_end_is_not_satisfiable(stored, web):
    ds = dx()
    stored.put(encode(ds))
    size = len(get(web, path_of(ds), SINGLE).content)
    answer = get(web, path_of(ds), SINGLE, Range=f"bytes={size}-")
    assert answer.status_code == 416
    assert answer.headers["content-range"] == f"bytes */{size}"


@pytest.mark.parametrize("odd", ["bytes=5-2", "bytes=a-b", "lines=1-2", "bytes=0-1,5-6", "bytes=-"])
def test_a_range_that_is_none_or_several_gets_the_whole(stored, web, odd):
    ds = dx()
    stored.put(encode(ds))
    answer = get(web, path_of(ds), SINGLE, Range=odd)
    assert answer.status_code == 200
    assert len(answer.content) == int(answer.headers["content-length"])


def test_the_entity_tag_says_that_nothing_has_changed(stored, web):
    ds = dx()
    stored.put(encode(ds))
    tag = get(web, path_of(ds), SINGLE).headers["etag"]
    again = get(web, path_of(ds), SINGLE, **{"If-None-Match": tag})
    assert (again.status_code, again.content) == (304, b"")
    assert get(web, path_of(ds), SINGLE, **{"If-Range": '"old"', "Range": "bytes=0-1"}).status_code == 200
    implicit = get(web, path_of(ds), f"application/dicom; transfer-syntax={ImplicitVRLittleEndian}")
    assert implicit.headers["etag"] != tag
    stored.put(encode(dx(PatientName="Other^Name")), 5)
    assert get(web, path_of(ds), SINGLE, **{"If-None-Match": tag}).status_code == 200


def test_head_has_the_headers_alone(stored, web):
    ds = dx()
    stored.put(encode(ds))
    answer = web.head(path_of(ds), headers={"accept": SINGLE})
    assert answer.status_code == 200
    assert int(answer.headers["content-length"]) > 1000
    assert answer.content == b""


def test_a_study_comes_as_zip(stored, web):
    samples = put_all(stored, one_of_each())
    answer = get(web, f"/studies/{samples[0].dataset().StudyInstanceUID}", "application/zip; transfer-syntax=*")
    assert answer.headers["content-type"] == "application/zip"
    with zipfile.ZipFile(io.BytesIO(answer.content)) as archive:
        assert archive.testzip() is None
        assert "Family" not in str(archive.namelist())
        files = [archive.read(name) for name in archive.namelist()]
    assert {data_set_of(file) for file in files} == {sample.data_set for sample in samples}
    assert all(pydicom.dcmread(io.BytesIO(file)).SOPInstanceUID for file in files)


def test_a_zip_with_a_damaged_file_has_no_directory(stored, web):
    good, bad = dx(number=1), dx(number=2)
    stored.put(encode(good))
    stored.flip(stored.put(encode(bad)).location)
    answer = get(web, f"/studies/{good.StudyInstanceUID}", "application/zip")
    assert not answer.is_success or not zipfile.is_zipfile(io.BytesIO(answer.content))


def test_parts_are_told_apart():
    assert parts_in(b"--x--\r\n", "x") == []
