"""What leaves our viewer: pictures, DICOM files, prints."""

from __future__ import annotations

import io

import numpy as np
import pydicom
import pytest
from PIL import Image
from pypdf import PdfReader

from tests.samples import dx
from tests.system.own_viewer import own_viewer
from tests.system.test_viewer import expected, ramp
from tests.system.test_viewer_stories import store
from tests.system.web import web_address, web_node

pytestmark = pytest.mark.timeout(300)


@pytest.fixture
def node(make_node):
    node = web_node(make_node)
    node.start()
    return node


def test_pictures_and_files_leave_as_they_are(node, tmp_path):
    ds = ramp(dx(), 300, 200)
    store(node, ds)
    with own_viewer(web_address(node)) as viewer:
        viewer.open(ds.StudyInstanceUID)
        saved = {}
        for kind in ("png", "jpeg", "dicom"):
            with viewer.page.expect_download() as download:
                viewer.run(kind)
            saved[kind] = download.value.path().read_bytes()
        for kind, most in (("png", 1), ("jpeg", 24)):
            picture = np.asarray(Image.open(io.BytesIO(saved[kind])).convert("L")).astype(int)
            assert np.abs(picture - expected(ds)).max() <= most
        assert pydicom.dcmread(io.BytesIO(saved["dicom"])).PixelData == ds.PixelData
        assert viewer.errors == []


def test_a_print_is_the_image_on_one_page_with_the_patient_below(node):
    ds = ramp(dx(), 600, 500)
    store(node, ds)
    with own_viewer(web_address(node)) as viewer:
        viewer.page.add_init_script("window.print = () => {}")  # the dialog waits for a person, and blocks page.pdf
        viewer.open(ds.StudyInstanceUID)
        viewer.run("print")
        viewer.page.locator(".print img").wait_for(state="attached")
        file = PdfReader(io.BytesIO(viewer.page.pdf(format="A4")))
        assert viewer.page.locator(".print").count() == 0
        assert viewer.errors == []
    (sheet,) = file.pages
    words = sheet.extract_text()
    assert f"{ds.PatientID} · 1970-05-01 · 2024-01-31 · Chest" in words
    assert "Not for diagnosis" in words
    assert "Contrast" not in words
    (picture,) = sheet.images
    assert picture.image is not None
    printed = np.asarray(picture.image.convert("L")).astype(int)
    assert np.abs(printed - expected(ds)).max() <= 1
    sizes = []

    def note_size(operator, _operands, matrix, _text_matrix) -> None:
        if operator == b"Do":
            sizes.append((matrix[0], matrix[3]))

    sheet.extract_text(visitor_operand_before=note_size)
    ((width, height),) = sizes
    assert width > 0.85 * float(sheet.mediabox.width)
    assert height / width == pytest.approx(600 / 500, rel=0.01)
