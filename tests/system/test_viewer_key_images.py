"""Marked images are stored as a Key Object Selection, which other programs read, and are found again."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pydicom
import pytest
import requests
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence
from pydicom.uid import KeyObjectSelectionDocumentStorage

from tests.processes import wait_until
from tests.samples import ct_series, dx, instance, replace, with_pixels
from tests.system.own_viewer import OwnViewer, own_viewer
from tests.system.peers import dcmtk
from tests.system.test_viewer import ramp
from tests.system.test_viewer_stories import corner, store
from tests.system.web import web_address, web_node

pytestmark = pytest.mark.timeout(300)
IDENTITY: dict[str, Any] = {"PatientName": "Müller^Jörg=山田^太郎", "SpecificCharacterSet": "ISO_IR 192"}
COPIED = ("PatientName", "PatientID", "PatientBirthDate", "PatientSex", "StudyInstanceUID", "StudyDate", "StudyID",
          "AccessionNumber", "ReferringPhysicianName")  # fmt: skip


@pytest.fixture
def node(make_node):
    node = web_node(make_node)
    node.start()
    return node


def mark(viewer: OwnViewer, words: str) -> None:
    viewer.page.keyboard.press("k")
    viewer.page.locator(".series small", has_text=words).wait_for()


def stored_documents(address: str, study: str, folder: Path) -> list[Path]:
    found = requests.get(
        f"{address}/instances",
        {"StudyInstanceUID": study, "SOPClassUID": KeyObjectSelectionDocumentStorage},
        headers={"Accept": "application/dicom+json"},
        timeout=30,
    )
    paths = []
    for number, each in enumerate(found.json() if found.status_code == 200 else []):
        got = requests.get(
            each["00081190"]["Value"][0], headers={"Accept": "application/dicom; transfer-syntax=*"}, timeout=30
        )
        paths.append(folder / f"{number}.dcm")
        paths[-1].write_bytes(got.content)
    return paths


def test_marks_become_a_key_object_selection(node, tmp_path):
    slices = [
        replace(ramp(ds, 100, 100), InstanceNumber=str(at + 1), **IDENTITY)
        for at, ds in enumerate(ct_series(4, series="2"))
    ]
    film = with_pixels(dx(series="3", **IDENTITY), 64, 64, frames=4)
    store(node, *slices, film)
    address, study = web_address(node), film.StudyInstanceUID
    with own_viewer(address) as viewer:
        viewer.open(study)
        viewer.run("store")
        viewer.page.locator(".status", has_text="No image is marked").wait_for()
        viewer.page.keyboard.press("ArrowDown")
        wait_until(lambda: "Image 2 of 4" in corner(viewer, "bottom.left"), what="the second slice")
        mark(viewer, "Image 2 of 4")
        viewer.show_series(1)
        viewer.page.locator(".corner.bottom.left", has_text="Image 1 of 4").wait_for()
        for words in ("Image 2 of 4", "Image 3 of 4"):  # a key is for the image that is shown
            viewer.page.keyboard.press("ArrowDown")
            viewer.page.locator(".corner.bottom.left", has_text=words).wait_for()
        mark(viewer, "Image 3 of 4")
        viewer.page.context.set_offline(True)
        viewer.page.keyboard.press("t")
        viewer.page.locator(".status", has_text="could not be stored").wait_for()
        viewer.page.locator(".series h3", has_text="Marked in this browser").wait_for()
        viewer.page.context.set_offline(False)
        viewer.errors.clear()
        viewer.page.keyboard.press("t")
        viewer.page.locator(".status", has_text="Stored with the study: 2 key images").wait_for()
        viewer.page.locator(".series h3", has_text="Of Interest, ").wait_for()
        viewer.page.locator(".series h3", has_text="Marked in this browser").wait_for(state="detached")
        viewer.keep_screenshot("key images stored")
        assert viewer.errors == []

    (path,) = stored_documents(address, study, tmp_path)
    ds = pydicom.dcmread(path)
    assert {keyword: ds[keyword].value for keyword in COPIED} == {keyword: film[keyword].value for keyword in COPIED}
    assert ds.SeriesInstanceUID not in {slices[0].SeriesInstanceUID, film.SeriesInstanceUID}
    referred = [item.ReferencedSOPSequence[0] for item in ds.ContentSequence]
    assert [each.ReferencedSOPInstanceUID for each in referred] == [slices[1].SOPInstanceUID, film.SOPInstanceUID]
    assert "ReferencedFrameNumber" not in referred[0]
    assert referred[1].ReferencedFrameNumber == 3
    printed = dcmtk("dsrdump", path).stdout  # it refuses what PS3.3 A.35.4 does not allow
    assert "Key Object Selection" in printed
    assert "Of Interest" in printed
    assert "Müller" in printed

    with own_viewer(address) as another:  # a browser that has no marks
        another.open(study)
        assert "Other documents" not in another.page.locator(".series").inner_text()
        another.page.locator(".series button", has_text="Image 3 of 4").click()
        wait_until(lambda: "Image 3 of 4" in corner(another, "bottom.left"), what="the key image")
        assert another.errors == []


def test_lists_of_other_makers_are_shown_with_their_reason(node):
    image = ramp(dx(series="2"), 300, 200)
    title, item, reference = Dataset(), Dataset(), Dataset()
    title.CodeValue, title.CodingSchemeDesignator, title.CodeMeaning = "113001", "DCM", "Rejected for Quality Reasons"
    reference.ReferencedSOPClassUID, reference.ReferencedSOPInstanceUID = image.SOPClassUID, image.SOPInstanceUID
    item.RelationshipType, item.ValueType = "CONTAINS", "IMAGE"
    item.ReferencedSOPSequence = Sequence([reference])
    document = instance(KeyObjectSelectionDocumentStorage, series="1", Modality="KO", ContentDate="20240201")
    document.ConceptNameCodeSequence, document.ContentSequence = Sequence([title]), Sequence([item])
    store(node, image, document)
    with own_viewer(web_address(node)) as viewer:
        viewer.open(image.StudyInstanceUID)
        viewer.page.locator(".series h3", has_text="Rejected for Quality Reasons, 2024-02-01").wait_for()
        assert viewer.page.locator(".series small", has_text="Image 1 of 1").count() == 1
        assert viewer.errors == []
