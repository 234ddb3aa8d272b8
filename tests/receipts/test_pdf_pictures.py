"""A document with pictures as PDF, as pypdf reads it."""

from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image
from pypdf import PdfReader

from backup_scp.ports import PictureDocument, PicturePage
from backup_scp.receipts.pdf_pictures import write_pictures

NAMES = ["Müller, Jörg", "Иванов, Иван", "Παπαδόπουλος, Νίκος", "Yamada · 山田, 太郎", "홍, 길동", "王小明"]


def jpeg(width: int = 300, height: int = 200, grey: int = 90) -> bytes:
    into = io.BytesIO()
    Image.fromarray(np.full((height, width), grey, "u1")).save(into, "JPEG", quality=95)
    return into.getvalue()


def document(pictures: list[bytes], patient: str = NAMES[0]) -> PictureDocument:
    pages = [PicturePage(each, f"{patient} · CT", f"Image {number}") for number, each in enumerate(pictures, 1)]
    facts = [("Patient", patient), ("Examination", "CT")]
    return PictureDocument(
        "Pictures", facts, ["Some are left out"], "Not for diagnosis", "No font", "{} of {}".format, pages
    )


def read(made: PictureDocument) -> PdfReader:
    return PdfReader(io.BytesIO(write_pictures(made)))


def test_each_picture_is_on_a_page_as_it_is():
    pictures = [jpeg(grey=40 * number) for number in range(1, 4)]
    found = read(document(pictures))
    assert [page.images[0].data for page in found.pages] == pictures
    texts = [page.extract_text() for page in found.pages]
    assert [f"{number} of 3" in text for number, text in enumerate(texts, 1)] == [True] * 3
    assert all("Not for diagnosis" in text and NAMES[0] in text for text in texts)
    assert "Some are left out" in texts[0]
    assert found.metadata is not None
    assert found.metadata.title == "Pictures"
    assert NAMES[0] not in str(found.metadata)


@pytest.mark.parametrize(("count", "small"), [(5, 5), (20, 20), (41, 14)])
def test_of_more_pictures_the_first_page_shows_some_small_ones(count, small):
    found = read(document([jpeg(grey=number) for number in range(1, count + 1)]))
    assert len(found.pages) == count + 1
    assert len(found.pages[0].images) == small
    assert "1 of" in found.pages[0].extract_text()
    assert [len(page.images) for page in found.pages[1:]] == [1] * count


def test_a_picture_is_there_once_though_it_is_shown_twice():
    rng = np.random.default_rng(1)
    pictures = []
    for _ in range(6):
        into = io.BytesIO()
        Image.fromarray(rng.integers(0, 255, (300, 300), "u1")).save(into, "JPEG")
        pictures.append(into.getvalue())
    length = len(write_pictures(document(pictures)))
    assert length < sum(map(len, pictures)) + 60_000


@pytest.mark.parametrize("patient", NAMES)
def test_names_in_other_scripts(patient):
    assert patient in read(document([jpeg()], patient)).pages[0].extract_text()


def test_a_picture_keeps_its_shape():
    for width, height in ((900, 100), (100, 900), (300, 300)):
        page = read(document([jpeg(width, height)])).pages[0]
        content = page.get_contents()
        assert content is not None
        *_, matrix = [operands for operands, operator in content.operations if operator == b"cm"]
        assert float(matrix[0]) / float(matrix[3]) == pytest.approx(width / height, rel=0.02)


def test_characters_without_a_font_are_told():
    assert "No font" in read(document([jpeg()], "\U00013000")).pages[0].extract_text()
    assert "No font" not in read(document([jpeg()], "Müller")).pages[0].extract_text()
