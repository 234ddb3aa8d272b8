"""Thumbnails and metadata are made before somebody asks for them, when nothing comes in, and kept."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from pydicom.uid import ImplicitVRLittleEndian

from backup_scp.machine.disk_cache import DiskCache
from backup_scp.ports import StoredVersion
from backup_scp.web.dicomweb.wado import metadata, pictures, rendered
from backup_scp.web.dicomweb.wado.answers_ahead import AnswersAhead
from backup_scp.web.dicomweb.wado.kept_metadata import InstanceText
from backup_scp.web.dicomweb.wado.resources import versions_of
from backup_scp.web.stores import Stores
from tests.samples import ct_series, dx, encode
from tests.stored import FIRST_ARRIVAL
from tests.web.conftest import client_of, stores_of
from tests.web.test_wado_instances import put_all
from tests.web.test_wado_rendered import image_of


@pytest.fixture
def cache(tmp_path):
    return DiskCache(tmp_path / "cache", 10_000_000)


@pytest.fixture
def client(stored, cache):
    return client_of(stored, cache=cache)


@pytest.fixture
def ahead(stored, cache):
    return AnswersAhead(stores_of(stored, cache))


@pytest.fixture
def later(monkeypatch):
    """Let so many seconds pass since the first image came."""

    def let(seconds: float) -> None:
        at = "backup_scp.web.dicomweb.wado.answers_ahead.clock.now"
        monkeypatch.setattr(at, lambda: FIRST_ARRIVAL + timedelta(seconds=seconds))

    return let


@pytest.fixture
def read(monkeypatch):
    """The images whose metadata are made."""
    read: list[str] = []
    real = metadata._text

    def text(stores: Stores, held: StoredVersion, *how: Any) -> InstanceText:
        read.append(held.sop_instance_uid)
        return real(stores, held, *how)

    monkeypatch.setattr(metadata, "_text", text)
    return read


@pytest.fixture
def drawn(monkeypatch):
    """The pictures that are drawn, by image."""
    drawn: list[str] = []
    real = pictures.picture

    def draw(stores: Stores, held: StoredVersion, *how: Any) -> bytes:
        drawn.append(held.sop_instance_uid)
        return real(stores, held, *how)

    monkeypatch.setattr(rendered, "picture", draw)
    return drawn


def test_each_new_study_gets_one(stored, client, ahead, drawn):
    studies = [dx(study=name) for name in ("a", "b", "c")]
    for ds in studies:
        stored.put(encode(ds))
    assert ahead.work() == 3
    assert ahead.work() == 0
    assert sorted(drawn) == sorted(ds.SOPInstanceUID for ds in studies)
    for ds in studies:
        series = f"/studies/{ds.StudyInstanceUID}/series/{ds.SeriesInstanceUID}"
        for path in (f"/studies/{ds.StudyInstanceUID}", series, f"{series}/instances/{ds.SOPInstanceUID}"):
            assert image_of(client.get(f"{path}/thumbnail")).ndim == 2
    assert len(drawn) == 3


def test_the_image_that_the_viewer_shows_first_gets_one_too(stored, client, ahead, drawn):
    first, middle, last = (dx(number=number) for number in (1, 2, 3))
    for ds in (last, middle, first):
        stored.put(encode(ds))
    assert ahead.work() == 1
    assert sorted(drawn) == sorted([first.SOPInstanceUID, middle.SOPInstanceUID])
    series = f"/studies/{first.StudyInstanceUID}/series/{first.SeriesInstanceUID}"
    assert image_of(client.get(f"{series}/instances/{first.SOPInstanceUID}/thumbnail")).ndim == 2
    assert len(drawn) == 2


def test_nothing_is_made_while_images_come(stored, ahead, drawn, read, later):
    put_all(stored, ct_series(1))
    later(3)
    assert ahead.work() == 0
    assert drawn == read == []
    later(6)
    assert ahead.work() == 1


def test_metadata_of_a_study_that_just_came_are_made(stored, make_client, client, ahead, read, later):
    series = [*ct_series(3), *ct_series(2, series="7")]
    put_all(stored, series)
    path = f"/studies/{series[0].StudyInstanceUID}/metadata"
    expected = make_client().get(path)
    read.clear()
    later(60)
    assert ahead.work() == 1
    assert sorted(read) == sorted(ds.SOPInstanceUID for ds in series)
    assert client.get(path).content == expected.content
    assert len(read) == len(series), "nobody reads them again"


def test_of_a_study_that_grows_the_new_series_are_made(stored, ahead, read, later):
    put_all(stored, ct_series(3))
    later(60)
    assert ahead.work() == 1
    read.clear()
    more = ct_series(2, series="7")
    for ds in more:
        stored.put(encode(ds), 30)
    assert ahead.work() == 1
    assert sorted(read) == sorted(ds.SOPInstanceUID for ds in more)


def test_metadata_of_a_study_that_came_long_ago_are_not_made(stored, ahead, read, later):
    put_all(stored, ct_series(3))
    later(7200)
    assert ahead.work() == 1
    assert read == []


def test_a_study_without_an_image_is_tried_once(stored, ahead, drawn):
    ds = dx()
    del ds.PixelData
    stored.put(encode(ds))
    assert ahead.work() == 1
    assert ahead.work() == 0


def test_another_size_is_another_picture(stored, client, ahead, drawn):
    stored.put(encode(ds := dx()))
    ahead.work()
    path = f"/studies/{ds.StudyInstanceUID}/thumbnail"
    assert image_of(client.get(f"{path}?viewport=5,5")).shape != image_of(client.get(path)).shape
    assert len(drawn) == 2


def test_what_stands_for_a_damaged_image_is_not_kept(stored, client, tmp_path):
    ds = dx()
    stored.put(encode(ds))
    stored.put(encode(ds, ImplicitVRLittleEndian), 1)
    (answering,) = versions_of(stores_of(stored), {"study": ds.StudyInstanceUID})
    stored.path(answering.location).unlink()
    assert client.get(f"/studies/{ds.StudyInstanceUID}/thumbnail").status_code == 200
    assert not (tmp_path / "cache").exists()
