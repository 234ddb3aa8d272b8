"""OHIF, a viewer that hospitals use, lists, finds and shows the images of a node."""

from __future__ import annotations

import io
from typing import Any

import numpy as np
import pytest
from pydicom.dataset import Dataset
from pydicom.uid import JPEG2000Lossless, JPEGLSLossless, XRayAngiographicImageStorage
from reportlab.pdfgen.canvas import Canvas

from tests.processes import wait_until
from tests.samples import Sample, ct_series, dx, encapsulated_pdf, encode, instance, replace, uid
from tests.system.contents import damage, stored_file
from tests.system.peers import dcmtk
from tests.system.viewer import ohif_server, viewer_of
from tests.system.web import web_address, web_node

IDENTITY: dict[str, Any] = {
    "PatientName": "Müller^Jörg=山田^太郎",
    "AccessionNumber": "A1",
    "SpecificCharacterSet": "ISO_IR 192",
}
CT = {"PixelSpacing": ["1", "1"], "FrameOfReferenceUID": uid("frame"), "RescaleSlope": "1", "RescaleIntercept": "-9"}
MOST_DIFFERENCE = 4  # grey levels of 255: scaling and rounding


def ramp(ds: Dataset, rows: int = 600, columns: int = 500) -> Dataset:
    """Give an image pixels that show a wrong order, window, inversion or series."""
    y, x = np.mgrid[0:rows, 0:columns]
    pixels = (x * 1000 // columns + y * 1000 // rows + 280 * int(ds.SeriesNumber)).astype("<u2")
    pixels[rows // 10 : rows // 3, columns // 10 : columns // 2] = 4095
    replace(ds, Rows=rows, Columns=columns, PixelData=pixels.tobytes())
    return replace(ds, WindowCenter="1800", WindowWidth="2600")


def expected(ds: Dataset) -> np.ndarray:
    """Return the grey levels that a viewer shows (PS3.3 C.11.2.1.2.1)."""
    pixels = np.frombuffer(ds.PixelData, "<u2").reshape(ds.Rows, ds.Columns)
    values = pixels * float(ds.get("RescaleSlope", 1)) + float(ds.get("RescaleIntercept", 0))
    grey = (values - (float(ds.WindowCenter) - 0.5)) / (float(ds.WindowWidth) - 1) + 0.5
    shown = np.clip(grey, 0, 1) * 255
    return 255 - shown if ds.PhotometricInterpretation == "MONOCHROME1" else shown


def compressed(ds: Dataset, transfer_syntax_uid: str) -> Sample:
    file = encode(ds).dataset()
    file.compress(transfer_syntax_uid, generate_instance_uid=False)
    return encode(file, transfer_syntax_uid)


def jpeg_lossless(ds: Dataset, folder) -> Sample:
    dcmtk("dcmcjpeg", "+e1", "+un", encode(ds).write(folder / "native.dcm"), folder / "jpeg.dcm")
    sample = Sample.of_file(folder / "jpeg.dcm")
    assert sample is not None
    return sample


@pytest.fixture
def server():
    with ohif_server() as server:
        yield server


@pytest.fixture
def node(make_node, server):
    node = web_node(make_node, {"cors": [server.origin]})
    node.start()
    server.show(web_address(node))
    return node


@pytest.fixture
def images(tmp_path):
    """One study with a series for each way in which an image can be shown wrongly; what to see, and what to store."""

    def image(series: int, description: str, **elements: object) -> Dataset:
        return ramp(dx(series=str(series), SeriesDescription=description, **IDENTITY, **elements))

    native = image(1, "DX")
    inverse = image(2, "MONOCHROME1", PhotometricInterpretation="MONOCHROME1")
    lossless, wavelets, loco = (image(3 + n, name) for n, name in enumerate(("Lossless", "JPEG 2000", "JPEG-LS")))
    slices = [replace(ramp(ds, 500, 500), SeriesDescription="CT", **CT, **IDENTITY) for ds in ct_series(5, series="7")]
    samples = [
        *map(encode, (native, inverse, *slices)),
        jpeg_lossless(lossless, tmp_path),
        compressed(wavelets, JPEG2000Lossless),
        compressed(loco, JPEGLSLossless),
    ]
    return [native, inverse, lossless, wavelets, loco, slices[0]], samples


def wait_for_image(viewer, ds: Dataset) -> None:
    image = expected(ds)
    what = f"{ds.SeriesDescription} shown as it is"
    try:
        wait_until(lambda: viewer.difference(image) <= MOST_DIFFERENCE, 60, what=what)
    except AssertionError:
        viewer.keep_screenshot(f"wrong {ds.SeriesDescription}")
        raise


@pytest.mark.timeout(300)  # a browser without a graphics card, beside another test
def test_a_study_is_listed_found_and_shown_as_it_is(node, server, images):
    shown, samples = images
    samples += [encode(dx(study="other")), encode(dx(study="no modality", Modality=""))]
    assert {answer.status for answer in node.send(samples)} == {0}
    with viewer_of(server) as viewer:
        viewer.list_studies()
        rows = viewer.page.locator("tbody tr", has_text="2024")
        found = rows.filter(has_text="Müller, Jörg")
        found.wait_for()
        assert rows.count() == 3
        viewer.page.locator("input").first.fill("mülLer")
        wait_until(lambda: rows.count() == 1, what="one study")
        assert "CT\\DX" in found.inner_text()
        viewer.keep_screenshot("study list")
        found.dblclick()
        for ds in shown:
            viewer.show_series(int(ds.SeriesNumber))
            wait_for_image(viewer, ds)
            if ds is shown[0]:
                viewer.keep_screenshot("image")
        assert viewer.errors == []


def cine() -> tuple[Dataset, list[np.ndarray]]:
    """Return an angiography of five frames, each with a pattern of its own."""
    ds = instance(XRayAngiographicImageStorage, study="cine", Modality="XA", SeriesDescription="XA")
    replace(ds, **IDENTITY)
    y, x = np.mgrid[0:200, 0:160]
    frames = [((x + y) // 4 + 25 * n + 40 * ((x // 40 + y // 50 + n) % 2)).astype("u1") for n in range(5)]
    replace(
        ds, SamplesPerPixel=1, PhotometricInterpretation="MONOCHROME2", Rows=200, Columns=160, PixelRepresentation=0
    )
    replace(
        ds,
        BitsAllocated=8,
        BitsStored=8,
        HighBit=7,
        PixelRepresentation=0,
        NumberOfFrames="5",
        FrameTime="100",
        CineRate="10",
    )
    replace(ds, WindowCenter="128", WindowWidth="256", FrameIncrementPointer=0x00181063)
    ds.add_new("PixelData", "OB", b"".join(frame.tobytes() for frame in frames))
    return ds, frames


@pytest.mark.timeout(300)
def test_frames_are_shown_one_after_the_other(node, server):
    ds, frames = cine()
    node.send([encode(ds)])
    with viewer_of(server) as viewer:
        viewer.open_study(ds.StudyInstanceUID)
        for number, frame in enumerate(frames):
            if number:
                viewer.next_image()
            shows = frame.astype(float)
            wait_until(lambda: viewer.difference(shows) <= MOST_DIFFERENCE, 60, what=f"frame {number}")  # noqa: B023
        viewer.keep_screenshot("cine")
        assert viewer.errors == []


def report() -> bytes:
    """Return a PDF of one page."""
    written = io.BytesIO()
    canvas = Canvas(written)
    canvas.drawString(100, 700, "A report")
    canvas.save()
    return written.getvalue()


@pytest.mark.timeout(300)
def test_a_document_is_shown(node, server):
    pdf = report()
    ds = encapsulated_pdf(SeriesDescription="PDF", EncapsulatedDocument=pdf + b"\0" * (len(pdf) % 2), **IDENTITY)
    node.send([encode(ds)])
    with viewer_of(server) as viewer:
        viewer.open_study(ds.StudyInstanceUID)
        assert viewer.shown_document() == ds.EncapsulatedDocument
        wait_until(lambda: viewer.is_white_on("document", (900, 600)), what="the page of paper")
        assert viewer.errors == []


@pytest.mark.timeout(300)
def test_beside_damaged_images_the_others_are_shown(node, server):
    slices = [replace(ramp(ds, 500, 500), SeriesDescription="CT", **CT, **IDENTITY) for ds in ct_series(3, series="1")]
    whole, damaged = (ramp(dx(series=number, SeriesDescription="DX", **IDENTITY)) for number in "23")
    lost = [encode(slices[1]), encode(damaged)]
    node.send([encode(slices[0]), encode(slices[2]), encode(whole), *lost])
    for sample in lost:
        damage(stored_file(node, sample), "flip")
    with viewer_of(server) as viewer:
        viewer.open_study(whole.StudyInstanceUID)
        viewer.page.locator("[data-cy=study-browser-thumbnail][data-series='3']").wait_for()
        viewer.show_series(2)
        wait_for_image(viewer, whole)
        viewer.show_series(1)
        viewer.page.get_by_text("(1/3)").wait_for()
        viewer.next_image()
        wait_for_image(viewer, slices[0])
        viewer.keep_screenshot("beside damaged images")
        assert "Multiple Patients" not in viewer.page.inner_text("body")
        assert {line.rpartition("/instances/")[2] for line in viewer.errors} == {
            f"{sample.sop_instance_uid}/frames/1: 500" for sample in lost
        }
