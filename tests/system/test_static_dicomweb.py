"""Static files that look like DICOMweb, as static-dicomweb-creator 0.2.11 writes them, have no DICOM files to bring."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from pydicom.dataset import Dataset

from tests.processes import LOOPBACK
from tests.samples import ct_series
from tests.system.contents import visible


class _Files(SimpleHTTPRequestHandler):
    """Serves a folder; a folder in it is its index.json."""

    def do_GET(self) -> None:
        path = self.path.partition("?")[0]
        self.path = f"{path}/index.json" if Path(self.translate_path(path)).is_dir() else path
        super().do_GET()

    def log_message(self, *arguments: object) -> None:
        pass


_Files.extensions_map = SimpleHTTPRequestHandler.extensions_map | {".json": "application/dicom+json"}


def some(ds: Dataset, *keywords: str, **more: int) -> dict:
    result = Dataset()
    for keyword in keywords:
        setattr(result, keyword, ds[keyword].value)
    for keyword, value in more.items():
        setattr(result, keyword, value)
    return result.to_json_dict()


def write_static_files(folder: Path, slices: list[Dataset]) -> None:
    """Write lists of studies and series, metadata and frames, which is all that there is."""
    ds = slices[0]
    of_study = some(ds, "StudyInstanceUID", "StudyDate", "StudyTime", "PatientID", NumberOfStudyRelatedInstances=3)
    of_series = some(ds, "SeriesInstanceUID", "Modality", NumberOfSeriesRelatedInstances=3)
    study = folder / "studies" / ds.StudyInstanceUID
    series = study / "series" / ds.SeriesInstanceUID
    metadata = [each.to_json_dict() | {"7FE00010": {"vr": "OW"}} for each in slices]
    written = {folder / "studies": [of_study], study: of_study, study / "series": [of_series], series: of_series}
    for path, content in (written | {series / "metadata": metadata}).items():
        path.mkdir(parents=True, exist_ok=True)
        (path / "index.json").write_text(json.dumps(content))
    for each in slices:
        frame = series / "instances" / each.SOPInstanceUID / "frames" / "1"
        frame.mkdir(parents=True)
        (frame / "index.bin").write_bytes(each.PixelData)


@pytest.fixture
def address(tmp_path) -> Iterator[str]:
    write_static_files(tmp_path / "static", ct_series(3))
    files = str(tmp_path / "static")
    with ThreadingHTTPServer((LOOPBACK, 0), lambda *arguments: _Files(*arguments, directory=files)) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
        thread.start()
        try:
            yield f"dicomweb+http://{LOOPBACK}:{server.server_port}"
        finally:
            server.shutdown()
            thread.join()


def test_pull_says_that_no_image_came(make_node, address):
    here = make_node()
    done = here.json("pull", address, exit_code=1)
    assert (done["studies"], done["complete"], done["fetched"], done["missing"]) == (1, 0, 0, 3)
    (study,) = done["incomplete"]
    assert study["reason"].endswith(f"does not list the images of series {ct_series(1)[0].SeriesInstanceUID}")
    assert not visible(here)
