"""A small archive for searches, and how its results are read."""

from __future__ import annotations

from typing import Any

from pydicom.dataset import Dataset
from starlette.testclient import TestClient

from tests.samples import dx, encode
from tests.stored import Stored

UTF8 = "ISO_IR 192"


def image(**values: object) -> Dataset:
    """Return an image; names that are no ASCII come in UTF-8."""
    found = dx()
    found.SpecificCharacterSet = UTF8
    for keyword, value in values.items():
        setattr(found, keyword, value)
    return found


def put_studies(stored: Stored) -> None:
    """Two studies: one of two series, of two images and one; and one of a single image."""
    first = {"StudyInstanceUID": "1.1", "PatientID": "P1", "PatientName": "Müller^Jörg", "StudyDate": "20240131",
             "StudyTime": "101500", "AccessionNumber": "A,1", "StudyDescription": "Thorax in 2 Ebenen"}  # fmt: skip
    second = {"StudyInstanceUID": "1.2", "PatientID": "P2", "PatientName": "Doe^Jane", "StudyDate": "20240201",
              "StudyTime": "0900", "AccessionNumber": "A2", "StudyDescription": ""}  # fmt: skip
    request = Dataset()
    request.ScheduledProcedureStepID, request.RequestedProcedureID = "SPS1", "RP1"
    other = Dataset()
    other.ScheduledProcedureStepID, other.RequestedProcedureID = "SPS2", "RP2"
    images: tuple[tuple[dict[str, Any], str, str, dict[str, Any]], ...] = (
        (first, "1.1.1", "1.1.1.1", {"SeriesNumber": "1", "InstanceNumber": "1"}),
        (first, "1.1.1", "1.1.1.2", {"SeriesNumber": "1", "InstanceNumber": "2"}),
        (first, "1.1.2", "1.1.2.1", {"SeriesNumber": "2", "Modality": "CR",
                                     "RequestAttributesSequence": [request, other]}),
        (second, "1.2.1", "1.2.1.1", {"SeriesNumber": "1"}),
    )  # fmt: skip
    for number, (study, series, sop, more) in enumerate(images):
        stored.put(encode(image(**study, SeriesInstanceUID=series, SOPInstanceUID=sop, **more)), number)


def value(result: dict, tag: str) -> Any:
    """Return the only value of an attribute; None without one."""
    values = result[tag].get("Value")
    assert values is None or len(values) == 1
    return values[0] if values else None


def found(client: TestClient, path: str, tag: str = "") -> list:
    """Search, and return one value of each result: by default the UID of its level."""
    answer = client.get(path)
    assert answer.status_code in {200, 204}, answer.text
    if answer.status_code == 204:
        assert answer.content == b""
        return []
    kind = path.partition("?")[0].rpartition("/")[2]
    return [value(each, tag or {"studies": "0020000D", "series": "0020000E", "instances": "00080018"}[kind])
            for each in answer.json()]  # fmt: skip
