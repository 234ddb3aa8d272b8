"""A study to take along as PDF: whose pictures, which ones, and a word on what is left out."""

from __future__ import annotations

import io

import numpy as np
import pytest
from pypdf import PdfReader

from backup_scp.errors import Damaged, InstanceRefused, ResourceLimitation
from backup_scp.ports import StoredVersion
from backup_scp.receipts.pdf_pictures import write_pictures
from backup_scp.services.parcels import ParcelKind, StudyParcels, picture_pages
from backup_scp.web.pages.page_texts import texts_in
from tests.samples import ct_series, dx, encode, instance, one_of_each, replace, structured_report, with_pixels
from tests.services.test_dicom_files import STUDY, seen_in
from tests.services.test_picture_files import ULTRASOUND_MULTI_FRAME, pixels_of
from tests.stored import FIRST_ARRIVAL


def parts(stored, parcels: StudyParcels | None = None):
    made = (parcels or StudyParcels(write_pictures)).make(ParcelKind.DOCUMENT, seen_in(stored), STUDY, texts_in("en"))
    assert made is not None
    assert (made.name, made.media_type) == ("pictures.pdf", "application/pdf")
    return made.parts


def document(stored) -> PdfReader:
    return PdfReader(io.BytesIO(b"".join(parts(stored))))


def held(series: str, number: int) -> StoredVersion:
    return StoredVersion("1", series, f"{series}.{number}", "", "", "", "", 0, FIRST_ARRIVAL)


def test_a_page_says_whose_picture_it_is(stored):
    ds = dx(SpecificCharacterSet="ISO_IR 192", WindowCenter="500", WindowWidth="400")
    replace(ds, PatientName="Yamada^Tarou=山田^太郎")
    replace(ds, PatientBirthDate="19700131", StudyDate="20240131", StudyDescription="Chest PA")
    stored.put(encode(replace(ds, SeriesNumber="7", InstanceNumber="3")))
    found = document(stored)
    text = found.pages[0].extract_text()
    for part in ("Yamada, Tarou · 山田, 太郎", "1970-01-31", "2024-01-31", "DX Chest PA", "007-0003", "Page 1 of 1"):
        assert part in text
    assert "not for diagnosis" in text
    values = np.arange(32 * 32).reshape(32, 32)
    expected = np.clip(((values - 499.5) / 399 + 0.5) * 255, 0, 255)
    assert np.abs(pixels_of(found.pages[0].images[0].data) - expected).mean() < 4


def test_of_several_frames_one_stands_for_all(stored):
    stored.put(encode(with_pixels(instance(ULTRASOUND_MULTI_FRAME), frames=5, bits=8)))
    found = document(stored)
    assert len(found.pages) == 1
    assert "frame 1 of 5" in found.pages[0].extract_text()


def test_what_has_no_picture_is_counted(stored):
    for ds in one_of_each():
        stored.put(encode(ds))
    assert "such as reports: 3" in document(stored).pages[0].extract_text()


def test_of_very_many_images_some_are_shown_and_it_is_told(stored, monkeypatch):
    monkeypatch.setattr(picture_pages, "MOST_PICTURES", 5)
    for number, ds in enumerate(ct_series(12)):
        stored.put(encode(ds), number)
    found = document(stored)
    assert len(found.pages) == 4
    assert "Here are 4 pictures, spread over all 12 images" in found.pages[0].extract_text()


@pytest.mark.parametrize(
    ("sizes", "most"), [([1], 1), ([2000], 100), ([300, 3, 1, 40], 100), ([1] * 500, 100), ([7], 3)]
)
def test_no_series_is_left_out_if_there_is_room(sizes, most):
    images = [held(f"{series}", number) for series, size in enumerate(sizes) for number in range(size)]
    found = picture_pages.chosen(images, most)
    assert most // 3 < len(found) <= most
    assert found == sorted(found, key=images.index)
    if len(sizes) < most // 2:
        assert {one.series_instance_uid for one in found} == {f"{series}" for series in range(len(sizes))}


def test_large_pictures_are_made_smaller_and_much_so_when_there_are_many(stored, monkeypatch):
    for number in range(2):
        stored.put(encode(with_pixels(instance(dx().SOPClassUID, number=number), 1500, 1300)), number)
    assert [page.images[0].image.size for page in document(stored).pages] == [(1040, 1200)] * 2  # type: ignore[union-attr]
    monkeypatch.setattr(picture_pages, "_MOST_PIXELS", 180_000)
    assert [page.images[0].image.size for page in document(stored).pages] == [(260, 300)] * 2  # type: ignore[union-attr]


def test_a_study_without_a_picture_has_no_document(stored):
    stored.put(encode(structured_report()))
    with pytest.raises(InstanceRefused, match="no pictures"):
        next(parts(stored))


def test_with_a_damaged_image_there_is_no_document(stored):
    places = [stored.put(encode(ds), number).location for number, ds in enumerate(ct_series(3))]
    stored.flip(places[2])
    with pytest.raises(Damaged):
        next(parts(stored))


def test_only_a_few_are_made_at_once(stored):
    stored.put(encode(dx()))
    parcels = StudyParcels(write_pictures)
    running = [parts(stored, parcels) for _ in range(2)]
    for each in running:
        next(each)
    with pytest.raises(ResourceLimitation, match="again in a minute"):
        next(parts(stored, parcels))
    running[0].close()
    assert next(parts(stored, parcels)).startswith(b"%PDF")
    for each in running[1:]:
        each.close()


def test_without_a_writer_there_is_none(stored):
    stored.put(encode(dx()))
    assert ParcelKind.DOCUMENT not in StudyParcels().kinds
    assert StudyParcels().make(ParcelKind.DOCUMENT, seen_in(stored), STUDY, texts_in("en")) is None
