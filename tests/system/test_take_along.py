"""A study to take along, of a node that runs: other programs read what it saves."""

from __future__ import annotations

import subprocess
import urllib.request
from pathlib import Path

import numpy as np
import pydicom
import pytest
from pypdf import PdfReader

from tests.samples import (
    ct_series,
    data_set_bytes,
    data_set_of,
    dx,
    encapsulated_pdf,
    encode,
    instance,
    presentation_state,
    replace,
    secondary_capture,
    with_pixels,
)
from tests.services.test_dicom_files import found_by_pydicom
from tests.services.test_picture_files import ULTRASOUND_MULTI_FRAME, pixels_of
from tests.system.peers import dcmsend, dcmtk, require, storescu
from tests.system.web import web_address, web_node

pytestmark = [pytest.mark.system, pytest.mark.timeout(300)]

STUDY = dx().StudyInstanceUID
NAMES = {"PatientName": "Yamada^Tarou=山田^太郎=やまだ^たろう", "SpecificCharacterSet": "ISO_IR 192"}


def saved(node, kind: str, folder: Path, study: str = STUDY) -> Path:
    """Save a study as a browser does; return the file."""
    address = web_address(node).removesuffix("/dicom-web")
    with urllib.request.urlopen(f"{address}/study/{kind}?uid={study}", timeout=100) as answer:
        assert answer.headers["Cache-Control"] == "no-store"
        path = folder / answer.headers["Content-Disposition"].partition('"')[2].rstrip('"')
        path.write_bytes(answer.read())
    return path


def written(folder: Path) -> list[Path]:
    """Write a study of several modalities."""
    folder.mkdir()
    us = with_pixels(instance(ULTRASOUND_MULTI_FRAME, series="8"), frames=5, bits=8)
    image = dx(**NAMES)
    made = [
        image,
        *ct_series(3, **NAMES),
        replace(us, Modality="US", **NAMES),
        secondary_capture(**NAMES),
        presentation_state(image, **NAMES),
        encapsulated_pdf(**NAMES),
    ]
    return [encode(ds).write(folder / f"{number}.dcm") for number, ds in enumerate(made)]


@pytest.fixture
def study(make_node, tmp_path):
    """Return a node that has a study, and its files."""
    node = web_node(make_node)
    node.start()
    files = written(tmp_path / "sent")
    storescu(node, *files)
    files.append(tmp_path / "compressed.dcm")
    dcmtk("dcmcjpeg", "+e1", encode(dx(series="7", **NAMES)).write(tmp_path / "source.dcm"), files[-1])
    dcmsend(node, files[-1])
    return node, files


def unzipped(path: Path, folder: Path) -> Path:
    subprocess.run([require("unzip"), "-t", "-q", path], check=True, stdout=subprocess.DEVNULL)
    subprocess.run([require("unzip"), "-q", path, "-d", folder], check=True)
    return folder


def test_dicom_files_are_whole_and_other_programs_find_them(study, tmp_path):
    node, files = study
    folder = unzipped(saved(node, "dicom", tmp_path), tmp_path / "out")
    checked = subprocess.run(
        [require("sha256sum"), "--check", "--strict", "SHA256.TXT"],
        cwd=folder,
        capture_output=True,
        text=True,
        check=True,
    )
    images = [path for path in (folder / "DICOM").rglob("*") if path.is_file()]
    assert checked.stdout.count(": OK") == len(files) + 1 == len(images) + 1
    assert {data_set_of(path.read_bytes()) for path in images} == {data_set_bytes(path) for path in files}
    sent = {pydicom.dcmread(path).SOPInstanceUID: pydicom.dcmread(path).file_meta.TransferSyntaxUID for path in files}
    came = {pydicom.dcmread(path).SOPInstanceUID: pydicom.dcmread(path).file_meta.TransferSyntaxUID for path in images}
    assert came == sent
    assert found_by_pydicom(folder) == set(sent)
    said = dcmtk("dcmdump", "+U8", folder / "DICOMDIR").stdout
    assert said.count("refFileID=") == len(files)
    assert "山田^太郎" in said
    assert not [line for line in said.splitlines() if line.startswith(("E:", "W:"))]
    read = dcmtk("dcmdump", "+sd", "+r", "+P", "0008,0018", folder / "DICOM").stdout
    assert {uid for uid in sent if uid in read} == set(sent)


def test_pictures_are_what_a_browser_is_shown(study, tmp_path):
    node, files = study
    folder = unzipped(saved(node, "pictures", tmp_path), tmp_path / "out")
    pictures = sorted(folder.glob("*.jpg"))
    with_pixels = [ds for ds in map(pydicom.dcmread, files) if "Rows" in ds]
    assert len(pictures) == sum(int(ds.get("NumberOfFrames", 1)) for ds in with_pixels)
    (image,) = [ds for ds in with_pixels if ds.SOPInstanceUID == dx().SOPInstanceUID]
    path = (
        f"/studies/{STUDY}/series/{image.SeriesInstanceUID}/instances/{image.SOPInstanceUID}/rendered?accept=image/png"
    )
    with urllib.request.urlopen(web_address(node) + path, timeout=100) as answer:
        rendered = pixels_of(answer.read(), "PNG")
    shown = [pixels_of(path.read_bytes()) for path in pictures]
    assert min(np.abs(each - rendered).max() for each in shown if each.shape == rendered.shape) < 12
    assert "such as reports: 2" in (folder / "README.TXT").read_text()


def test_the_document_has_a_page_for_each_image(study, tmp_path):
    node, files = study
    document = PdfReader(saved(node, "document", tmp_path))
    with_pixels = [ds for ds in map(pydicom.dcmread, files) if "Rows" in ds]
    assert len(document.pages) == len(with_pixels) + 1
    texts = [page.extract_text() for page in document.pages]
    assert ["山田" in text for text in texts] == [True] * len(texts)
    assert [len(page.images) for page in document.pages[1:]] == [1] * len(with_pixels)


def test_dcmtk_makes_the_same_records_of_the_files(study, tmp_path):
    node, _ = study
    folder = unzipped(saved(node, "dicom", tmp_path), tmp_path / "out")
    ours = dcmtk("dcmdump", "+P", "0004,1430", folder / "DICOMDIR").stdout
    (folder / "DICOMDIR").rename(tmp_path / "OURS")
    names = [str(path.relative_to(folder)) for path in sorted((folder / "DICOM").glob("*/*"))]
    made = dcmtk("dcmmkdir", "-Nxc", "+I", "+id", folder, "+D", folder / "DICOMDIR", *names)
    assert "cannot be added" not in made.stdout
    theirs = dcmtk("dcmdump", "+P", "0004,1430", folder / "DICOMDIR").stdout
    assert sorted(theirs.splitlines()) == sorted(ours.splitlines())
