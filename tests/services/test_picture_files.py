"""A study to take along as pictures: those that a browser shows, every frame, and a word on what is left out."""

from __future__ import annotations

import io
import tracemalloc

import numpy as np
import pytest
from PIL import Image

from backup_scp.errors import Damaged, InstanceRefused
from backup_scp.services.parcels import ParcelKind, StudyParcels, study_pictures
from backup_scp.web.pages.page_texts import texts_in
from tests.samples import (
    ct_series,
    dx,
    encode,
    instance,
    one_of_each,
    replace,
    structured_report,
    with_pixels,
    with_value,
)
from tests.services.test_dicom_files import STUDY, files_in, seen_in

ULTRASOUND_MULTI_FRAME = "1.2.840.10008.5.1.4.1.1.3.1"


def pictures(stored):
    return StudyParcels().make(ParcelKind.PICTURES, seen_in(stored), STUDY, texts_in("en"))


def pixels_of(content: bytes, form: str = "JPEG") -> np.ndarray:
    with Image.open(io.BytesIO(content)) as image:
        assert image.format == form
        assert not image.getexif()
        return np.asarray(image).astype(int)


def test_a_picture_shows_the_image_through_its_own_window(stored):
    ds = dx(SeriesNumber="7", InstanceNumber="3", WindowCenter="500", WindowWidth="400")
    stored.put(encode(ds))
    inverse = dx(number=2, SeriesNumber="7", InstanceNumber="4", PresentationLUTShape="INVERSE")
    replace(inverse, WindowCenter="500", WindowWidth="400")
    stored.put(encode(inverse))
    made = pictures(stored)
    assert (made.name, made.media_type) == ("pictures.zip", "application/zip")
    files = files_in(made)
    assert sorted(files) == ["007-0003.jpg", "007-0004.jpg", "README.TXT"]
    stored_values = np.arange(32 * 32).reshape(32, 32)
    expected = np.clip(((stored_values - 499.5) / 399 + 0.5) * 255, 0, 255)
    assert np.abs(pixels_of(files["007-0003.jpg"]) - expected).max() < 12
    assert np.abs(pixels_of(files["007-0004.jpg"]) - (255 - expected)).max() < 12


def test_each_frame_is_a_picture_up_to_a_limit_that_is_told(stored, monkeypatch):
    us = replace(with_pixels(instance(ULTRASOUND_MULTI_FRAME), frames=5, bits=8), SeriesNumber="1", InstanceNumber="2")
    stored.put(encode(us))
    files = files_in(pictures(stored))
    assert sorted(files)[:5] == [f"001-0002-00{number}.jpg" for number in range(1, 6)]
    assert "frames; here" not in files["README.TXT"].decode()
    monkeypatch.setattr("backup_scp.services.parcels.picture_files.MOST_FRAMES", 3)
    files = files_in(pictures(stored))
    assert sorted(files)[:-1] == [f"001-0002-00{number}.jpg" for number in range(1, 4)]
    assert "001-0002 has 5 frames; here are the first 3" in files["README.TXT"].decode()
    assert study_pictures.MOST_FRAMES == 300


def test_what_has_no_picture_is_counted_and_what_cannot_be_shown_is_named(stored):
    for ds in one_of_each():
        stored.put(encode(ds))
    odd = dx(number=9, SeriesNumber="4", InstanceNumber="9", PhotometricInterpretation="CMYK")
    stored.put(encode(odd))
    files = files_in(pictures(stored))
    assert len(files) == 5
    said = files["README.TXT"].decode()
    assert "such as reports: 3" in said
    assert "cannot be shown as pictures here; the DICOM files have them: 004-0009" in said
    assert "not for diagnosis" in said
    assert said.count("\r\n") == said.count("\n") > 8


def test_names_are_numbers_and_each_is_there_once(stored):
    for number, ds in enumerate(ct_series(3, PatientName="Secret^Name", SeriesNumber="1", InstanceNumber=None)):
        stored.put(with_value(encode(ds), "SeriesNumber", b"Secret"), number)
    files = files_in(pictures(stored))
    assert sorted(files) == ["000-0000.jpg", "000-0000_2.jpg", "000-0000_3.jpg", "README.TXT"]
    assert [name for name, content in files.items() if b"Secret" in content] == []


def test_a_study_without_a_picture(stored):
    stored.put(encode(structured_report()))
    with pytest.raises(InstanceRefused, match="no pictures"):
        next(pictures(stored).parts)


def test_with_a_damaged_image_the_pictures_have_no_end(stored):
    places = [stored.put(encode(ds), number).location for number, ds in enumerate(ct_series(4))]
    stored.flip(places[2])
    with pytest.raises(Damaged):
        list(pictures(stored).parts)


def test_many_pictures_take_little_memory(stored):
    for number in range(30):
        ds = with_pixels(instance(dx().SOPClassUID, number=number), 512, 512)
        stored.put(encode(replace(ds, WindowCenter="2000", WindowWidth="4000")), number)
    made = pictures(stored)
    assert next(made.parts)  # the renderer runs
    tracemalloc.start()
    try:
        length = sum(map(len, made.parts))
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert length > 1 << 20
    assert peak < 3 << 20
