"""Metadata that was kept: the same bytes as at first, without a look at the files, and never anything untrue."""

from __future__ import annotations

import pytest
from pydicom.uid import ImplicitVRLittleEndian

from backup_scp.machine.disk_cache import DiskCache
from backup_scp.web.dicomweb.wado import kept_metadata
from backup_scp.web.dicomweb.wado.resources import versions_of
from tests.samples import ct_series, dx, encode, instance, one_of_each
from tests.web.conftest import stores_of
from tests.web.test_wado_instances import get, path_of, put_all
from tests.web.test_wado_metadata import bulk_uris, with_long_values


@pytest.fixture
def cache(tmp_path):
    return DiskCache(tmp_path / "cache", 1 << 30)


@pytest.fixture
def keeping(make_client, cache):
    """A client of a service with a cache."""
    return make_client(cache=cache)


def kept(tmp_path) -> int:
    folder = tmp_path / "cache"
    return len(list(folder.iterdir())) if folder.exists() else 0


def lose(stored) -> None:
    """Remove all files."""
    for one in stored.index.versions():
        stored.path(one.location).unlink()


def test_kept_metadata_is_the_same_and_needs_no_file(stored, make_client, keeping, tmp_path):
    put_all(stored, [*ct_series(3), *ct_series(2, series="7")])
    path = f"/studies/{ct_series(1)[0].StudyInstanceUID}/metadata"
    expected, first = make_client().get(path), keeping.get(path)
    assert len(first.json()) == 5
    assert kept(tmp_path) == 2, "each series alone"
    lose(stored)
    again = keeping.get(path)
    assert expected.content == first.content == again.content
    assert again.headers == first.headers
    assert all("00280010" not in each for each in make_client().get(path).json())


def test_kept_metadata_has_the_addresses_that_the_caller_uses(stored, keeping, tmp_path):
    ds = with_long_values()
    put_all(stored, [ds, instance(ds.SOPClassUID, number=9, SeriesInstanceUID=ds.SeriesInstanceUID)])
    path = f"/studies/{ds.StudyInstanceUID}/metadata"
    for host in ("127.0.0.1:8042", "localhost:80"):
        answer = keeping.get(path, headers={"Host": host})
        (found,) = [each for each in answer.json() if each["00080018"]["Value"] == [ds.SOPInstanceUID]]
        uris = bulk_uris(found)
        assert len(uris) == 3
        assert all(uri.startswith(f"http://{host}/dicom-web{path_of(ds)}/bulkdata/") for uri in uris)
    assert kept(tmp_path) == 1


def test_a_study_that_has_grown_is_not_answered_by_what_was_kept(stored, keeping):
    put_all(stored, ct_series(2))
    path = f"/studies/{ct_series(1)[0].StudyInstanceUID}/metadata"
    assert len(keeping.get(path).json()) == 2
    put_all(stored, ct_series(3))
    assert len(keeping.get(path).json()) == 3
    assert len(keeping.get(path).json()) == 3


def test_a_series_and_its_study_share_what_is_kept(stored, keeping, tmp_path):
    put_all(stored, [*ct_series(3), *ct_series(2, series="7")])
    ds = ct_series(1)[0]
    of_study = keeping.get(f"/studies/{ds.StudyInstanceUID}/metadata").json()
    lose(stored)
    of_series = keeping.get(f"/studies/{ds.StudyInstanceUID}/series/{ds.SeriesInstanceUID}/metadata").json()
    assert of_series == [each for each in of_study if each["0020000E"]["Value"] == [ds.SeriesInstanceUID]]
    assert kept(tmp_path) == 2


def test_studies_of_many_series_are_the_same_with_a_cache(stored, make_client, keeping):
    samples = put_all(stored, one_of_each())
    path = f"/studies/{samples[0].dataset().StudyInstanceUID}/metadata"
    assert keeping.get(path).json() == keeping.get(path).json() == make_client().get(path).json()


def test_other_forms_come_from_the_files(stored, keeping, tmp_path):
    put_all(stored, ct_series(2))
    study = ct_series(1)[0].StudyInstanceUID
    get(keeping, f"/studies/{study}/metadata", 'multipart/related; type="application/dicom+xml"')
    assert kept(tmp_path) == 0


def test_one_short_image_is_as_fast_from_its_file(stored, keeping, tmp_path):
    ds = dx()
    stored.put(encode(ds))
    assert keeping.get(f"{path_of(ds)}/metadata").status_code == 200
    assert kept(tmp_path) == 0


def test_what_stands_for_a_damaged_image_is_not_kept_as_that_image(stored, keeping, tmp_path):
    one, other = ct_series(2)
    stored.put(encode(one))
    stored.put(encode(one, ImplicitVRLittleEndian), 1)
    stored.put(encode(other), 2)
    answering = versions_of(stores_of(stored), {"study": one.StudyInstanceUID})[0]
    assert answering.sop_instance_uid == one.SOPInstanceUID
    stored.path(answering.location).unlink()
    path = f"/studies/{one.StudyInstanceUID}/metadata"
    assert len(keeping.get(path).json()) == 2
    assert kept(tmp_path) == 0


def test_an_answer_with_a_damaged_image_is_not_kept(stored, keeping, tmp_path):
    first, second = ct_series(2)
    stored.put(encode(first))
    stored.flip(stored.put(encode(second)).location)
    path = f"/studies/{first.StudyInstanceUID}/metadata"
    keeping.get(path)
    assert kept(tmp_path) == 0


def test_a_mark_in_a_value_stays_a_value(stored, keeping):
    series = ct_series(2)
    series[0].StudyDescription = "a\0b"
    for ds in series:
        stored.put(encode(ds))
    path = f"/studies/{series[0].StudyInstanceUID}/metadata"
    first = keeping.get(path)
    lose(stored)
    assert keeping.get(path).json()[0]["00081030"]["Value"] == ["a\0b"]
    assert keeping.get(path).content == first.content


def test_metadata_too_long_to_keep_is_sent_nevertheless(stored, keeping, tmp_path, monkeypatch):
    monkeypatch.setattr(kept_metadata, "_MOST_BYTES", -1)
    put_all(stored, ct_series(3))
    assert len(keeping.get(f"/studies/{ct_series(1)[0].StudyInstanceUID}/metadata").json()) == 3
    assert kept(tmp_path) == 0
