"""A study's page: series with pictures, history, and what one can do."""

from __future__ import annotations

import re

from backup_scp.ports import VerificationResult
from tests.samples import ct_series, dx, encode, replace


def page_of(pages, study: str) -> str:
    answer = pages.get("/study", params={"uid": study})
    assert answer.status_code == 200
    return answer.text


def test_series_pictures_and_links(pages, stored):
    slices = ct_series(15)
    for ds in slices:
        stored.put(encode(ds))
    text = page_of(pages, slices[0].StudyInstanceUID)
    assert text.count("/thumbnail?viewport=") == 12
    assert "3 further images" in text
    assert f'href="/viewer/?StudyInstanceUIDs={slices[0].StudyInstanceUID}"' in text
    assert f'href="/study/dicom?uid={slices[0].StudyInstanceUID}" download' in text
    picture = re.search(r'src="(/dicom-web/studies/[^"]+)"', text).group(1)  # type: ignore[union-attr]
    assert pages.get(picture).headers["content-type"] == "image/jpeg"


def test_history_tells_who_sent_what_when_and_where_it_is(pages, stored):
    ds = dx()
    first = stored.put(encode(ds), 0, remote="dx-room-1", address="192.0.2.7")
    text = page_of(pages, ds.StudyInstanceUID)
    assert "dx-room-1 (192.0.2.7)" in text
    assert "1 images were not read again" in text
    assert "No further copy has" in text
    stored.put(encode(replace(ds, PatientComments="later")), 100)
    stored.index.record_verification([VerificationResult(first.location)])
    text = page_of(pages, ds.StudyInstanceUID)
    assert "1 earlier versions" in text
    for held in stored.index.versions():
        stored.index.record_verification([VerificationResult(held.location)])
    assert "Every image was read again" in page_of(pages, ds.StudyInstanceUID)


def test_a_study_that_is_not_there(pages):
    for uid in ("", "1.2.3", "1.2\\1.3", "*"):
        assert pages.get("/study", params={"uid": uid}).status_code == 404
