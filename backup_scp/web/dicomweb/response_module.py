"""Write the small modules that answer a request, in DICOM JSON or as a Native DICOM Model (PS3.18 Annexes I, J)."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from backup_scp.dicom.json_model import text_element
from backup_scp.dicom.native_model import document, text_attribute
from backup_scp.web.media_types import DICOM_JSON, DICOM_XML, JSON, Offer

OFFERS = (Offer(DICOM_JSON), Offer(DICOM_XML), Offer(JSON))

_ATTRIBUTES = {
    "FailedSOPSequence": (0x00081198, "SQ"),
    "FailedStudySequence": (0x0008119B, "SQ"),
    "FailureReason": (0x00081197, "US"),
    "OtherFailuresSequence": (0x0008119A, "SQ"),
    "ReferencedInstanceSequence": (0x0008114A, "SQ"),
    "ReferencedInstancesBySOPClassSequence": (0x00081112, "SQ"),
    "ReferencedSOPClassUID": (0x00081150, "UI"),
    "ReferencedSOPInstanceUID": (0x00081155, "UI"),
    "ReferencedSOPSequence": (0x00081199, "SQ"),
    "ReferencedSeriesSequence": (0x00081115, "SQ"),
    "ReferencedStudySequence": (0x00081110, "SQ"),
    "RetrieveURL": (0x00081190, "UR"),
    "SeriesInstanceUID": (0x0020000E, "UI"),
    "StudyInstanceUID": (0x0020000D, "UI"),
}


class ModelElement(NamedTuple):
    """One element: its text, or its items if it is a sequence."""

    keyword: str
    text: str = ""
    items: tuple[tuple[ModelElement, ...], ...] = ()


def reference(sop_class_uid: str, sop_instance_uid: str) -> list[ModelElement]:
    """Return a SOP Instance Reference (PS3.3 Table 10-11)."""
    return [
        ModelElement("ReferencedSOPClassUID", sop_class_uid),
        ModelElement("ReferencedSOPInstanceUID", sop_instance_uid),
    ]


def failure_reason(reason: int) -> ModelElement:
    """Return a Failure Reason (0008,1197)."""
    return ModelElement("FailureReason", str(int(reason)))


def retrieve_url(url: str) -> ModelElement:
    """Return a Retrieve URL (0008,1190)."""
    return ModelElement("RetrieveURL", url)


def sequence(keyword: str, items: Iterable[Iterable[ModelElement]]) -> ModelElement:
    """Return a sequence."""
    return ModelElement(keyword, items=tuple(map(tuple, items)))


def encoded(module: Iterable[ModelElement], offer: Offer) -> bytes:
    """Encode a module in one of ``OFFERS``."""
    elements = list(module)
    return document(_xml(elements)) if offer.name == DICOM_XML else _json(elements).encode("utf-8", "replace")


def _json(elements: Iterable[ModelElement]) -> str:
    written = []
    for keyword, text, items in sorted(elements, key=lambda element: _ATTRIBUTES[element.keyword]):
        tag, vr = _ATTRIBUTES[keyword]
        if vr == "SQ":
            written.append(f'"{tag:08X}":{{"vr":"SQ","Value":[{",".join(map(_json, items))}]}}')
        else:
            written.append(text_element(tag, vr)(text))
    return f"{{{','.join(written)}}}"


def _xml(elements: Iterable[ModelElement]) -> str:
    written = []
    for keyword, text, items in sorted(elements, key=lambda element: _ATTRIBUTES[element.keyword]):
        tag, vr = _ATTRIBUTES[keyword]
        if vr == "SQ":
            inner = "".join(f'<Item number="{number}">{_xml(item)}</Item>' for number, item in enumerate(items, 1))
            written.append(f'<DicomAttribute tag="{tag:08X}" vr="SQ" keyword="{keyword}">{inner}</DicomAttribute>')
        else:
            written.append(text_attribute(tag, vr, keyword)(text))
    return "".join(written)
