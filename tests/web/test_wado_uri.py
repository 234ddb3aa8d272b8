"""WADO-URI (PS3.18 9), for viewers of former times."""

from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image
from pydicom.uid import ExplicitVRLittleEndian, ImplicitVRLittleEndian, JPEGLSLossless

from tests.samples import data_set_of, dx, encapsulated_pdf, encode, secondary_capture, structured_report, with_pixels
from tests.web.test_presented import presented


def wado(web, ds, **parameters):
    uids = {"studyUID": ds.StudyInstanceUID, "seriesUID": ds.SeriesInstanceUID, "objectUID": ds.SOPInstanceUID}
    return web.get("/wado", params={"requestType": "WADO"} | uids | parameters)


def test_an_image_is_a_jpeg_by_default(stored, web):
    ds = dx()
    stored.put(encode(ds))
    answer = wado(web, ds)
    assert answer.headers["content-type"] == "image/jpeg"
    assert Image.open(io.BytesIO(answer.content)).size == (32, 32)


def test_size_window_quality_frame_and_type_are_obeyed(stored, web):
    ds = with_pixels(secondary_capture(), 20, 40, frames=3, bits=16)
    stored.put(encode(ds))
    answer = wado(web, ds, contentType="image/png", frameNumber="2", rows="10", columns="10")
    image = Image.open(io.BytesIO(answer.content))
    assert (image.format, image.size) == ("PNG", (10, 5))
    white = wado(web, ds, contentType="image/png", windowCenter="-100", windowWidth="2")
    assert Image.open(io.BytesIO(white.content)).getextrema() == (255, 255)
    sizes = [len(wado(web, ds, imageQuality=quality).content) for quality in ("5", "95")]
    assert sizes[0] < sizes[1]
    assert wado(web, ds, frameNumber="4").status_code == 400


def test_a_region_is_a_share_of_the_image(stored, web):
    ds = with_pixels(secondary_capture(), 20, 40, bits=16)
    stored.put(encode(ds))
    part = wado(web, ds, contentType="image/png", windowCenter="480", windowWidth="320", region="0.25,0.5,0.75,1")
    whole = wado(web, ds, contentType="image/png", windowCenter="480", windowWidth="320")
    images = [np.array(Image.open(io.BytesIO(answer.content))) for answer in (part, whole)]
    assert np.array_equal(images[0], images[1][10:20, 10:30])


def test_a_presentation_state_is_applied(stored, web):
    ds, other = dx(), dx(number=2)
    state = presented(ds)
    for each in (ds, other, state):
        stored.put(encode(each))
    uids = {"presentationSeriesUID": state.SeriesInstanceUID, "presentationUID": state.SOPInstanceUID}
    answer = wado(web, ds, contentType="image/png", **uids)
    assert Image.open(io.BytesIO(answer.content)).size == (10, 5)
    assert Image.open(io.BytesIO(wado(web, ds, contentType="image/png", columns="4", **uids).content)).size == (4, 2)
    for odd in ({"region": "0,0,1,0.5"}, {"windowCenter": "3", "windowWidth": "4"}):
        assert wado(web, ds, **uids, **odd).status_code == 400
    assert "other images" in wado(web, other, **uids).json()["detail"]
    assert wado(web, ds, **uids | {"presentationUID": "1.2.3"}).status_code == 404


def test_a_dicom_file_is_in_explicit_vr_little_endian_by_default(stored, web):
    ds = dx()
    stored.put(encode(ds, ImplicitVRLittleEndian))
    answer = wado(web, ds, contentType="application/dicom")
    assert answer.headers["content-type"] == f"application/dicom; transfer-syntax={ExplicitVRLittleEndian}"
    as_stored = wado(web, ds, contentType="application/dicom", transferSyntax=ImplicitVRLittleEndian)
    assert data_set_of(as_stored.content) == encode(ds, ImplicitVRLittleEndian).data_set
    assert wado(web, ds, contentType="application/dicom", transferSyntax=JPEGLSLossless).status_code == 406


def test_an_object_without_pixels_is_a_dicom_file(stored, web):
    ds, pdf = structured_report(), encapsulated_pdf()
    for each in (ds, pdf):
        stored.put(encode(each))
    assert wado(web, ds).headers["content-type"].startswith("application/dicom")
    assert wado(web, pdf, contentType="application/pdf").content.startswith(b"%PDF")
    assert wado(web, ds, contentType="image/jpeg").status_code == 406


@pytest.mark.parametrize(
    "odd",
    [
        {"requestType": "OTHER"},
        {"studyUID": ""},
        {"anonymize": "yes"},
        {"frameNumber": "0"},
        {"rows": "x"},
        {"windowCenter": "1"},
        {"imageQuality": "101"},
        {"contentType": "///"},
        {"imageAnnotation": "patient"},
        {"region": "0,0,1"},
        {"region": "0.5,0,0.5,1"},
        {"region": "0,0,1,1.5"},
        {"presentationUID": "1.2"},
        {"presentationSeriesUID": "1.2"},
    ],
)
def test_parameters_that_make_no_sense(stored, web, odd):
    ds = dx()
    stored.put(encode(ds))
    assert wado(web, ds, **odd).status_code == 400


def test_what_is_not_here_is_not_found(web):
    assert wado(web, dx()).status_code == 404
