"""A header that is recognised says the same as one that is scanned."""

from __future__ import annotations

import io
import random
import threading
from typing import Any

import pytest

from backup_scp.dicom import data_set, sop_instance
from backup_scp.dicom.sop_instance import SOPInstance
from tests.elements import (
    BIG_ENDIAN,
    DEFLATED,
    EXPLICIT,
    IMPLICIT,
    MODALITY,
    PATIENT_ID,
    PIXEL_DATA,
    ROWS,
    SERIES,
    SOP_CLASS,
    SOP_INSTANCE,
    STUDY,
    delimiter,
    element,
    sequence,
)
from tests.samples import pydicom_samples

CHARACTER_SET, NAME, INSTANCE_NUMBER, REQUESTS = 0x00080005, 0x00100010, 0x00200013, 0x00400275
PRIVATE, COMMENTS, REFERENCED, MODALITIES = 0x00091001, 0x00204000, 0x00081140, 0x00080061


@pytest.fixture(autouse=True)
def _nothing_known(monkeypatch):
    monkeypatch.setattr(sop_instance, "_similar", sop_instance._SimilarHeaders())


def image(number: int, syntax: str = EXPLICIT, **changed: Any) -> bytes:
    """Encode an image of a series; ``changed`` replaces elements, by name, with bytes or with nothing."""
    request = element(0x00400009, "SH", b"STEP", syntax)
    parts = {
        "character_set": element(CHARACTER_SET, "CS", b"ISO_IR 100", syntax),
        "sop_class": element(SOP_CLASS, "UI", b"1.2\0", syntax),
        "sop_instance": element(SOP_INSTANCE, "UI", _even(f"1.2.3.{number}", "\0"), syntax),
        "modality": element(MODALITY, "CS", b"CT", syntax),
        "modalities": element(MODALITIES, "CS", b"XX", syntax),  # computed, and not to be read
        "referenced": sequence(REFERENCED, element(0x00081155, "UI", b"1.9\0", syntax), syntax=syntax),
        "private": element(PRIVATE, "LO", _even(f"{number * 7 % 11}"), syntax),
        "name": element(NAME, "PN", b"D\xf6e^Jane", syntax),
        "patient": element(PATIENT_ID, "LO", b"4711", syntax),
        "study": element(STUDY, "UI", b"1.23", syntax),
        "series": element(SERIES, "UI", b"1.24", syntax),
        "instance_number": element(INSTANCE_NUMBER, "IS", _even(str(number)), syntax),
        "comments": element(COMMENTS, "LT", _even("x" * (number % 200)), syntax),
        "rows": element(ROWS, "US", b"\0\2", syntax),
        "requests": element(REQUESTS, "SQ", delimiter(0xE000, len(request)) + request, syntax),
        "pixels": element(PIXEL_DATA, "OW", bytes(512), syntax),
        "rest": b"",
    }
    return b"".join((parts | changed).values())


def _even(text: str, padding: str = " ") -> bytes:
    return (text + padding * (len(text) % 2)).encode()


def read(data: bytes, syntax: str) -> SOPInstance:
    return SOPInstance.read(io.BytesIO(data), syntax, "1.2.3", "4.5.6")


def scanned(data: bytes, syntax: str, monkeypatch: pytest.MonkeyPatch) -> SOPInstance:
    """Read a Data Set as the first one of a thread."""
    with monkeypatch.context() as patch:
        patch.setattr(sop_instance, "_similar", sop_instance._SimilarHeaders())
        return read(data, syntax)


@pytest.fixture
def scans(monkeypatch):
    """Give the list of scans that were needed."""
    return _noted(monkeypatch, "scan")


def _noted(monkeypatch, name):
    """Note the arguments of each call of a function of ``data_set``."""
    calls: list[object] = []
    real = getattr(data_set, name)

    def noting(*args):
        calls.append(args)
        return real(*args)

    monkeypatch.setattr(data_set, name, noting)
    return calls


@pytest.mark.parametrize("syntax", [EXPLICIT, IMPLICIT])
def test_few_images_of_a_series_are_scanned(scans, syntax):
    found = [read(image(number, syntax), syntax) for number in range(100, 300)]
    assert len(scans) <= 4
    assert [each.sop_instance_uid for each in found] == [f"1.2.3.{number}" for number in range(100, 300)]
    assert [each.attributes["InstanceNumber"] for each in found] == [str(number) for number in range(100, 300)]
    assert {each.attributes["PatientName"] for each in found} == {"Döe^Jane"}
    assert not any("ModalitiesInStudy" in each.attributes for each in found)


@pytest.mark.parametrize("syntax", [EXPLICIT, IMPLICIT])
def test_a_header_with_empty_values_is_recognised_too(syntax, scans):
    unknown = element(PATIENT_ID, "LO", b"", syntax)
    found = [read(image(number, syntax, patient=unknown), syntax) for number in range(100, 120)]
    assert len(scans) <= 4
    assert not any(each.attributes.get("PatientID") for each in found)


CHANGES: list[dict[str, Any]] = [
    {},
    {"sop_instance": b""},
    {"sop_class": element(SOP_CLASS, "UI", b"1.3\0")},
    {"character_set": element(CHARACTER_SET, "CS", b"ISO_IR 192")},
    {"character_set": b""},
    {"character_set": b"", "sop_class": b"", "sop_instance": b""},
    {"name": element(NAME, "PN")},
    {"name": element(NAME, "LO", b"Roe")},
    {"name": element(NAME, "PN", b"R\xf6e^Jim" * 20)},
    {"name": element(NAME, "QQ", b"Roe ")},
    {"study": element(STUDY, "UI", b"1.999\0"), "series": element(SERIES, "UI", b"1.998\0")},
    {"instance_number": element(INSTANCE_NUMBER, "IS", b"7 ") * 2},
    {"instance_number": element(INSTANCE_NUMBER, "IS", b"7 ") + element(PATIENT_ID, "LO", b"0815")},
    {"comments": element(COMMENTS, "LT", b"x" * 20_000)},
    {"comments": element(COMMENTS, "LT", b"x ", length=60_000)},
    {"referenced": sequence(REFERENCED, element(0x00081155, "UI", b"1.8\0"))},
    {"referenced": sequence(REFERENCED, element(0x00081155, "QQ", b"1.8\0"))},
    {"referenced": sequence(REFERENCED, sequence(REFERENCED), element(0x00081155, "UI", b"1.8\0"))},
    {"referenced": element(REFERENCED, "SQ", delimiter(0xE000, 4) + b"1234", length=0xFFFFFFFF)},
    {"requests": element(REQUESTS, "SQ", delimiter(0xE000, 12) + element(0x00400009, "SH", b"ELSE"))},
    {"requests": element(REQUESTS, "SQ")},
    {"requests": sequence(REQUESTS, element(0x00400009, "SH", b"STEP"))},
    {"pixels": element(PIXEL_DATA, "OW", bytes(500))},
    {"pixels": element(PIXEL_DATA, "OB", bytes(512))},
    {"pixels": element(PIXEL_DATA, "OW", bytes(500), length=512)},
    {"pixels": element(PIXEL_DATA, "OB", delimiter(0xE000) + delimiter(0xE0DD), length=0xFFFFFFFF)},
    {"pixels": b""},
    {"rest": element(0xFFFCFFFC, "OB", bytes(8))},
    {"rest": b"\0" * 7},
    {"character_set": element(0x00020010, "UI", b"1.2\0"), "sop_class": element(SOP_CLASS, "UI", b"1.4\0")},
]


@pytest.mark.parametrize("seed", range(8))
def test_what_differs_in_any_way_is_read_as_by_a_scan(monkeypatch, seed):
    chance = random.Random(seed)
    for number in range(600):
        change = chance.choice(CHANGES) if chance.random() < 0.3 else {}
        syntax = chance.choice([EXPLICIT] * 20 + [IMPLICIT, BIG_ENDIAN, DEFLATED, "1.2.840.10008.1.2.4.70"])
        data = image(number, EXPLICIT if chance.random() < 0.9 else syntax, **change)
        assert read(data, syntax) == scanned(data, syntax, monkeypatch)


@pytest.mark.parametrize("sample", pydicom_samples(), ids=lambda sample: sample.name)
def test_changed_bytes_of_a_real_header_are_read_as_by_a_scan(monkeypatch, sample):
    chance, syntax = random.Random(sample.name), sample.transfer_syntax_uid
    header = min(len(sample.data_set), 4000)
    for _ in range(40):
        data = bytearray(sample.data_set[:200_000])
        for _ in range(chance.choice([0, 1, 1, 3])):
            data[chance.randrange(header)] = chance.choice(b"\x00\x01\x02 019AOUSQN\xff")
        assert read(bytes(data), syntax) == scanned(bytes(data), syntax, monkeypatch)


def test_headers_that_are_never_similar_are_compared_ever_more_rarely(monkeypatch):
    compared = _noted(monkeypatch, "parts_of")
    for number in range(400):
        odd = sequence(REFERENCED, element(0x00081155, "UI", _even(f"1.{number}", "\0")))
        read(image(number, referenced=odd), EXPLICIT)
    assert 5 < len(compared) < 30


def test_a_series_is_recognised_again_after_others_that_are_not(scans):
    for number in range(400):
        odd = sequence(REFERENCED, element(0x00081155, "UI", _even(f"1.{number}", "\0")))
        read(image(number, referenced=odd), EXPLICIT)
    before = len(scans)
    for number in range(400, 700):
        read(image(number), EXPLICIT)
    assert len(scans) - before < 100


def test_each_thread_has_its_own_series(scans):
    known = sop_instance._similar
    for number in range(10):
        read(image(number), EXPLICIT)
    before = len(scans)
    seen = []

    def other() -> None:
        seen.append(known._parts)
        read(image(11), EXPLICIT)

    thread = threading.Thread(target=other)
    thread.start()
    thread.join()
    assert seen == [None]
    assert len(scans) == before + 1
