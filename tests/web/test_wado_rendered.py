"""WADO-RS: rendered images, thumbnails, documents and videos (PS3.18 10.4.1.1.7, 10.4.1.1.8, 8.3.5)."""

from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image, ImageSequence
from pydicom.encaps import encapsulate
from pydicom.uid import MPEG4HP41

from tests.samples import (
    Sample,
    ct_series,
    dx,
    encapsulated_pdf,
    encode,
    pydicom_samples,
    secondary_capture,
    structured_report,
    with_pixels,
)
from tests.web.multipart import parts_of
from tests.web.test_wado_instances import compressed, get, path_of, put_all


def image_of(answer) -> np.ndarray:
    assert answer.status_code == 200, answer.text
    return np.array(Image.open(io.BytesIO(answer.content)))


@pytest.mark.parametrize(
    ("accept", "kind"), [("*/*", "JPEG"), ("image/jpeg", "JPEG"), ("image/png", "PNG"), ("image/gif", "GIF")]
)
def test_an_image_comes_as_jpeg_png_or_gif(stored, web, accept, kind):
    ds = dx()
    put_all(stored, [ds])
    answer = get(web, f"{path_of(ds)}/rendered", accept)
    assert answer.headers["content-type"] == f"image/{kind.lower()}"
    with Image.open(io.BytesIO(answer.content)) as image:
        assert (image.format, image.size) == (kind, (32, 32))


def test_window_viewport_and_quality_are_obeyed(stored, web):
    ds = with_pixels(dx(), 40, 80)
    put_all(stored, [ds])
    path = f"{path_of(ds)}/rendered"
    white = image_of(get(web, f"{path}?window=-500,2,linear", "image/png"))
    assert (white == 255).all()
    assert image_of(get(web, f"{path}?viewport=20,20", "image/png")).shape == (10, 20)
    assert image_of(get(web, f"{path}?viewport=20,20,10,0,20,20", "image/png")).shape == (20, 20)
    sizes = [len(get(web, f"{path}?quality={quality}", "image/jpeg").content) for quality in (10, 95)]
    assert sizes[0] < sizes[1]


@pytest.mark.parametrize(
    "query",
    [
        "window=1",
        "window=a,b",
        "window=1,0",
        "window=1,2,cubic",
        "window=nan,2",
        "viewport=0,1",
        "viewport=1",
        "quality=0",
        "quality=101",
        "quality=x",
        "viewport=10,10,5,5",
        "viewport=10,10,-1,0,5,5",
        "viewport=9,9,99,0,1,1",
        "annotation=patient",
    ],
)
def test_parameters_that_make_no_sense(stored, web, query):
    ds = dx()
    put_all(stored, [ds])
    answer = web.get(f"{path_of(ds)}/rendered?{query}")
    assert answer.status_code == 400
    assert len(answer.json()["detail"]) > 20


def test_compressed_pixels_are_rendered_as_the_same(stored, web):
    sample = compressed()
    stored.put(sample)
    compressed_image = image_of(get(web, f"{path_of(sample.dataset())}/rendered", "image/png"))
    stored.put(encode(dx(number=2)))
    assert np.array_equal(compressed_image, image_of(get(web, f"{path_of(dx(number=2))}/rendered", "image/png")))


def test_frames_are_rendered_one_by_one(stored, web):
    ds = with_pixels(secondary_capture(), 16, 20, frames=4, bits=16)
    put_all(stored, [ds])
    one = image_of(get(web, f"{path_of(ds)}/frames/2/rendered?window=480,320", "image/png"))
    expected = np.clip((np.arange(320, 640).reshape(16, 20) - 479.5) / 319 + 0.5, 0, 1) * 255
    assert np.abs(one - expected).max() <= 1
    parts = parts_of(get(web, f"{path_of(ds)}/frames/1,3/rendered", 'multipart/related; type="image/jpeg"'))
    assert [part.content_type for part in parts] == ["image/jpeg"] * 2
    assert web.get(f"{path_of(ds)}/frames/5/rendered").status_code == 404


def test_several_frames_move_as_gif(stored, web):
    ds = with_pixels(secondary_capture(), 16, 20, frames=4, bits=16)
    put_all(stored, [ds])
    with Image.open(io.BytesIO(web.get(f"{path_of(ds)}/rendered").content)) as image:
        assert (image.format, len(list(ImageSequence.Iterator(image)))) == ("GIF", 4)
    assert get(web, f"{path_of(ds)}/rendered", "image/jpeg").content[:2] == b"\xff\xd8"


def test_a_study_and_a_series_are_rendered_as_parts(stored, web):
    slices = ct_series(3)
    put_all(stored, [*slices, structured_report()])
    study, series = slices[0].StudyInstanceUID, slices[0].SeriesInstanceUID
    for path in (f"/studies/{study}", f"/studies/{study}/series/{series}"):
        parts = parts_of(get(web, f"{path}/rendered", 'multipart/related; type="image/jpeg"'))
        assert [part.content[:2] for part in parts] == [b"\xff\xd8"] * 3


def test_a_document_comes_as_it_is(stored, web):
    ds = encapsulated_pdf()
    pdf = b"%PDF-1.4\n1 0 obj<<>>endobj\ntrailer<<>>\n%%EOF\n"
    ds.EncapsulatedDocument = pdf + b"\0" * (len(pdf) % 2)
    ds.EncapsulatedDocumentLength = len(pdf)
    put_all(stored, [ds])
    answer = web.get(f"{path_of(ds)}/rendered")
    assert answer.headers["content-type"] == "application/pdf"
    assert answer.content == pdf
    assert get(web, f"{path_of(ds)}/rendered", "application/pdf", Range="bytes=0-3").content == b"%PDF"
    assert get(web, f"{path_of(ds)}/rendered", "image/jpeg").status_code == 406


def test_a_video_comes_as_it_is(stored, web):
    ds, video = secondary_capture(), bytes(range(256)) * 40
    ds.NumberOfFrames = "100"
    ds.PixelData = encapsulate([video[:5000], video[5000:]], has_bot=False)
    ds["PixelData"].is_undefined_length = True
    sample = encode(ds)
    stored.put(Sample("video", sample.sop_class_uid, sample.sop_instance_uid, MPEG4HP41, sample.data_set))
    answer = web.get(f"{path_of(ds)}/rendered")
    assert answer.headers["content-type"] == "video/mp4"
    assert answer.content == video


def test_what_has_no_image_is_not_acceptable(stored, web):
    ds = structured_report()
    put_all(stored, [ds])
    answer = web.get(f"{path_of(ds)}/rendered")
    assert answer.status_code == 406
    assert "no pixels" in answer.json()["detail"]


@pytest.mark.parametrize("level", ["study", "series", "instance", "frame"])
def test_thumbnails_are_small(stored, web, level):
    ds = with_pixels(dx(), 400, 800)
    put_all(stored, [ds, structured_report(series="0")])
    path = {
        "study": f"/studies/{ds.StudyInstanceUID}",
        "series": f"/studies/{ds.StudyInstanceUID}/series/{ds.SeriesInstanceUID}",
        "instance": path_of(ds),
        "frame": f"{path_of(ds)}/frames/1",
    }[level]
    answer = web.get(f"{path}/thumbnail")
    assert answer.headers["content-type"] == "image/jpeg"
    assert image_of(answer).shape == (100, 200)
    assert image_of(web.get(f"{path}/thumbnail?viewport=50,50")).shape == (25, 50)
    assert web.get(f"{path}/thumbnail", headers={"If-None-Match": answer.headers["etag"]}).status_code == 304


@pytest.mark.parametrize("bits", [8, 16])
@pytest.mark.parametrize("samples", [1, 3])
def test_a_thumbnail_of_a_large_image_has_few_of_its_pixels_and_looks_the_same(stored, web, samples, bits):
    ds = with_pixels(secondary_capture(), 1000, 700)
    ds.SamplesPerPixel, ds.PlanarConfiguration = samples, 0
    ds.PhotometricInterpretation = "RGB" if samples == 3 else "MONOCHROME2"
    ds.BitsAllocated = ds.BitsStored = bits
    ds.HighBit = bits - 1
    rows, columns = np.mgrid[0:1:1000j, 0:1:700j]
    plane = ((rows + columns) / 2 * ((1 << bits) - 1)).astype(f"<u{bits // 8}")
    ds.PixelData = (plane if samples == 1 else np.stack([plane] * 3, axis=-1)).tobytes()
    put_all(stored, [ds])
    small = image_of(get(web, f"{path_of(ds)}/thumbnail", "image/png")).astype(int)
    whole = image_of(get(web, f"{path_of(ds)}/rendered?viewport=200,200", "image/png")).astype(int)
    assert small.shape == whole.shape
    assert abs(small - whole).max() <= 3


def test_a_study_without_images_has_no_thumbnail(stored, web):
    ds = structured_report()
    put_all(stored, [ds])
    assert web.get(f"/studies/{ds.StudyInstanceUID}/thumbnail").status_code == 404


def test_a_damaged_file_is_not_rendered(stored, web):
    ds = dx()
    stored.flip(stored.put(encode(ds)).location)
    for what in ("rendered", "thumbnail"):
        answer = web.get(f"{path_of(ds)}/{what}")
        assert answer.status_code == 500
        assert ds.SOPInstanceUID in answer.json()["detail"]


@pytest.mark.filterwarnings("ignore:Expected explicit VR")
def test_samples_of_all_kinds_are_rendered_or_refused_in_words(stored, web):
    for sample in pydicom_samples()[::4]:
        stored.put(sample)
    count = 0
    for held in list(stored.index.versions()):
        uids = held.study_instance_uid, held.series_instance_uid, held.sop_instance_uid
        if all(uids):
            answer = get(web, "/studies/{}/series/{}/instances/{}/thumbnail".format(*uids), "image/png")
            assert answer.status_code in {200, 404}, answer.text
            count += answer.status_code == 200
    assert count > 20


def test_without_the_extra_it_says_so(stored, web, monkeypatch):
    from backup_scp.dicom.rendering import render_process

    render_process._pool.end()
    monkeypatch.setattr(render_process, "find_spec", lambda _name: None)
    ds = dx(StudyDescription="another")
    put_all(stored, [ds])
    answer = web.get(f"{path_of(ds)}/rendered")
    assert answer.status_code == 406
    assert "backup-scp[images]" in answer.json()["detail"]
