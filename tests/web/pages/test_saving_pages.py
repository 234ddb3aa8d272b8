"""Save a study: what a browser gets."""

from __future__ import annotations

import io
import zipfile

import pytest

from backup_scp.services.parcels import ParcelKind, StudyParcels
from tests.samples import ct_series, dx, encode
from tests.web.pages.conftest import ELSEWHERE

KINDS = [kind.value for kind in ParcelKind]
NAMES = {f'attachment; filename="{name}"' for name in ("study.zip", "pictures.zip", "pictures.pdf")}


@pytest.mark.parametrize("kind", KINDS)
def test_it_is_saved_under_a_name_that_says_nothing_and_kept_nowhere_else(pages, stored, kind):
    ds = dx(PatientName="Secret^Name")
    stored.put(encode(ds))
    answer = pages.get(f"/study/{kind}", params={"uid": ds.StudyInstanceUID})
    assert answer.status_code == 200
    assert answer.headers["cache-control"] == "no-store"
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert answer.headers["content-disposition"] in NAMES
    assert len(answer.content) > 1000
    assert pages.head(f"/study/{kind}", params={"uid": ds.StudyInstanceUID}).content == b""


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("study", ["", "1.2.3", "*", "1.2\\1.3"])
def test_a_study_that_is_not_there_cannot_be_saved(pages, stored, kind, study):
    stored.put(encode(dx()))
    answer = pages.get(f"/study/{kind}", params={"uid": study})
    assert (answer.status_code, "There is no such study" in answer.text) == (404, True)


def test_what_this_node_cannot_make_is_said_for_what_it_is(make_pages, stored):
    stored.put(encode(dx()))
    pages = make_pages(parcels=StudyParcels())  # without reportlab
    uid = {"uid": dx().StudyInstanceUID}
    assert "/study/document" not in pages.get("/study", params=uid).text
    answer = pages.get("/study/document", params=uid)
    assert (answer.status_code, "cannot make such a file" in answer.text) == (404, True)


@pytest.mark.parametrize("kind", KINDS)
def test_who_may_not_see_images_saves_none(make_pages, stored, kind):
    stored.put(encode(dx()))
    answer = make_pages(address=ELSEWHERE).get(f"/study/{kind}", params={"uid": dx().StudyInstanceUID})
    assert answer.status_code == 401


def test_with_a_damaged_image_nothing_looks_whole(pages, stored):
    slices = ct_series(3)
    places = [stored.put(encode(ds), number).location for number, ds in enumerate(slices)]
    stored.flip(places[1])
    answer = pages.get("/study/dicom", params={"uid": slices[0].StudyInstanceUID})
    assert not zipfile.is_zipfile(io.BytesIO(answer.content))
